"""Recordings as tables and arrays: CSV, TSV, Parquet (pandas) and `.npz`."""

from pathlib import Path
from typing import Any

import numpy as np
from helixwave.files import atomic_write

from helixwave_domains.ecg.formats.channels import package
from helixwave_domains.ecg.formats.digits import BLOCK, blocks_of, not_kept
from helixwave_domains.ecg.recording import Recording


def write_text(recording: Recording, path: Path) -> list[str]:
    """A column of seconds and one of millivolts for each lead, missing values as `nan`; with tabs in a `.tsv`."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with atomic_write(path) as file:
        file.write(separator.join(_heads(recording)) + "\n")
        for place, signal in enumerate(blocks_of(recording)):
            times = (place * BLOCK + np.arange(signal.shape[1])) / recording.rate
            rows = np.concatenate([times[:, None], signal.T], axis=1)
            np.savetxt(file, rows, ["%.9f", *["%.6f"] * len(signal)], separator)
    return not_kept(recording, frozenset())


def write_parquet(recording: Recording, path: Path) -> list[str]:
    """The columns of the CSV file."""
    pandas = package("pandas")
    times = np.arange(recording.n_sample) / recording.rate
    heads = _heads(recording)
    frame = pandas.DataFrame({heads[0]: times, **dict(zip(heads[1:], recording.signal, strict=True))})
    with atomic_write(path, "wb") as file:
        frame.to_parquet(file, index=False)
    return not_kept(recording, frozenset())


def write_archive(recording: Recording, path: Path) -> list[str]:
    """Everything that a recording has but notes and the names that its own file gave the leads."""
    arrays: dict[str, Any] = {
        "signal": recording.signal,
        "rate": recording.rate,
        "leads": np.array(recording.leads),
        "units": np.array("mV"),
        **{key: recording.facts[key] for key in ("age", "sex") if key in recording.facts},
    }
    if recording.labels is not None:
        arrays["labels"] = np.array(recording.labels)
    if recording.annotations:
        arrays["annotation_sample"] = np.array([mark.sample for mark in recording.annotations])
        arrays["annotation_symbol"] = np.array([mark.symbol for mark in recording.annotations])
        arrays["annotation_text"] = np.array([mark.text for mark in recording.annotations])
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return []


def _heads(recording: Recording) -> list[str]:
    return ["time (s)", *(f"{lead} (mV)" for lead in recording.leads)]
