"""NumPy arrays: `.npy` of a signal, and `.npz` with what belongs to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, recording_of, unreadable
from helixwave_domains.ecg.formats.table_writer import write_archive
from helixwave_domains.ecg.recording import Annotation, Recording

# more channels than an ECG has: such an axis holds the samples
_MOST_LEADS = 64


class Array:
    """`.npy` with `[leads, samples]` or `[samples, leads]`, which `--leads` tells apart, or with one lead."""

    name = "NumPy"
    suffixes = (".npy",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it begins as `.npy` files do."""
        return head[:6] == b"\x93NUMPY"

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording; its samples are read from the file as they are needed."""
        with unreadable(path, self.name):
            signal = np.load(path, mmap_mode="r", allow_pickle=False)
        signal = _leads_first(path, signal, declared.leads)
        names: list[str | None] = [None] * len(signal)
        units = list(names)
        return recording_of(Channels(path, self.name, names, units, None, signal.shape[1], _Values(signal)), declared)


class Archive:
    """`.npz` with `signal`, and if they are known `rate`, `leads`, `units`, `labels` and annotations."""

    name = "NumPy archive"
    suffixes = (".npz",)
    written = (".npz",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is an archive of that name."""
        return path.suffix.lower() in self.suffixes and head[:2] in (b"PK", b"")

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording, held in memory."""
        with unreadable(path, self.name), np.load(path, allow_pickle=False) as archive:
            said = {key: archive[key] for key in archive.files}
        if "signal" not in said:
            raise InputError(f"{path}: it has {', '.join(said) or 'nothing'}, expected an array named signal")
        leads = said["leads"].astype(str).tolist() if "leads" in said else None
        signal = _leads_first(path, said["signal"], declared.leads or leads)
        with unreadable(path, self.name):
            channels = Channels(
                path=path,
                format=self.name,
                names=leads or [None] * len(signal),
                units=np.broadcast_to(said["units"].astype(str), len(signal)).tolist()
                if "units" in said
                else [None] * len(signal),
                rate=float(said["rate"]) if "rate" in said else None,
                n_sample=signal.shape[1],
                read=_Values(signal),
                said="units",
                annotations=_annotations(said),
                labels=tuple(said["labels"].astype(str).tolist()) if "labels" in said else None,
                facts={key: said[key].item() for key in ("age", "sex") if key in said},
            )
        return recording_of(channels, declared)

    def write(self, recording: Recording, path: Path) -> list[str]:
        """Write all that is known of it."""
        return write_archive(recording, path)


class _Values:
    """Numbers of any kind as float64."""

    def __init__(self, signal: NDArray[Any]):
        self.signal = signal

    def __call__(self, start: int, stop: int) -> NDArray[np.float64]:
        return np.asarray(self.signal[:, start:stop], np.float64)


def _annotations(said: dict[str, NDArray[Any]]) -> tuple[Annotation, ...]:
    keys = ("annotation_sample", "annotation_symbol", "annotation_text")
    if not all(key in said for key in keys):
        return ()
    return tuple(Annotation(int(a), str(b), str(c)) for a, b, c in zip(*(said[key] for key in keys), strict=True))


def _leads_first(path: Path, signal: NDArray[Any], leads: Sequence[str] | None) -> NDArray[Any]:
    """`[leads, samples]`, whichever way the file has it."""
    if signal.dtype.kind not in "iuf":
        raise InputError(f"{path}: the signal is of type {signal.dtype}, expected numbers")
    if signal.ndim == 1:
        signal = signal[None]
    if signal.ndim != 2 or not signal.size:
        raise InputError(f"{path}: the signal has shape {list(signal.shape)}, expected [leads, samples]")
    if leads is None:
        if min(signal.shape) > _MOST_LEADS:
            raise InputError(f"{path}: the signal has shape {list(signal.shape)}, expected [leads, samples]")
        return signal if signal.shape[0] <= signal.shape[1] else signal.T
    if len(leads) not in signal.shape:
        raise InputError(f"{path}: the signal has shape {list(signal.shape)}, none of which are the {len(leads)} leads")
    return signal if signal.shape[0] == len(leads) else signal.T
