"""`python -m helixwave.training_speed`: a training step of small backbones beside those of other packages.

A step is a forward pass over random inputs `[B, T, 128]`, the mean square of the outputs as loss, a backward pass and
AdamW. Contenders take turns in one process and are compared by cpu time. The extra `bench` installs the others.
"""

import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from helixwave_kernels.bench.measure import lengths
from helixwave_kernels.bench.report import markdown
from torch import Tensor, nn

from helixwave import side_by_side
from helixwave.backbone import Backbone
from helixwave.registry import BlockConfig

B, D, N_LAYER = 2, 128, 4
FAMILIES = ("mamba", "mlstm")
# milliseconds: what takes longer is run once, the rest three times
SLOW = 20e3


class Row(NamedTuple):
    """A contender at a length; milliseconds of cpu time."""

    family: str
    length: int
    name: str
    step: float


def contenders(family: str) -> dict[str, Callable[[int], nn.Module]]:
    """By name, what makes a model `x [B, T, D] -> [B, T, D]` for a length; the other packages' as far as installed."""
    found: dict[str, Callable[[int], nn.Module]] = {}
    if family == "mamba":
        if find_spec("transformers"):
            found["transformers, slow path"] = lambda length: _TransformersMamba(parallel=False)
        if find_spec("transformers") and find_spec("mambapy"):
            found["transformers, mambapy"] = lambda length: _TransformersMamba(parallel=True)
        found["helixwave"] = lambda length: _Ours([{"name": "mamba"}], norm="rms")
    else:
        if find_spec("xlstm"):
            found["xlstm"] = _XLSTM
        found["helixwave"] = lambda length: _Ours([{"name": "mlstm"}], norm="layer")
    return found


def measure(family: str, at: Sequence[int]) -> list[Row]:
    """Every contender at every length that it can take."""
    rows = []
    for T in at:
        steps = {name: _step(make(T), torch.randn(B, T, D)) for name, make in contenders(family).items()}
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(3):
            for name, step in steps.items():
                if best[name] == float("inf") or best[name] < SLOW:
                    best[name] = min(best[name], _milliseconds(step))
        rows += [Row(family, T, name, value) for name, value in best.items()]
    return rows


def page(rows: Sequence[Row], command: str) -> str:
    """All rows as Markdown, with the machine."""
    lines = []
    for row in rows:
        others = [other for other in rows if (other.family, other.length) == (row.family, row.length)]
        ours = next(other.step for other in others if other.name == "helixwave")
        ratio = "" if row.name == "helixwave" else f"{row.step / ours:.3g}x"
        lines.append([row.family, str(row.length), row.name, f"{row.step:.0f}", ratio])
    table = markdown(["backbone", "T", "contender", "ms a step", "its time over ours"], lines)
    legend = (
        "transformers' slow path is a loop whose backward pass is quadratic in T: half an hour at 4096. The\n"
        "cell of the xlstm package holds matrices of T x T: 20 GB there.\n"
    )
    setting = f"{N_LAYER} layers, d_model {D}, batch {B}."
    return side_by_side.page("A training step, measured", __doc__, command, f"{table}\n{legend}", setting=setting)


class _Ours(nn.Module):
    def __init__(self, blocks: list[BlockConfig], norm: Any):
        super().__init__()
        self.backbone = Backbone(D, n_layer=N_LAYER, blocks=blocks, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)[0]


class _TransformersMamba(nn.Module):
    def __init__(self, *, parallel: bool):
        super().__init__()
        package: Any = import_module("transformers")
        settings = {"hidden_size": D, "num_hidden_layers": N_LAYER, "vocab_size": 8, "use_mambapy": parallel}
        self.model = package.MambaModel(package.MambaConfig(**settings))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(inputs_embeds=x, use_cache=False).last_hidden_state


class _XLSTM(nn.Module):
    def __init__(self, length: int):
        super().__init__()
        package: Any = import_module("xlstm")
        block = package.mLSTMBlockConfig(mlstm=package.mLSTMLayerConfig(num_heads=4))
        config = package.xLSTMBlockStackConfig(
            mlstm_block=block, context_length=length, num_blocks=N_LAYER, embedding_dim=D
        )
        self.stack = package.xLSTMBlockStack(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x)


def _step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def _milliseconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return 1e3 * (time.process_time() - start)


def _families(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in FAMILIES]:
        raise ArgumentTypeError(f"no family {', '.join(unknown)}, expected some of {', '.join(FAMILIES)}")
    return names


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    name = "helixwave.training_speed"
    parser = side_by_side.parser(name, __doc__)
    parser.add_argument("--lengths", type=lengths, default="1024,4096", help="T, default %(default)s")
    parser.add_argument("--families", type=_families, default=",".join(FAMILIES), help="default %(default)s")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = [row for family in arguments.families for row in measure(family, arguments.lengths)]
    report = f" --report {arguments.report}" if arguments.report else ""
    choice = "" if arguments.families == [*FAMILIES] else f" --families {','.join(arguments.families)}"
    text = page(rows, f"python -m {name} --lengths {','.join(map(str, arguments.lengths))}{choice}{report}")
    side_by_side.publish(text, arguments.report)


if __name__ == "__main__":
    main()
