"""A run of `helixwave embed` or `helixwave score`: a table that is begun, shared, resumed and finished."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from helixwave import __version__
from helixwave.errors import InputError
from helixwave.files import disk_errors

from helixwave_domains.genomics.checkpoints import fingerprint, sha256
from helixwave_domains.genomics.filling import Task, fill
from helixwave_domains.genomics.store import STATUS, Layout, Table, create, remove
from helixwave_domains.genomics.strands import BothStrands

# letters of a block, which is what a kill costs; fewer where all positions are kept in memory until it is written
_LETTERS, _LETTERS_OF_POSITIONS = 2**21, 2**18
_MOST_ROWS = 2**14


@dataclass(frozen=True)
class Shard:
    """A part of a table: the `number`-th of `count`, which have as many blocks each, give or take one."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From `i/n`.

        Raises:
            InputError: it is something else.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InputError(f"shard is {text!r}, expected I/N with I from 1 to N, such as 1/4")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def blocks(self, n_block: int) -> range:
        """Its blocks."""
        return range(n_block * (self.number - 1) // self.count, n_block * self.number // self.count)


@dataclass(frozen=True)
class Run:
    """How a table is made.

    Args:
        folder: of the table.
        checkpoint: a folder, or a name on the hub.
        shard: the part of the table that is filled.
        workers: processes.
        resume: go on with a table that is there.
        overwrite: replace it.
        rows_per_block: rows that are computed and written together; None: about two million letters.
    """

    folder: Path
    checkpoint: str
    shard: Shard
    workers: int
    resume: bool
    overwrite: bool
    rows_per_block: int | None

    def open(self, task: Task, model: BothStrands) -> Table:
        """The table to fill: a new one, or with `resume` or as one of several shards the one that is there.

        Raises:
            InputError: a table is there and was not asked for, or it was made from something else.
        """
        self._expect_consent()
        columns, positions = task.outline(model)
        rows, letters = task.size()
        budget = _LETTERS_OF_POSITIONS if positions else _LETTERS
        per_block = self.rows_per_block or min(_MOST_ROWS, max(1, budget * rows // max(letters, 1)))
        manifest = self._manifest(task, model, per_block)
        layout = Layout(rows, per_block, columns, positions, model.backbone.d_model)
        if self.overwrite and self.folder.exists():
            with disk_errors(self.folder):
                remove(self.folder)
        created = not self.folder.exists() and create(self.folder, layout, manifest)
        table = Table(self.folder)
        for key, (there, ours) in _differences(table.manifest, manifest).items():
            raise InputError(
                f"{self.folder}: was begun with {key} {there}, this run has {ours}. "
                f"Use the same, or another output or --overwrite"
            )
        if not created and not self.resume and any(map(table.is_marked, self.shard.blocks(table.n_block))):
            raise InputError(f"{self.folder}: shard {self.shard} has been begun already. Use --resume")
        return table

    def fill(self, task: Task, table: Table, model: BothStrands, progress: Callable[[int], None]) -> None:
        """Do what is left of the shard, and if nothing is missing then write the manifest.

        Args:
            progress: told how many rows are done, those of an earlier run included.

        Raises:
            InputError: see `fill`; a table that nothing was written to is gone.
        """
        mine = self.shard.blocks(table.n_block)
        left = []
        for block in mine:
            if table.is_done(block):
                progress(len(table.rows_of(block)))
            else:
                left.append(block)
        try:
            fill(task, table, left, model=model, checkpoint=self.checkpoint, workers=self.workers, progress=progress)
        except InputError:
            if self.shard.count == 1 and missing_rows(table) == table.rows:
                remove(table.folder)
            raise
        if missing_rows(table) == 0:
            table.finish(counts(table))

    def _expect_consent(self) -> None:
        """Refuse to touch what is there unless this was asked for."""
        if not self.folder.exists():
            return
        # whatever else is there stays
        Table(self.folder)
        if self.overwrite and self.shard.count > 1:
            raise InputError(f"{self.folder}: --overwrite would take what other shards have written. Delete it first")
        if not self.overwrite and not self.resume and self.shard.count == 1:
            raise InputError(f"{self.folder}: is there already. Choose another output, or --resume or --overwrite")

    def _manifest(self, task: Task, model: BothStrands, per_block: int) -> dict[str, Any]:
        packages = ("torch", "numpy", "zarr")
        return {
            "inputs": {
                name: {"path": str(path), "size": path.stat().st_size, "sha256": sha256(path)}
                for name, path in task.inputs.items()
            },
            "checkpoint": {"path": self.checkpoint, "sha256": fingerprint(self.checkpoint)},
            "options": task.options(model),
            "rows_per_block": per_block,
            "versions": {"helixwave": __version__, **{name: version(name) for name in packages}},
        }


def missing_rows(table: Table) -> int:
    """How many rows of a table nobody has written yet."""
    return sum(len(table.rows_of(block)) for block in range(table.n_block) if not table.is_marked(block))


def counts(table: Table) -> dict[str, Any]:
    """Of a table that is complete: rows by status, and letters that were read as unknown."""
    found: dict[str, Any] = {STATUS: dict(sorted(Counter(map(str, table.column(STATUS))).items()))}
    if "unknown" in table.columns:
        found["unknown_letters"] = sum(int(number) for number in table.column("unknown"))
    return found


def _differences(there: Any, ours: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs between two trees, by place; where files lie does not matter."""
    if not isinstance(there, Mapping) or not isinstance(ours, Mapping):
        return {} if there == ours else {key: (there, ours)}
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**there, **ours}:
        if name != "path":
            found |= _differences(there.get(name), ours.get(name), f"{key}.{name}".removeprefix("."))
    return found
