"""Recordings from any format to any that can be written."""

from pathlib import Path

from helixwave.errors import InputError

from helixwave_domains.ecg.formats import writers
from helixwave_domains.ecg.recording import Recording


def convert(recording: Recording, path: Path | str) -> list[str]:
    """Write a recording in the format that the ending of `path` names; either all of it is there afterwards or nothing.

    Returns:
        what the format could not keep, for the user.

    Raises:
        InputError: no format has this ending, or it cannot hold the recording.
    """
    path = Path(path)
    known = writers()
    write = known.get(path.suffix.lower())
    if write is None:
        raise InputError(
            f"{path}: no format to write ends in {path.suffix or 'nothing'!r}. Known: {', '.join(sorted(known))}"
        )
    # the samples are read while they are written
    if path.with_suffix("").resolve() == recording.source.with_suffix("").resolve():
        raise InputError(f"{path}: this is the recording itself. Choose another name")
    return write(recording, path)
