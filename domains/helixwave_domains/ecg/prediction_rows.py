"""What is written of one recording: a row of the table, a JSON object, lines of a challenge, a timeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.file_rows import Row
from helixwave.files import write_table

from helixwave_domains.ecg.predictor import Prediction
from helixwave_domains.ecg.quality import LeadQuality
from helixwave_domains.ecg.score_files import ChallengeOutput, challenge_columns, write_challenge_csv

FACTS = ("file", "status", "reason", "format", "seconds", "rate", "leads", "labels")
NOTES = ("quality", "notes")


def columns(classes: list[str]) -> list[str]:
    """Of the table. A class that is called as a column is has a prefix."""
    return [*FACTS, *(class_column(name) for name in classes), *NOTES]


def class_column(name: str) -> str:
    return f"p_{name}" if name in (*FACTS, *NOTES) else name


def row_of(path: Path, prediction: Prediction, quality: Mapping[str, LeadQuality]) -> Row:
    """Of a prediction."""
    recording = prediction.recording
    facts = {
        "file": str(path),
        "status": "ok",
        "reason": "",
        "format": recording.format,
        "seconds": round(recording.seconds, 3),
        "rate": recording.rate,
    }
    flagged = {lead: list(found.flags) for lead, found in quality.items() if found.flags}
    notes = list(dict.fromkeys([*recording.notes, *prediction.notes]))
    probabilities = {name: round(value, 6) for name, value in prediction.probabilities.items()}
    cells = {
        **facts,
        "leads": " ".join(recording.leads),
        "labels": ";".join(prediction.present),
        **{class_column(name): value for name, value in probabilities.items()},
        "quality": "; ".join(f"{lead}: {', '.join(flags)}" for lead, flags in flagged.items()),
        "notes": "; ".join(notes),
    }
    details = {
        **facts,
        "leads": list(recording.leads),
        "units": list(recording.units),
        "labels": prediction.present,
        "probabilities": probabilities,
        "thresholds": dict(zip(prediction.classes, prediction.thresholds.tolist(), strict=True)),
        "quality": flagged,
        "notes": notes,
        "labels_in_file": None if recording.labels is None else list(recording.labels),
        "timeline": _timeline(prediction),
    }
    return Row(cells, details)


def write_timeline(prediction: Prediction, path: Path) -> None:
    """A line for each window or beat: when, what is called present, and the probabilities."""
    table = {"start": prediction.starts}
    if prediction.seconds is not None:
        table["end"] = prediction.starts + prediction.seconds
    classes = np.array(prediction.classes)[prediction.timeline.argmax(1)]
    columns = dict(zip(prediction.classes, prediction.timeline.T, strict=True))
    write_table(
        path, {**table, "likeliest": classes, **{class_column(name): column for name, column in columns.items()}}
    )


def write_challenge(prediction: Prediction, name: str, path: Path) -> None:
    """The file that the PhysioNet/CinC challenges ask for."""
    flags = np.array([label in prediction.present for label in prediction.classes])
    columns = tuple(challenge_columns(prediction.classes))
    write_challenge_csv(path, ChallengeOutput(name, columns, flags, prediction.values))


def _timeline(prediction: Prediction) -> list[dict[str, Any]]:
    rows = zip(prediction.starts.tolist(), prediction.timeline.tolist(), strict=True)
    if prediction.seconds is None:
        return [{"time": round(at, 4), "class": prediction.classes[int(np.argmax(p))]} for at, p in rows]
    return [
        {"start": round(at, 3), "end": round(at + prediction.seconds, 3), "probabilities": [round(x, 6) for x in p]}
        for at, p in rows
    ]
