"""The scored diagnoses of the PhysioNet/CinC Challenges, from folders of their records."""

import csv
from pathlib import Path
from typing import Literal

import numpy as np
from helixwave.cards import supplied_path
from helixwave.data.splits import given_parts, split_groups
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats import read_recording
from helixwave_domains.ecg.records import Labelled, RecordData, read_as
from helixwave_domains.ecg.snomed import class_names, classes_named


class CinC2021(RecordData):
    """Twelve-lead recordings with the 26 diagnoses that were scored in 2021, or the 24 of 2020.

    Diagnoses stand in the headers, `# Dx: 426783006,...`; equivalent ones are one class. Recordings without a scored
    diagnosis stay, with no label at all. Source: Reyna et al., "Will Two Do? Varying Dimensions in
    Electrocardiography: The PhysioNet/Computing in Cardiology Challenge 2021", 2021.

    Args:
        folder: with WFDB records, at any depth; null: in the data folder.
        year: of the challenge.
        split: a CSV table with the columns record and split (train, validation, test); null: split by `split_seed`.
        rate, leads, window, scale, mean, deviation, highpass, lowpass: see `Preprocessing`; leads also as a number,
            constants that are null are measured on the training part.
        stride: seconds between the crops that are evaluated; null: one after the other.
        aggregate: how the probabilities of a recording's crops become one.
        resample: recordings at another rate are resampled and not left out.
        missing_leads: leads that are not there are zeros, or the recording is left out.
        validation, test: shares of the recordings.
        split_seed: of the split, stratified by the rarest diagnosis.
    """

    def __init__(
        self,
        *,
        folder: str | None = None,
        year: Literal[2020, 2021] = 2021,
        split: str | None = None,
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
        records, left_out = _records(supplied_path(folder, argument="folder", card="cinc2021_sample"), year)
        labels = np.array([each.target for each in records])
        names = [each.name for each in records]
        if split is None:
            places = split_groups(names, labels, validation=validation, test=test, seed=split_seed)
        else:
            places = _parts_of_table(Path(split), names)
        parts = {name: [records[i] for i in chosen] for name, chosen in places.items()}
        facts = {"recordings without a scored diagnosis, kept": int((labels.sum(1) == 0).sum())}
        super().__init__(class_names(year), parts, reading, facts=facts, left_out=left_out)


def scored_labels(codes: tuple[str, ...], year: int) -> NDArray[np.float32]:
    """1 for each scored class that one of the codes means: `[n_class]`."""
    target = np.zeros(len(class_names(year)), dtype=np.float32)
    for code in codes:
        target[classes_named(code, year)] = 1
    return target


def _records(folder: Path, year: int) -> tuple[list[Labelled], dict[str, str]]:
    """The records of a folder with their labels, and those that cannot be used with the reason."""
    paths = sorted(folder.rglob("*.hea"))
    if not paths:
        raise InputError(f"{folder}: no WFDB record (.hea) is there. Pass data.folder=PATH")
    records, left_out = [], {}
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            recording = read_recording(path)
        except InputError as error:
            left_out[name] = str(error)
            continue
        if recording.labels is None:
            left_out[name] = "its header has no '# Dx:'"
            continue
        target = scored_labels(recording.labels, year)
        records.append(Labelled(name, lambda recording=recording: recording, target))  # type: ignore[misc]
    if not records:
        name, reason = next(iter(left_out.items()))
        raise InputError(f"{folder}: none of {len(paths)} records can be used. {name}: {reason}")
    return records, left_out


def _parts_of_table(path: Path, names: list[str]) -> dict[str, list[int]]:
    """Places of the records of each part.

    Raises:
        InputError: no such table or columns, a record without a row.
    """
    if not path.is_file():
        raise InputError(f"data: no table {path}. Pass data.split=PATH, a CSV with the columns record and split")
    with path.open(newline="", encoding="utf-8-sig") as f:
        rows = csv.DictReader(f)
        if not {"record", "split"} <= set(rows.fieldnames or []):
            raise InputError(f"{path}: the columns are {rows.fieldnames}, expected record and split")
        part = {row["record"].removesuffix(".hea"): row["split"] or "" for row in rows}
    absent = [name for name in names if name not in part]
    if absent:
        raise InputError(f"{path}: no row for the record {absent[0]} ({len(absent)} of {len(names)} have none)")
    return given_parts([part[name] for name in names], where=str(path))
