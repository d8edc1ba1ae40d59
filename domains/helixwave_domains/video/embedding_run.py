"""What `helixwave video embed` asks of every clip: vectors of its windows with their times."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from helixwave import __version__
from helixwave.errors import InputError
from helixwave.file_rows import Job, Row, weights_digest
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.video.clip import Clip, Opening
from helixwave_domains.video.clip_windows import Sliding
from helixwave_domains.video.frame_vectors import FrameVectors
from helixwave_domains.video.prediction_run import facts_of
from helixwave_domains.video.predictor import Predictor, chosen_device

COLUMNS = [
    *("file", "status", "reason", "format", "seconds", "rate", "frames", "width", "height"),
    *("windows", "vectors", "notes"),
]


@dataclass(frozen=True)
class Request:
    """What is asked of every clip.

    Args:
        checkpoint: of the model; None: `features` are wanted.
        features: name of a frame net, see `frame_net`.
        opening: how files are opened.
        sliding: where windows lie.
        folder: for the results: a table, and for each clip an archive of NumPy with `vectors` `[W, D]`, `start` and
            `stop` `[W]` in seconds.
        device: where to compute.

    Raises:
        InputError: both a checkpoint and features, or neither.
    """

    checkpoint: Path | None
    features: str | None
    opening: Opening
    sliding: Sliding
    folder: Path
    device: str = "cpu"
    table: ClassVar[str] = "embeddings"
    json: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.features is None):
            raise InputError("embed: pass either --checkpoint or --features, a net of single frames")
        if self.features is not None and self.sliding.window is not None:
            raise InputError("embed: --features reads single frames, --stride seconds apart. Leave out --window")

    def manifest(self) -> dict[str, Any]:
        """What has to be the same for a run that goes on."""
        weights = None if self.checkpoint is None else weights_digest(self.checkpoint)
        return {
            "helixwave": __version__,
            "checkpoint": {"path": str(self.checkpoint), "sha256": weights},
            "features": self.features,
            "opening": asdict(self.opening),
            "sliding": asdict(self.sliding),
        }

    def worker(self, threads: int | None) -> tuple[list[str], Callable[[Job], Row]]:
        """Columns of the table, and what embeds a file."""
        predictor = self._predictor()
        return COLUMNS, lambda job: self._embed(predictor, job)

    def _predictor(self) -> Predictor:
        if self.checkpoint is not None:
            return Predictor.load(self.checkpoint, self.device, sliding=self.sliding)
        model = FrameVectors(str(self.features), seconds=self.sliding.stride or 1.0).to(chosen_device(self.device))
        return Predictor(model, where=str(self.features))

    def _embed(self, predictor: Predictor, job: Job) -> Row:
        clip = self.opening.open(job.path)
        found: dict[str, Any] = embedded(predictor, clip)
        name = f"{job.name}.npz"
        with atomic_write(self.folder / name, "wb") as f:
            np.savez(f, **found)
        facts = {**facts_of(job.path, clip), "windows": len(found["vectors"]), "vectors": name}
        cells = {**facts, "notes": "; ".join(clip.facts.notes)}
        return Row(cells, cells)


def embedded(predictor: Predictor, clip: Clip) -> dict[str, NDArray[Any]]:
    """`vectors` `[W, D]` of a clip's windows, which `start` and `stop` at so many seconds `[W]`.

    Raises:
        InputError: the clip is damaged, or the model has no vectors.
    """
    vectors = np.concatenate(list(predictor.vectors(clip)))
    start, stop = predictor.spans(clip)
    return {"vectors": vectors, "start": start, "stop": stop}


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The table of a folder of embeddings."""
    with (folder / f"{Request.table}.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def archives_of(folder: Path) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """The number of each row with vectors, and its archive."""
    for number, row in enumerate(rows_of(folder)):
        if row["status"] == "ok":
            with np.load(folder / row["vectors"], allow_pickle=False) as archive:
                yield number, dict(archive)
