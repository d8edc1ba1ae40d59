"""Predicted frames beside true ones, and what they are worth the further they are; clips that a model takes wrongly."""

from collections.abc import Sequence

import numpy as np
from helixwave.data import Picture
from helixwave.style import in_style, plain
from matplotlib.figure import Figure
from torch import Tensor

# what the figure shows: clips, and frames of each, and the clips that move
_N_CLIP, _N_COLUMN = 3, 8
# pixels of the screen for one of a frame that moves
_MAGNIFIED = 3


@in_style
def frames_picture(predicted: np.ndarray, true: np.ndarray) -> Picture:
    """The first clips of `[M, T, C, H, W]`, values from 0 to 1, as a strip and as an animation."""
    predicted, true = (_shown(clips[:_N_CLIP]) for clips in (predicted, true))
    n_clip, T = true.shape[:2]
    columns = np.unique(np.geomspace(1, T, min(_N_COLUMN, T)).round().astype(int)) - 1
    figure = Figure(figsize=(1.0 * len(columns) + 0.8, 2.1 * n_clip + 0.2), layout="constrained")
    axes = figure.subplots(2 * n_clip, len(columns), squeeze=False)
    for row, clip in enumerate(np.stack([true, predicted], axis=1).reshape(2 * n_clip, *true.shape[1:])):
        for place, frame in enumerate(columns):
            axes[row, place].imshow(clip[frame], cmap="gray", vmin=0, vmax=255)
            axes[row, place].set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel("predicted" if row % 2 else "true")
    for place, frame in enumerate(columns):
        axes[0, place].set_title(f"frame {frame + 1}")
    caption = (
        f"{n_clip} clips of the test split: true frames above, what the model rolls out below, counted from the end of "
        "what it was given. Below the strip, the same moving."
    )
    return Picture("Predicted frames", caption, figure, frames=_side_by_side(true, predicted))


@in_style
def horizon_picture(scores: dict[str, Tensor]) -> Picture:
    """PSNR and SSIM `[T]` by the number of the predicted frame."""
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    number = np.arange(1, len(scores["psnr"]) + 1)
    for axes, (name, label) in zip(figure.subplots(1, 2), {"psnr": "PSNR (dB)", "ssim": "SSIM"}.items(), strict=True):
        axes.plot(number, scores[name])
        axes.set(xlabel="predicted frame", ylabel=label)
    table = {"frame": number, **{name: values.numpy() for name, values in scores.items()}}
    return Picture(
        "Error by horizon", "Means over the clips of the test split, for each predicted frame.", figure, table
    )


@in_style
def clips_picture(clips: Sequence[np.ndarray], said: Sequence[str], caption: str) -> Picture:
    """A strip of each clip `[T, C, H, W]`, values from 0 to 1, below a line about it."""
    figure = Figure(figsize=(1.0 * _N_COLUMN + 0.4, 1.25 * len(clips)), layout="constrained")
    # a title of a strip, unlike one of its first frame, may be as wide as it likes
    for strip, clip, line in zip(figure.subfigures(len(clips), squeeze=False)[:, 0], clips, said, strict=True):
        strip.suptitle(plain(line), x=0.01, horizontalalignment="left")
        frames = _shown(clip[None])[0]
        for place, axes in enumerate(strip.subplots(1, _N_COLUMN, squeeze=False)[0]):
            axes.set_axis_off()
            if place < len(frames):
                frame = frames[place * len(frames) // min(_N_COLUMN, len(frames))]
                axes.imshow(frame, cmap="gray", vmin=0, vmax=255)
    return Picture("Test clips", caption, figure)


def _shown(clips: np.ndarray) -> np.ndarray:
    """`[M, T, C, H, W]` as uint8 `[M, T, H, W]` or `[M, T, H, W, 3]`."""
    pixels = (np.nan_to_num(clips) * 255).round().clip(0, 255).astype(np.uint8)
    return np.moveaxis(pixels, 2, -1) if pixels.shape[2] == 3 else pixels.max(axis=2)


def _side_by_side(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Frames with a column for each clip: what is true above what is predicted."""
    rows = [
        np.concatenate(list(np.pad(clips, _edges(clips), constant_values=128)), axis=2) for clips in (true, predicted)
    ]
    frames = np.concatenate(rows, axis=1)
    return frames.repeat(_MAGNIFIED, axis=1).repeat(_MAGNIFIED, axis=2)


def _edges(clips: np.ndarray) -> list[tuple[int, int]]:
    """A grey pixel below and to the right."""
    return [(0, 0), (0, 0), (0, 1), (0, 1)] + [(0, 0)] * (clips.ndim - 4)
