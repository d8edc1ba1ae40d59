"""`python -m helixwave_domains.genomics.speed`: published models of DNA beside their authors' Python, on a CPU.

A forward pass from token ids to logits, the same weights on both sides, without gradients, on one thread. Contenders
take turns in one process and are compared by cpu time: the best run of each, quick ones run several times in a turn.
Ours remembers what follows from weights alone, such as the transform of a filter, as it does in use.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from helixwave import side_by_side
from helixwave.checkpoint import build_model
from helixwave.side_by_side import best_in_turns
from helixwave_kernels.bench.report import markdown

from helixwave_domains.genomics.alphabet import VOCABULARY, A, T
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.published import plain

TURNS, LEAST = 3, 2000.0
"""Turns of each contender, and milliseconds that it runs in each, or once."""


class Case(NamedTuple):
    """A model at a length, and how many times quicker than the published Python it should be."""

    name: str
    backbone: dict[str, Any]
    published: Callable[[DNALanguageModel], plain.Logits]
    length: int
    batches: tuple[int, ...]
    wanted: float


class Row(NamedTuple):
    """Milliseconds of cpu time for a batch, and the largest difference between the logits of both."""

    case: Case
    batch: int
    published: float
    ours: float
    difference: float

    @property
    def ratio(self) -> float:
        return self.published / self.ours


def _hyena(d_model: int, n_layer: int, length: int) -> dict[str, Any]:
    blocks = [{"name": "hyena", "l_max": length + 2, "stateful": False}, {"name": "mlp"}]
    return {"d_model": d_model, "n_layer": 2 * n_layer, "blocks": blocks, "norm": "layer"}


CASES = (
    Case(
        "Caduceus-Ph, d_model 256, 4 layers",
        {"d_model": 256, "n_layer": 4, "blocks": [{"name": "bimamba"}]},
        plain.caduceus,
        1024,
        (1, 8),
        20,
    ),
    Case("hyenadna-tiny-1k, d_model 128, 2 layers", _hyena(128, 2, 1024), plain.hyenadna, 1024, (1, 8), 1.3),
    Case("hyenadna-small-32k, d_model 256, 4 layers", _hyena(256, 4, 32768), plain.hyenadna, 32768, (1,), 1.3),
)


def measure(case: Case) -> list[Row]:
    """Both contenders at every batch size."""
    torch.manual_seed(0)
    classes = [*VOCABULARY, *(f"[{i}]" for i in range(len(VOCABULARY), 16))]
    model = build_model({"model": {"name": "dna_language_model"}, "backbone": case.backbone, "classes": classes}).eval()
    assert isinstance(model, DNALanguageModel)
    contenders: dict[str, plain.Logits] = {"published": case.published(model), "ours": model.logits}
    rows = []
    for batch in case.batches:
        ids = torch.randint(A, T + 1, (batch, case.length))
        with torch.inference_mode():
            difference = (contenders["ours"](ids) - contenders["published"](ids)).abs().max().item()
            runs = {name: partial(logits, ids) for name, logits in contenders.items()}
            rows.append(Row(case, batch, **best_in_turns(runs, turns=TURNS, least=LEAST), difference=difference))
    return rows


def page(rows: Sequence[Row], command: str) -> str:
    """All rows as Markdown, with the machine."""
    lines = []
    for row in rows:
        met = "met" if row.ratio >= row.case.wanted else "**not met**"
        figures = [f"{row.published:.1f}", f"{row.ours:.1f}", f"{row.ratio:.3g}x", f"{row.case.wanted:g}x", met]
        lines.append([row.case.name, str(row.case.length), str(row.batch), *figures, f"{row.difference:.0e}"])
    header = ["model", "T", "B", "published ms", "ours ms", "times quicker", "wanted", "", "difference"]
    legend = (
        "`published` is the authors' Python without their kernels for GPUs: Mamba's reference scan, a loop over\n"
        "time, and Fourier transforms of twice the length. Its source is `published/plain.py`. `difference` is the\n"
        "largest between the logits of both.\n"
    )
    return side_by_side.page("Models of DNA, measured", __doc__, command, f"{markdown(header, lines)}\n{legend}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    name = "helixwave_domains.genomics.speed"
    report = side_by_side.parser(name, __doc__).parse_args(argv).report
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in measure(case)]
    side_by_side.publish(page(rows, f"python -m {name}" + (f" --report {report}" if report else "")), report)


if __name__ == "__main__":
    main()
