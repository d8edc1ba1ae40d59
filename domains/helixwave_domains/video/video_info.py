"""What `helixwave video info` prints of a clip."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helixwave.console import console
from helixwave.file_info import show_each
from rich.markup import escape
from rich.table import Table

from helixwave_domains.video.clip import Clip, Opening
from helixwave_domains.video.finding import find_clips


def show_info(inputs: Iterable[Path | str], opening: Opening, *, decode: bool = False, as_json: bool = False) -> bool:
    """Print what files hold, as tables or as one line of JSON a file.

    Args:
        inputs: files, folders and patterns.
        opening: how files are opened.
        decode: every frame is decoded too, which finds damage that packets do not show.
        as_json: lines of JSON.

    Returns:
        whether all of them could be read; those that could not are printed with the reason.

    Raises:
        InputError: a file is not there, or a folder holds no clip.
    """
    found = find_clips(inputs)

    def read(path: Path) -> tuple[Clip, dict[str, Any]]:
        clip = opening.open(path)
        return clip, plain(clip, decode=decode)

    complete = show_each(
        found.paths, read, show=lambda known: _show(*known), plain=lambda known: known[1], as_json=as_json
    )
    for path in [] if as_json else found.skipped:
        console.print(escape(f"skipped, no clip: {path}"))
    return complete


def plain(clip: Clip, *, decode: bool = False) -> dict[str, Any]:
    """What is known of a clip, as JSON can hold it."""
    gaps = clip.stamps[1:] - clip.stamps[:-1]
    return {
        "file": str(clip.facts.path),
        "format": clip.facts.format,
        "stream": clip.facts.stream.index,
        "codec": clip.facts.stream.codec,
        "width": clip.size[0],
        "height": clip.size[1],
        "rotation": clip.rotation,
        "frames": clip.n_frame,
        "frames_declared": clip.facts.stream.n_frame,
        "frames_decoded": sum(1 for _ in clip.footage.decoded(0.0)) if decode else None,
        "seconds": round(clip.seconds, 6),
        "rate": round(clip.rate, 6),
        "variable_rate": clip.variable,
        "frame_seconds": [round(float(gaps.min()), 6), round(float(gaps.max()), 6)] if len(gaps) else [],
        "streams": [asdict(stream) for stream in clip.facts.streams],
        "notes": list(clip.facts.notes),
    }


def _show(clip: Clip, facts: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _lines(clip, facts):
        table.add_row(name, escape(value))
    console.print(table)
    console.print()


def _lines(clip: Clip, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "file", facts["file"]
    yield "format", f"{facts['format']}, {facts['codec']}"
    turned = f", turned by {clip.rotation} degrees" * bool(clip.rotation)
    yield "size", f"{facts['width']} x {facts['height']} pixels{turned}"
    yield "length", f"{facts['seconds']:g} s, {_counted(facts)}"
    rate = f"{facts['rate']:.5g} frames/s"
    if clip.variable:
        low, high = facts["frame_seconds"]
        rate += f" on average, variable: a frame is shown for {low:g} to {high:g} s"
    yield "rate", rate
    if len(clip.facts.streams) > 1:
        for stream in clip.facts.streams:
            yield "stream", str(stream)
    for note in clip.facts.notes:
        yield "note", note


def _counted(facts: dict[str, Any]) -> str:
    declared, decoded = facts["frames_declared"], facts["frames_decoded"]
    said = f", declared {declared}" * (declared not in (None, facts["frames"]))
    return f"{facts['frames']} frames{said}" + ("" if decoded is None else f", {decoded} decoded")
