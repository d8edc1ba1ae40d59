"""A row for each of many files, in one or several processes: none is left out, and a run that was stopped goes on."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from helixwave.checkpoint import find_checkpoint
from helixwave.console import console
from helixwave.errors import InputError
from helixwave.files import atomic_write, disk_errors

SOME_FAILED = 3
"""How a command ends if some of the files gave no result."""

# files that are handed to the processes at a time
_HANDED = 256


@dataclass(frozen=True)
class Row:
    """One file: what was found, or why nothing was.

    Args:
        cells: by column of the table, `file`, `status` and `reason` among them.
        details: the same and more, for JSON.
    """

    cells: Mapping[str, Any]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A file and what its results are called."""

    path: Path
    name: str


class Request(Protocol):
    """What is asked of every file. It is sent to other processes."""

    @property
    def folder(self) -> Path:
        """For the results."""

    @property
    def table(self) -> str:
        """The name of the table in the folder, without an ending."""

    @property
    def json(self) -> bool:
        """Whether there is a file of JSON lines beside the table."""

    def manifest(self) -> dict[str, Any]:
        """What has to be the same for a run that goes on."""

    def worker(self, threads: int | None) -> tuple[list[str], Callable[[Job], Row]]:
        """The table's columns, and what makes the row of a file; asked for once in each process.

        Args:
            threads: of torch in it; None: as many as it likes.
        """


def run(
    request: Request, paths: Sequence[Path], *, workers: int, resume: bool, overwrite: bool, what: str
) -> Counter[str]:
    """Make a row of every file; the table grows row by row.

    Args:
        paths: of the files.
        workers: processes; with one, this one does the work.
        resume: go on where an earlier run of the same request was stopped.
        overwrite: replace what is there.
        what: the files are, for the progress bar.

    Returns:
        how many rows have which status, those of the earlier run included.

    Raises:
        InputError: results are there already, or they are another request's.
    """
    # a checkpoint that cannot be read is no matter of the files
    worker = _Worker(request, 1 if workers > 1 else None)
    table = _Table(request, worker.columns)
    done = table.begin(resume=resume, overwrite=overwrite)
    jobs = [job for job in named(paths) if str(job.path) not in done]
    statuses = Counter(done.values())
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=len(jobs) + len(done), completed=len(done))
        with table.open(), closing(_rows(worker, request, jobs, workers)) as rows:
            for row in rows:
                table.add(row)
                statuses[str(row.cells["status"])] += 1
                progress.advance(task)
    return statuses


def named(paths: Sequence[Path]) -> list[Job]:
    """Files with names for their results, no two the same: the stem, with folders before it where two share it."""
    count = Counter(path.stem for path in paths)
    names: Counter[str] = Counter()
    jobs = []
    for path in paths:
        name = path.stem if count[path.stem] == 1 else "_".join([*path.parts[-3:-1], path.name]).replace("/", "")
        names[name] += 1
        jobs.append(Job(path, name if names[name] == 1 else f"{name}_{names[name]}"))
    return jobs


def failed_row(path: Path, reason: str) -> Row:
    """Of a file that gave no result."""
    facts = {"file": str(path), "status": "error", "reason": " ".join(reason.split())}
    return Row(facts, facts)


def table_line(row: Row, names: list[str]) -> str:
    """A row as a line of CSV."""
    text = io.StringIO()
    csv.DictWriter(text, names, restval="", lineterminator="\n").writerow(dict(row.cells))
    return text.getvalue()


def json_line(row: Row) -> str:
    """A row as a line of JSON."""
    return json.dumps(row.details, ensure_ascii=False) + "\n"


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 of a checkpoint's weights: two trainings of one model differ in nothing else."""
    with (find_checkpoint(checkpoint) / "model.safetensors").open("rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


class _Worker:
    """Makes row by row, in a process of its own or in this one."""

    def __init__(self, request: Request, threads: int | None):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.columns, self.make = request.worker(threads)

    def __call__(self, job: Job) -> Row:
        """The row of a file; whatever goes wrong with it stands there."""
        try:
            return self.make(job)
        except (InputError, OSError) as error:
            return failed_row(job.path, str(error))
        except Exception as error:
            # a million files hold what no reader was written for, and the next one may be fine
            return failed_row(job.path, f"{job.path}: {type(error).__name__}: {error}")


_worker: _Worker


def _start(request: Request) -> None:
    global _worker
    _worker = _Worker(request, 1)


def _work(job: Job) -> Row:
    return _worker(job)


def _rows(worker: _Worker, request: Request, jobs: Sequence[Job], workers: int) -> Generator[Row, None, None]:
    """Rows in the order of the files."""
    if workers == 1:
        yield from map(worker, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (request,)) as pool:
        for first in range(0, len(jobs), _HANDED):
            yield from pool.map(_work, jobs[first : first + _HANDED])


class _Table:
    """A CSV file and, if asked for, one of JSON lines, written row by row."""

    def __init__(self, request: Request, names: list[str]):
        self.request, self.names = request, names
        self.csv, self.json = (request.folder / f"{request.table}.{kind}" for kind in ("csv", "jsonl"))
        self.manifest = request.folder / "manifest.json"

    def begin(self, *, resume: bool, overwrite: bool) -> dict[str, str]:
        """Make the files, or find those of an earlier run; the status of each file that has a row."""
        if self.request.folder.is_file():
            raise InputError(
                f"{self.request.folder}: a file, expected a folder for the results. Choose another --output"
            )
        manifest = json.loads(json.dumps(self.request.manifest()))
        if self.csv.exists() and not overwrite:
            if not resume:
                raise InputError(f"{self.csv} is there already. Choose another --output, or --resume or --overwrite")
            if not self.manifest.exists() or json.loads(self.manifest.read_text(encoding="utf-8")) != manifest:
                raise InputError(
                    f"{self.csv} was begun with other options or another checkpoint. Use the same, or --overwrite"
                )
            return self._rows_there()
        with disk_errors(self.csv):
            self.request.folder.mkdir(parents=True, exist_ok=True)
            self.json.unlink(missing_ok=True)
        with atomic_write(self.csv) as f:
            csv.writer(f, lineterminator="\n").writerow(self.names)
        with atomic_write(self.manifest) as f:
            json.dump(manifest, f, indent=2)
        return {}

    def _rows_there(self) -> dict[str, str]:
        """Whole rows stay; what was cut off in the middle of a line, or has no row in the table, is taken away."""
        whole = self.csv.read_bytes().rpartition(b"\n")
        with atomic_write(self.csv, "wb") as f:
            f.write(whole[0] + whole[1])
        with self.csv.open(encoding="utf-8", newline="") as rows:
            done = {row["file"]: row["status"] for row in csv.DictReader(rows)}
        if self.request.json and self.json.exists():
            kept = [line for line in self._json_lines() if json.loads(line)["file"] in done]
            with atomic_write(self.json) as f:
                f.writelines(kept)
        return done

    def _json_lines(self) -> list[str]:
        lines = self.json.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Files that `add` writes to."""
        with disk_errors(self.csv), ExitStack() as files:
            self._json = files.enter_context(self.json.open("a", encoding="utf-8")) if self.request.json else None
            self._csv = files.enter_context(self.csv.open("a", encoding="utf-8", newline=""))
            yield

    def add(self, row: Row) -> None:
        """One more row. The table has it last, so that what stands there is complete."""
        if self._json is not None:
            self._json.write(json_line(row))
            self._json.flush()
        self._csv.write(table_line(row, self.names))
        self._csv.flush()
