"""A folder of clips, sorted into folders by class: which clips there are, what they are, and which can be read."""

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from helixwave.errors import InputError

from helixwave_domains.video.clip import Clip
from helixwave_domains.video.finding import find_clips

_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test"})
_THREADS = 8


@dataclass(frozen=True)
class LabelledClip:
    """A clip in a folder of its class.

    Args:
        name: its path from the folder of all.
        path: of the file.
        label: its class.
        part: train, validation or test, where folders say it; None: they do not.
        seconds: how long it is.
    """

    name: str
    path: Path
    label: str
    part: str | None = None
    seconds: float = 0.0


def clips_in(folder: Path) -> tuple[list[LabelledClip], dict[str, str]]:
    """The clips of a folder by class, `CLASS/...`, or by part and class, `train/CLASS/...`.

    Returns:
        the clips, and files that are none with the reason.

    Raises:
        InputError: there is no such folder, or no clip in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Expected one with a folder of clips for each class")
    found = find_clips([folder])
    left_out = {str(path.relative_to(folder)): "it is no clip" for path in found.skipped}
    parts = [path.relative_to(folder).parts for path in found.paths]
    by_part = all(each[0].lower() in _PARTS for each in parts)
    clips = []
    for path, names in zip(found.paths, parts, strict=True):
        name = "/".join(names)
        if len(names) < 2 + by_part:
            left_out[name] = "it is in no folder of a class"
        else:
            clips.append(LabelledClip(name, path, names[by_part], names[0] if by_part else None))
    if not clips:
        raise InputError(
            f"{folder}: none of its {len(parts)} clips is in a folder of a class, such as {folder}/jump/a.mp4"
        )
    return clips, left_out


def groups_of(clips: Sequence[LabelledClip], table: Path | None) -> list[str]:
    """What each clip is a piece of, such as a recording or a person, from a CSV file; without one each is its own.

    Args:
        clips: all of them.
        table: with the columns `clip`, the path from the folder of all, and `group`.

    Raises:
        InputError: no such file or column, or a clip that is not in it.
    """
    if table is None:
        return [clip.name for clip in clips]
    if not table.is_file():
        raise InputError(f"{table}: no such file. Expected CSV with the columns clip and group")
    with table.open(encoding="utf-8", newline="") as f:
        rows = csv.DictReader(f)
        missing = sorted({"clip", "group"} - set(rows.fieldnames or []))
        if missing:
            raise InputError(f"{table}: it has no column {missing[0]}, expected clip and group")
        known = {row["clip"]: row["group"] for row in rows}
    absent = [clip.name for clip in clips if not known.get(clip.name)]
    if absent:
        raise InputError(f"{table}: it gives no group for {len(absent)} clips, such as {absent[0]}")
    return [known[clip.name] for clip in clips]


def readable(
    clips: Sequence[LabelledClip], open_clip: Callable[[Path], Clip], *, decode: bool
) -> tuple[list[LabelledClip], dict[str, str]]:
    """The clips that can be read, with their lengths, and for the others the reason.

    Args:
        clips: to look at, several at a time.
        open_clip: opens one.
        decode: every frame, which finds all damage that a decoder notices.
    """

    def look(clip: LabelledClip) -> LabelledClip | str:
        try:
            opened = open_clip(clip.path)
            seconds = opened.seconds
            for _ in opened.footage.decoded(0.0) if decode else ():
                pass
        except InputError as error:
            return str(error)
        return LabelledClip(clip.name, clip.path, clip.label, clip.part, seconds)

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        looked = list(pool.map(look, clips))
    used = [clip for clip in looked if isinstance(clip, LabelledClip)]
    reasons = {clip.name: said for clip, said in zip(clips, looked, strict=True) if isinstance(said, str)}
    return used, reasons
