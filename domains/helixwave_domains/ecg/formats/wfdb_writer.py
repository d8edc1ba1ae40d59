"""Recordings as WFDB records in format 16, with a gain and a baseline for each lead (not wfdb's own, which guesses)."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from helixwave.errors import InputError
from helixwave.files import atomic_write
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import package, unreadable
from helixwave_domains.ecg.formats.digits import Digits, digits_of
from helixwave_domains.ecg.recording import Annotation, Recording


def write_wfdb(recording: Recording, path: Path) -> list[str]:
    """Write `NAME.dat`, `NAME.atr` if there are annotations, and last `NAME.hea`."""
    if not re.fullmatch(r"[-\w]+", path.stem):
        raise InputError(f"{path}: a WFDB record's name has letters, digits, - and _ alone. Choose another name")
    digits = digits_of(recording)
    first = np.zeros(len(recording.leads), int)
    sums = np.zeros(len(recording.leads), int)
    with atomic_write(path.with_suffix(".dat"), "wb") as file:
        for place, block in enumerate(digits.blocks()):
            first = block[:, 0] if place == 0 else first
            sums += block.sum(axis=1, dtype=int)
            file.write(np.ascontiguousarray(block.T, "<i2").tobytes())
    if recording.annotations:
        _write_annotations(recording.annotations, recording.rate, path.with_suffix(".atr"))
    with atomic_write(path) as file:
        file.write("\n".join([*_header(digits, path.stem, first, sums), *_comments(recording), ""]))
    return digits.coarse


def _header(digits: Digits, name: str, first: NDArray[np.int_], sums: NDArray[np.int_]) -> Iterator[str]:
    recording = digits.recording
    yield f"{name} {len(recording.leads)} {recording.rate:.10g} {recording.n_sample}"
    rows = zip(recording.leads, digits.steps, digits.centres, first, sums, strict=True)
    for lead, step, centre, init, total in rows:
        # the sum's lowest 16 bits, signed
        check = (int(total) + 32768) % 65536 - 32768
        # microvolts, so that steps and baselines are whole numbers or quarters
        yield f"{name}.dat 16 {1 / step:.17g}({-centre / step:.0f})/uV 16 0 {init} {check} 0 {lead}"


def _comments(recording: Recording) -> Iterator[str]:
    said = {"Age": recording.facts.get("age"), "Sex": str(recording.facts.get("sex", "")).capitalize()}
    said["Dx"] = ",".join(recording.labels or ())
    yield from (f"# {key}: {value if isinstance(value, str) else f'{value:g}'}" for key, value in said.items() if value)


def _write_annotations(annotations: Sequence[Annotation], rate: float, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, unreadable(path, "WFDB annotations"):
        package("wfdb").wrann(
            path.stem,
            path.suffix[1:],
            np.array([mark.sample for mark in annotations]),
            [mark.symbol for mark in annotations],
            aux_note=[mark.text for mark in annotations],
            fs=rate,
            write_dir=folder,
        )
        with atomic_write(path, "wb") as file, (Path(folder) / path.name).open("rb") as made:
            shutil.copyfileobj(made, file)
