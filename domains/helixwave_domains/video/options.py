"""Options that the commands of videos share."""

from enum import StrEnum
from typing import Annotated, Any, cast

import typer

Backends = StrEnum("Backends", ["pyav", "torchcodec"])

Stream = Annotated[
    int | None, typer.Option(help="Index of the video stream, of files with several. Default: the first.")
]
Rate = Annotated[float | None, typer.Option(help="Frames a second, of folders of pictures and of arrays.")]
Decoder = Annotated[Backends, typer.Option("--backend", help="What decodes video files.")]
Damaged = Annotated[bool, typer.Option("--damaged", help="Read what can be decoded; without it damaged files fail.")]
Window = Annotated[float | None, typer.Option(help="Seconds read at once. Default: as trained.")]
Stride = Annotated[float | None, typer.Option(help="Seconds between windows. Default: side by side.")]


def opening(
    stream: Stream = None, rate: Rate = None, backend: Decoder = Backends.pyav, damaged: Damaged = False
) -> Any:
    """How files are opened."""
    from helixwave_domains.video.clip import Opening

    return Opening(stream, cast(Any, backend.value), rate, damaged)


def sliding(window: Window = None, stride: Stride = None) -> Any:
    """Where windows lie."""
    from helixwave_domains.video.clip_windows import Sliding

    return Sliding(window, stride)
