"""`python -m helixwave_domains.genomics.scoring_speed`: SNVs scored together beside each of them by itself, on a CPU.

`each` takes one allele after the other through the model: a causal one reads the window with REF and the window with
ALT, one that reads both ways the window with the base masked. `together` is `score`: the alleles of a site have one
REF, several sites are in a batch, and what stands before the variant is read once by a causal model. The same weights
on both sides, one thread; contenders take turns in one process and are compared by cpu time, the best of three runs.

A site with a single allele has less to share: what stands before it, a quarter of the work; where both ways are read,
nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from helixwave import side_by_side
from helixwave.checkpoint import build_model
from helixwave.side_by_side import best_in_turns
from helixwave_kernels.bench.report import markdown

from helixwave_domains.genomics.alphabet import BASES, VOCABULARY
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.scoring import score
from helixwave_domains.genomics.variants import Status
from helixwave_domains.genomics.windows import AlleleWindows

WINDOW, SITES, TURNS = 1024, 4, 3
ALL, WANTED = 3, 1.8
"""SNVs that a site can have, and how many times quicker all of them should be."""


def _hyena(d_model: int, n_layer: int) -> dict[str, Any]:
    blocks = [{"name": "hyena", "l_max": WINDOW + 2, "stateful": False}, {"name": "mlp"}]
    return {"d_model": d_model, "n_layer": 2 * n_layer, "blocks": blocks, "norm": "layer"}


CASES: dict[str, dict[str, Any]] = {
    "hyenadna-tiny-1k, d_model 128, 2 layers": _hyena(128, 2),
    "hyenadna-tiny-1k-d256, 2 layers": _hyena(256, 2),
    "Mamba, d_model 256, 4 layers": {"d_model": 256, "n_layer": 4, "blocks": [{"name": "mamba"}]},
    "mLSTM, d_model 128, 2 layers": {"d_model": 128, "n_layer": 2, "blocks": [{"name": "mlstm"}]},
    "Caduceus-Ph, d_model 256, 4 layers": {"d_model": 256, "n_layer": 4, "blocks": [{"name": "bimamba"}]},
}


class Row(NamedTuple):
    """A model on alleles of which so many belong to one site; milliseconds of cpu time an allele."""

    model: str
    alleles: int
    each: float
    together: float
    difference: float

    @property
    def ratio(self) -> float:
        return self.each / self.together


def measure(name: str, backbone: dict[str, Any], alleles: int) -> Row:
    """Both contenders on random sites."""
    torch.manual_seed(0)
    config = {"model": {"name": "dna_language_model"}, "backbone": backbone, "classes": list(VOCABULARY)}
    model = build_model(config).eval()
    assert isinstance(model, DNALanguageModel)
    windows = _windows(alleles)
    contenders: dict[str, Callable[[], Any]] = {
        "each": lambda: [_alone(model, pair) for pair in windows],
        "together": lambda: _together(model, windows),
    }
    # the first run also makes what is remembered of the weights
    found = {contender: np.array(run()) for contender, run in contenders.items()}
    best = {name: took / len(windows) for name, took in best_in_turns(contenders, turns=TURNS).items()}
    return Row(name, alleles, **best, difference=float(np.abs(found["each"] - found["together"]).max()))


def page(rows: Sequence[Row], command: str) -> str:
    """All rows as Markdown, with the machine."""
    lines = []
    for row in rows:
        met = "" if row.alleles < ALL else "met" if row.ratio >= WANTED else "**not met**"
        figures = [f"{row.each:.1f}", f"{row.together:.1f}", f"{row.ratio:.3g}x", met, f"{row.difference:.0e}"]
        lines.append([row.model, str(row.alleles), *figures])
    header = ["model", "alleles of a site", "each ms", "together ms", "times quicker", f"{WANTED}x", "difference"]
    legend = "Milliseconds are for one allele; `difference` is the largest between the scores of both.\n"
    return side_by_side.page(
        "Scoring of SNVs, measured",
        __doc__,
        command,
        f"{markdown(header, lines)}\n{legend}",
        setting=f"Windows of {WINDOW} letters, {SITES} sites.",
    )


def _windows(alleles: int) -> list[AlleleWindows]:
    """Random sites, each with the first so many of its three SNVs."""
    random, center = np.random.default_rng(0), WINDOW // 2
    windows = []
    for _ in range(SITES):
        ref = "".join(random.choice(list(BASES), WINDOW))
        for alt in [base for base in BASES if base != ref[center]][:alleles]:
            changed, focus = ref[:center] + alt + ref[center + 1 :], (center, center + 1)
            windows.append(AlleleWindows(Status.OK, "chr1", 0, ref, changed, focus, focus))
    return windows


def _together(model: DNALanguageModel, windows: list[AlleleWindows]) -> list[float]:
    return [value for batch in score(windows, model) for value in next(iter(batch.scores.values()))]


@torch.inference_mode()
def _alone(model: DNALanguageModel, windows: AlleleWindows) -> float:
    ref, alt = (torch.from_numpy(model.tokenizer.encode(letters))[None] for letters in (windows.ref, windows.alt))
    if model.backbone.causal:
        scores = []
        for ids in (ref, alt):
            log_p = model.logits(ids)[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])
            scores.append(log_p.double().sum().item())
        return scores[1] - scores[0]
    place = windows.ref_focus[0]
    masked = ref.clone()
    masked[0, place] = model.tokenizer.mask
    log_p = model.logits(masked)[0, place].log_softmax(-1).double()
    return (log_p[alt[0, place]] - log_p[ref[0, place]]).item()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    name = "helixwave_domains.genomics.scoring_speed"
    report = side_by_side.parser(name, __doc__).parse_args(argv).report
    torch.set_num_threads(1)
    rows = [measure(model, backbone, alleles) for model, backbone in CASES.items() for alleles in (ALL, 1)]
    side_by_side.publish(page(rows, f"python -m {name}" + (f" --report {report}" if report else "")), report)


if __name__ == "__main__":
    main()
