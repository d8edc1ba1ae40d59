"""The user's own recordings with a table of labels."""

from pathlib import Path
from typing import Literal

import numpy as np
from helixwave.data.splits import given_parts, split_groups
from helixwave.errors import InputError

from helixwave_domains.ecg.formats import Declared, read_recording
from helixwave_domains.ecg.label_tables import read_label_table
from helixwave_domains.ecg.records import Labelled, RecordData, read_as


class LabelledRecords(RecordData):
    """Recordings of any format that can be read, with one class or several labels each from a CSV or TSV table.

    The table's columns: `record` (or path, file) names the file; `label`, with `;` between several and `-` for none, or
    columns of 0 and 1; `patient`, whose recordings are then in one part; `split` (train, validation, test).

    Args:
        table: with a header line and a line for each recording.
        folder: where the recordings lie; null: the folder of the table.
        target: whether a recording has one `class` or several `labels`.
        labels: columns of 0 and 1, empty where it is not known; null: the column `label`.
        units, declared_rate, declared_leads: what the files do not say of themselves, see `Declared`.
        rate, leads, window, scale, mean, deviation, highpass, lowpass: see `Preprocessing`; leads also as a number,
            constants that are null are measured on the training part.
        stride: seconds between the crops that are evaluated; null: one after the other.
        aggregate: how the probabilities of a recording's crops become one.
        resample: recordings at another rate are resampled and not left out.
        missing_leads: leads that are not there are zeros, or the recording is left out.
        validation, test: shares of the patients, where the table has no column `split`.
        split_seed: of the split, stratified by the rarest label.
    """

    def __init__(
        self,
        *,
        table: str,
        folder: str | None = None,
        target: Literal["class", "labels"] = "class",
        labels: list[str] | None = None,
        units: str | None = None,
        declared_rate: float | None = None,
        declared_leads: list[str] | None = None,
        rate: float = 500.0,
        leads: list[str] | int = 12,
        window: float = 10.0,
        scale: Literal["window", "constants", "none"] = "window",
        mean: float | None = None,
        deviation: float | None = None,
        highpass: float | None = None,
        lowpass: float | None = None,
        stride: float | None = None,
        aggregate: Literal["mean", "max"] = "mean",
        resample: bool = False,
        missing_leads: Literal["error", "zero"] = "error",
        validation: float = 0.1,
        test: float = 0.2,
        split_seed: int = 0,
    ):
        reading = read_as(
            rate=rate,
            leads=leads,
            window=window,
            scale=scale,
            mean=mean,
            deviation=deviation,
            highpass=highpass,
            lowpass=lowpass,
            stride=stride,
            aggregate=aggregate,
            resample=resample,
            missing_leads=missing_leads,
        )
        found = read_label_table(Path(table), None if folder is None else Path(folder), target=target, labels=labels)
        declared = Declared(units, declared_rate, declared_leads)
        if len(found.classes) < (2 if target == "class" else 1):
            raise InputError(
                f"{table}: all recordings have the label {''.join(found.classes) or '-'}, nothing to learn"
            )
        if found.parts is None:
            places = split_groups(found.patients, found.targets, validation=validation, test=test, seed=split_seed)
        else:
            places = given_parts(found.parts, where=table)
        patients = {name: {found.patients[i] for i in chosen} for name, chosen in places.items()}
        shared = len(patients["test"] & (patients["train"] | patients["validation"]))
        parts = {
            name: [_labelled(found.names[i], found.paths[i], found.targets[i], declared) for i in chosen]
            for name, chosen in places.items()
        }
        super().__init__(found.classes, parts, reading, facts={"patients in training and test": shared})


def _labelled(name: str, path: Path, target: np.ndarray, declared: Declared) -> Labelled:
    return Labelled(name, lambda: read_recording(path, declared), target if np.ndim(target) else int(target))
