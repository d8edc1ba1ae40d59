"""What sequences are labelled with: one class, several labels, or numbers."""

from dataclasses import replace
from typing import Literal

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.genomics.labels import LabelledSequences

TargetKind = Literal["class", "labels", "numbers"]

_NONE, _UNKNOWN = "-", "?"


def with_targets(data: LabelledSequences, kind: TargetKind) -> LabelledSequences:
    """The same sequences, with what their label says as labels `[B]` of classes, or `[B, n]` in float32.

    Labels stand with `;` between them, `-` for none of them, and become 1 and 0. So do several numbers, `?` for one
    that is not known, which becomes NaN.

    Raises:
        InputError: a number that is none, or not as many numbers for each sequence.
    """
    if kind == "class":
        return data
    cells = [[cell.strip() for cell in data.classes[label].split(";")] for label in data.labels]
    if kind == "labels":
        names = sorted({cell for row in cells for cell in row} - {_NONE, ""})
        values = [[float(name in row) for name in names] for row in cells]
    else:
        names = ["value"] if len(cells[0]) == 1 else [f"value {i}" for i in range(1, len(cells[0]) + 1)]
        values = [_numbers(name, row, len(names)) for name, row in zip(data.names, cells, strict=True)]
    if not names:
        raise InputError(f"data: all {len(data)} sequences have the label '-', none at all")
    return replace(data, labels=np.array(values, dtype=np.float32), classes=names)


def describe_targets(data: LabelledSequences) -> str:
    """How often each class or label occurs, or the mean and the spread of each number."""
    if data.labels.ndim == 1:
        counts = np.bincount(data.labels, minlength=len(data.classes))
        return ", ".join(f"{count} {label}" for label, count in zip(data.classes, counts, strict=True))
    known = data.labels[~np.isnan(data.labels).any(1)]
    if np.isin(known, (0, 1)).all():
        return ", ".join(f"{count:.0f} {label}" for label, count in zip(data.classes, known.sum(0), strict=True))
    spread = zip(data.classes, known.mean(0), known.std(0), strict=True)
    return ", ".join(
        f"{name} {mean:.3g} with a standard deviation of {deviation:.3g}" for name, mean, deviation in spread
    )


def _numbers(name: str, cells: list[str], count: int) -> list[float]:
    if len(cells) != count:
        raise InputError(f"data: sequence {name!r} has {len(cells)} numbers, the first sequence has {count}")
    try:
        return [np.nan if cell == _UNKNOWN else float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"data: the label of {name!r} is {';'.join(cells)!r}, expected a number. {_ADVICE}") from error


_ADVICE = "For classes choose data.target=class"
