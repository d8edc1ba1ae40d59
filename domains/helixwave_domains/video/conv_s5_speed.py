"""`python -m helixwave_domains.video.conv_s5_speed`: a training step of ConvS5 beside ConvLSTM's, and long rollouts.

A step is teacher forcing over clips of 64x64 pixels, the mean squared error, a backward pass and AdamW. Both models
have as many layers of the same width between the same encoder and decoder; what the ConvLSTM's gates make of its inputs
is computed for all frames at once. Contenders take turns in one process, on one thread, and are compared by cpu time.
A rollout goes on from 10 frames; of the times of its frames the median is given.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from helixwave import side_by_side
from helixwave.side_by_side import best_in_turns
from helixwave_kernels.bench.report import markdown
from torch import Tensor, nn

from helixwave_domains.video.conv_lstm import ConvLSTM
from helixwave_domains.video.conv_s5 import ConvS5
from helixwave_domains.video.frame_predictor import FramePredictor

B, SIDE, N_LAYER = 2, 64, 3
LENGTHS = (20, 100)
TURNS, LEAST = 3, 2500.0
"""Turns of each contender, and milliseconds that it runs in each, one step after the other."""

N_ROLLED, N_TIMED = 1000, 100
"""Frames of a rollout, and of its beginning and its end that are timed."""


class Size(NamedTuple):
    """What both models have alike."""

    d_model: int
    patch: int


SIZES = (Size(64, 8), Size(32, 4))
"""The first is that of the recipe `video/moving_digits`."""


class Step(NamedTuple):
    """Milliseconds of cpu time of a training step."""

    size: Size
    T: int
    conv_s5: float
    conv_lstm: float


class Rollout(NamedTuple):
    """Median milliseconds of cpu time a frame at the beginning and at the end, and the bytes of the state there."""

    model: str
    first: float
    last: float
    first_bytes: int
    last_bytes: int


def measure_step(size: Size, T: int) -> Step:
    """A training step of both models."""
    torch.manual_seed(0)
    clips = torch.rand(B, T + 1, 1, SIDE, SIDE)
    contenders = {"conv_s5": conv_s5(size), "conv_lstm": conv_lstm(size)}
    best = best_in_turns(
        {name: training_step(model, clips) for name, model in contenders.items()}, turns=TURNS, least=LEAST
    )
    return Step(size, T, **best)


def conv_s5(size: Size) -> ConvS5:
    """With half as many states as channels, as in the recipe."""
    d_state = size.d_model // 2
    return ConvS5(
        classes=["ink"],
        d_model=size.d_model,
        n_layer=N_LAYER,
        patch=size.patch,
        d_state=d_state,
        n_block=d_state // 4,
        output="half_glu",
    )


def conv_lstm(size: Size) -> ConvLSTM:
    """Its peer."""
    return ConvLSTM(classes=["ink"], d_model=size.d_model, n_layer=N_LAYER, patch=size.patch)


def training_step(model: nn.Module, clips: Tensor) -> Callable[[], None]:
    """One step on `[B, T + 1, C, H, W]`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        (model(clips[:, :-1]) - clips[:, 1:]).square().mean().backward()
        optimizer.step()

    return step


def measure_rollout(model: FramePredictor) -> Rollout:
    """A long rollout of one clip."""
    spent, sizes = [], []
    with torch.inference_mode():
        predicted, state = model.eval().advance(torch.rand(1, 10, 1, SIDE, SIDE))
        for _ in range(N_ROLLED):
            began = time.process_time()
            predicted, state = model.advance(predicted[:, -1:], state)
            spent.append(1e3 * (time.process_time() - began))
            sizes.append(sum(each.numel() * each.element_size() for each in tensors(state)))
    first, last = median(spent[:N_TIMED]), median(spent[-N_TIMED:])
    return Rollout(type(model).__name__, first, last, sizes[0], sizes[-1])


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state."""
    return [state] if isinstance(state, Tensor) else [each for part in state for each in tensors(part)]


def tables(steps: Sequence[Step], rollouts: Sequence[Rollout]) -> str:
    """What was measured, as Markdown."""
    rows = [
        [
            str(s.size.d_model),
            str(s.size.patch),
            str(s.T),
            f"{s.conv_s5:.0f}",
            f"{s.conv_lstm:.0f}",
            f"{s.conv_lstm / s.conv_s5:.3g}x",
        ]
        for s in steps
    ]
    rolled = [[r.model, f"{r.first:.2f}", f"{r.last:.2f}", f"{r.first_bytes:,}", f"{r.last_bytes:,}"] for r in rollouts]
    ends = f"ms a frame, frames 1 to {N_TIMED}", f"ms a frame, the last {N_TIMED} of {N_ROLLED:,}"
    return "\n".join(
        [
            markdown(
                ["d_model", "patch", "frames", "ConvS5, ms a step", "ConvLSTM, ms a step", "its time over ours"], rows
            ),
            markdown(["rollout", *ends, "bytes of state at frame 2", "at the last"], rolled),
        ]
    )


def measured_tables() -> str:
    """All of it, measured now."""
    torch.set_num_threads(1)
    steps = [measure_step(size, T) for size in SIZES for T in LENGTHS]
    return tables(steps, [measure_rollout(make(SIZES[0])) for make in (conv_s5, conv_lstm)])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    name = "helixwave_domains.video.conv_s5_speed"
    report = side_by_side.parser(name, __doc__).parse_args(argv).report
    command = f"python -m {name}" + (f" --report {report}" if report else "")
    setting = f"{N_LAYER} layers, batch {B}."
    side_by_side.publish(
        side_by_side.page("ConvS5, measured", __doc__, command, measured_tables(), setting=setting), report
    )


if __name__ == "__main__":
    main()
