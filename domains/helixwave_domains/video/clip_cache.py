"""Clips whose frames are decoded and resized once: each is then a zarr group that any reader of zarr opens."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from helixwave.errors import InputError
from helixwave.files import disk_errors

from helixwave_domains.video.clip import Clip, Facts, Opening, Picture
from helixwave_domains.video.preprocessing import Frames, Preprocessing
from helixwave_domains.video.sampling import Times, frames_at

_FORMAT = 1
# frames in a chunk, which are decompressed together
_CHUNK = 16


class ClipCache:
    """A folder of clips in the size of a model.

    A clip is known by its path, the size and time of change of its file, and how it is opened and resized; one that
    changes is decoded anew. Several processes may use one folder.

    Args:
        folder: of the cache; it may be deleted at any time when nothing uses it.
        preprocessing: whose size and channels the frames have.
        opening: how files are opened.
    """

    def __init__(self, folder: Path, preprocessing: Preprocessing, opening: Opening):
        self.folder, self.preprocessing, self.opening = folder, preprocessing, opening

    def open(self, path: Path | str) -> Clip:
        """The clip in a file, decoded now unless it was before.

        Raises:
            InputError: it cannot be read, the disk is full, or zarr is not there.
        """
        path = Path(path)
        clip = self.opening.open(path)
        place = self.folder / f"{self._key(path)}.zarr"
        if not place.exists():
            with disk_errors(place):
                self._write(clip, place)
        small = replace(clip.facts.stream, width=self.preprocessing.size, height=self.preprocessing.size)
        return Clip(CachedFrames(place, replace(clip.facts, stream=small)))

    def _key(self, path: Path) -> str:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        sizes = self.preprocessing.size, self.preprocessing.channels
        said = [_FORMAT, str(path.resolve()), stats, asdict(self.opening), sizes]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    def _write(self, clip: Clip, place: Path) -> None:
        """As a whole or not at all; what another process has put there in the meantime stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=self.folder))
        try:
            self._fill(clip, hidden / "new")
            if not place.exists():
                os.replace(hidden / "new", place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def _fill(self, clip: Clip, folder: Path) -> None:
        size, channels = self.preprocessing.size, self.preprocessing.channels
        group = _zarr(folder).open_group(folder, mode="w", zarr_format=3, attributes={"source": str(clip.facts.path)})
        shape, chunks = (clip.n_frame, size, size, channels), (_CHUNK, size, size, channels)
        array = group.create_array("frames", shape=shape, chunks=chunks, dtype="uint8")
        stamps: list[float] = []
        frames = clip.frames()
        while batch := list(islice(frames, _CHUNK)):
            n = len(stamps) + len(batch)
            if n > array.shape[0]:
                array.resize((n, *shape[1:]))
            array[len(stamps) : n] = np.concatenate([self.preprocessing.resized(each[None]) for _, each in batch])
            stamps += [time for time, _ in batch]
        array.resize((len(stamps), *shape[1:]))
        group.create_array("stamps", data=np.array(stamps, dtype=np.float64))


class CachedFrames:
    """Frames of a clip in a cache.

    Args:
        path: of the zarr group.
        facts: of the clip.
    """

    def __init__(self, path: Path, facts: Facts):
        self.path, self.facts = path, facts

    def stamps(self) -> Times:
        """Times of the frames that could be decoded."""
        return np.asarray(self._group()["stamps"][:])

    def rotation(self) -> int:
        """None: they were turned before."""
        return 0

    def decoded(self, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
        """Frames from the one that is seen at `start` on.

        Raises:
            InputError: the cache is damaged.
        """
        group = self._group()
        stamps, chunks = np.asarray(group["stamps"][:]), _Chunks(group["frames"])
        for number in range(int(frames_at(stamps, np.array([start]))[0]), len(stamps)):
            yield float(stamps[number]), partial(chunks.picture, number)

    def _group(self) -> Any:
        try:
            return _zarr(self.path).open_group(self.path, mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path}: a damaged cache of frames ({error}). Delete it and run again") from error


class _Chunks:
    """Frames of an array, of which the chunk that was read last is kept."""

    def __init__(self, array: Any):
        self.array, self.first, self.frames = array, -1, np.empty(0, np.uint8)

    def picture(self, number: int) -> Picture:
        first = number // _CHUNK * _CHUNK
        if first != self.first:
            self.first, self.frames = first, np.asarray(self.array[first : first + _CHUNK])
        return _in_colour(self.frames)[number - first]


def _in_colour(frames: Frames) -> Frames:
    """`[T, H, W, 3]`, of grey frames too."""
    return frames if frames.shape[3] == 3 else np.broadcast_to(frames, (*frames.shape[:3], 3))


def _zarr(folder: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{folder}: needs zarr: pip install 'helixwave[video]'") from error
    return zarr
