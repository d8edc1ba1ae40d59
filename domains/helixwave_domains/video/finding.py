"""Clips in files, folders and patterns."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError

from helixwave_domains.video.frame_folder import pictures_in

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("3g2", "3gp", "asf", "avi", "flv", "gif", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts"),
        *("mxf", "ogv", "ts", "webm", "wmv", "y4m"),
    )
)
"""How files of videos end."""
_ARRAY_SUFFIXES = frozenset({".npy", ".npz", ".zarr"})


@dataclass(frozen=True)
class Found:
    """What `find_clips` found.

    Args:
        paths: of clips, each once and in order.
        skipped: files in folders that are none.
    """

    paths: list[Path]
    skipped: list[Path]


def find_clips(paths: Iterable[Path | str]) -> Found:
    """The clips in files, folders (with all folders below, hidden ones apart) and patterns such as `in/*.mp4`.

    A folder that holds pictures and no video is one clip. Files that are named count whatever they hold.

    Raises:
        InputError: a file is not there, a pattern fits none, or a folder has no clip.
    """
    found: list[Path] = []
    skipped: list[Path] = []
    for text in paths:
        named = [Path(text)] if Path(text).exists() else sorted(map(Path, glob.glob(str(text), recursive=True)))
        if not named:
            raise InputError(f"{text}: no such file or folder")
        for path in named:
            if path.is_dir() and path.suffix != ".zarr":
                inside, others = _inside(path)
                found += inside
                skipped += others
            else:
                found.append(path)
    return Found(list(dict.fromkeys(found)), skipped)


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    clips: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        clips += [here / name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES | _ARRAY_SUFFIXES]
        pictures = [] if videos else pictures_in(here)
        clips += videos or ([here] if pictures else [])
        others += sorted(set(files) - set(videos) - set(pictures))
    if not clips:
        raise InputError(f"{folder}: none of its {len(others)} files is a video, a picture or an array")
    return sorted(clips), others
