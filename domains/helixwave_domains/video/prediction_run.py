"""What `helixwave video predict` asks of every clip, and what it writes of it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from helixwave import __version__
from helixwave.file_rows import Job, Row, weights_digest
from helixwave.files import write_table

from helixwave_domains.video.clip import Clip, Opening
from helixwave_domains.video.clip_windows import Sliding
from helixwave_domains.video.predictor import Aggregate, Prediction, Predictor

FACTS = ("file", "status", "reason", "format", "seconds", "rate", "frames", "width", "height", "windows", "labels")
NOTES = "notes"


@dataclass(frozen=True)
class Request:
    """What is asked of every clip.

    Args:
        checkpoint: of the model.
        opening: how files are opened.
        sliding: where windows lie.
        aggregate: how the windows' probabilities become the clip's.
        folder: for the results.
        json: also a JSON object for each clip, with its windows.
        device: where to compute.
    """

    checkpoint: Path
    opening: Opening
    sliding: Sliding
    aggregate: Aggregate
    folder: Path
    json: bool = False
    device: str = "cpu"
    table: ClassVar[str] = "predictions"

    def manifest(self) -> dict[str, Any]:
        """What has to be the same for a run that goes on."""
        return {
            "helixwave": __version__,
            "checkpoint": {"path": str(self.checkpoint), "sha256": weights_digest(self.checkpoint)},
            "opening": asdict(self.opening),
            "sliding": asdict(self.sliding),
            "outputs": {"aggregate": self.aggregate, "json": self.json},
        }

    def worker(self, threads: int | None) -> tuple[list[str], Callable[[Job], Row]]:
        """Columns of the table, and what predicts a file."""
        predictor = Predictor.load(self.checkpoint, self.device, sliding=self.sliding, aggregate=self.aggregate)
        return [*FACTS, *map(class_column, predictor.classes), NOTES], lambda job: self._predict(predictor, job)

    def _predict(self, predictor: Predictor, job: Job) -> Row:
        prediction = predictor.predict(self.opening.open(job.path))
        if len(prediction.starts) > 1:
            write_timeline(prediction, self.folder / "timelines" / f"{job.name}.tsv")
        return row_of(job.path, prediction)


def class_column(name: str) -> str:
    """A class that is called as a column is has a prefix."""
    return f"p_{name}" if name in (*FACTS, NOTES) else name


def facts_of(path: Path, clip: Clip) -> dict[str, Any]:
    """What every row says of a clip that was read."""
    return {
        "file": str(path),
        "status": "ok",
        "reason": "",
        "format": clip.facts.format,
        "seconds": round(clip.seconds, 3),
        "rate": round(clip.rate, 3),
        "frames": clip.n_frame,
        "width": clip.size[0],
        "height": clip.size[1],
    }


def row_of(path: Path, prediction: Prediction) -> Row:
    """Of a prediction."""
    facts = {**facts_of(path, prediction.clip), "windows": len(prediction.starts)}
    probabilities = {name: round(value, 6) for name, value in prediction.probabilities.items()}
    notes = list(prediction.clip.facts.notes)
    cells = {
        **facts,
        "labels": ";".join(prediction.present),
        **{class_column(name): value for name, value in probabilities.items()},
        NOTES: "; ".join(notes),
    }
    details = {
        **facts,
        "labels": prediction.present,
        "probabilities": probabilities,
        "thresholds": dict(zip(prediction.classes, prediction.thresholds.tolist(), strict=True)),
        "notes": notes,
        "timeline": _timeline(prediction),
    }
    return Row(cells, details)


def write_timeline(prediction: Prediction, path: Path) -> None:
    """A line for each window: when, the likeliest class, and the probabilities."""
    classes = np.array(prediction.classes)[prediction.timeline.argmax(1)]
    columns: Mapping[str, Any] = dict(zip(prediction.classes, prediction.timeline.T, strict=True))
    named = {class_column(name): column for name, column in columns.items()}
    write_table(path, {"start": prediction.starts, "end": prediction.stops, "likeliest": classes, **named})


def _timeline(prediction: Prediction) -> list[dict[str, Any]]:
    rows = zip(prediction.starts.tolist(), prediction.stops.tolist(), prediction.timeline.tolist(), strict=True)
    return [
        {"start": round(start, 3), "end": round(stop, 3), "probabilities": [round(x, 6) for x in values]}
        for start, stop, values in rows
    ]
