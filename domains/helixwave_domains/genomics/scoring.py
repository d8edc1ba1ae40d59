"""Scores of variants: how much likelier a model finds one allele than the other, or how far apart it sees them.

    ll_sum     log p(alt) - log p(ref) of whole windows, for causal models: log p(letter | letters before), summed over
               all letters that are A, C, G or T but the first, which has nothing before it
    ll_mean    the same with the mean over those letters instead of their sum
    log_ratio  log p(alt) - log p(ref) of the changed letters, all of them masked at once, for models that read both
               ways; of substitutions only, as a letter that one allele alone has cannot be masked in both
    l2         Euclidean distance of the windows' mean embeddings
    cosine     1 - cosine of their angle

Logarithms are natural, probabilities those of the model over its whole vocabulary. Each strand is scored by itself, and
`both` is the mean of the two scores. An allele with the status `swapped` has the score of the file's own REF and ALT.

Sources: likelihoods of whole windows as in Nguyen et al., "Evo", 2024; of masked letters as in Benegas et al., "GPN",
2023, and Zhai et al., "PlantCaduceus", 2024.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.embedding import Embedder
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.likelihoods import HIDDEN, CausalLikelihood, hidden_log_p
from helixwave_domains.genomics.reading import Reading
from helixwave_domains.genomics.rows import allele_passages
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.variants import Status
from helixwave_domains.genomics.windows import AlleleWindows

SCORES = {"likelihood": ("ll_sum", "ll_mean"), "masked": ("log_ratio",), "distance": ("l2", "cosine")}
"""What can be asked for, and the numbers that it gives."""

NO_SUBSTITUTION = "no_substitution"
"""Status of an insertion or deletion where a masked score was asked for."""

_SIGNED = {"ll_sum", "ll_mean", "log_ratio"}
# letters of windows that are looked at together, and alleles, of which many may have no windows
_GROUP, _MOST_ALLELES = 2**20, 2**14


@dataclass(frozen=True)
class Scored:
    """Alleles in the order in which they came.

    Args:
        status: of each, that of its windows, or why a score is missing.
        scores: each kind of score `[B]`, NaN where it is missing.
    """

    status: list[str]
    scores: dict[str, NDArray[np.float64]]


def score(
    windows: Iterable[AlleleWindows],
    model: BothStrands,
    *,
    scores: str | Sequence[str] | None = None,
    layer: int | None = None,
    **reading: Any,
) -> Iterator[Scored]:
    """Scores of alleles, in batches.

        pairs = (allele_windows(allele, fasta, window=512, on_mismatch="skip") for allele in read_alleles(vcf))
        for batch in score(pairs, model):
            print(batch.status, batch.scores["ll_sum"])

    Args:
        windows: of each allele; asked for as they are needed.
        model: of DNA.
        scores: one or several of `SCORES`; None: `likelihood` for a causal language model, `masked` for one that reads
            both ways, `distance` for all others.
        layer: for `distance`; see `embed`.
        reading: `strand`, `batch_tokens`, `dtype` and `device`; see `embed`.

    Raises:
        InputError: an argument is out of range, a score is asked for that the model does not have, or a window is
            longer than what the checkpoint was made for.
    """
    return Scorer(Reading(model, **reading), scores=scores, layer=layer).batches(windows)


class Scorer:
    """What `score` does, with its arguments checked once."""

    def __init__(self, reading: Reading, *, scores: str | Sequence[str] | None = None, layer: int | None = None):
        self.reading = reading
        self.kinds = _checked_kinds(reading.model, scores)
        self.columns = [column for kind in self.kinds for column in SCORES[kind]]
        self._likelihood = CausalLikelihood(reading) if "likelihood" in self.kinds else None
        self._embedders = {
            reverse: Embedder(reading.of_strand("-" if reverse else "+"), layer=layer) for reverse in reading.strands
        }

    @property
    def options(self) -> dict[str, Any]:
        """All that decides on a score beside the windows and the checkpoint, as JSON can hold it."""
        layer = next(iter(self._embedders.values())).layer
        return {"scores": self.kinds, "layer": layer, **self.reading.options}

    def batches(self, windows: Iterable[AlleleWindows]) -> Iterator[Scored]:
        """The scores of alleles, as they are asked for."""
        return map(self._scored, _groups(windows))

    def _scored(self, group: list[AlleleWindows]) -> Scored:
        for windows in group:
            if windows.status.usable:
                self.reading.window(len(windows.ref))
        status = [_status(windows, self.kinds) for windows in group]
        scores = {column: np.full(len(group), np.nan) for column in self.columns}
        for kind in self.kinds:
            # where letters cannot be compared, embeddings still can
            chosen = [
                i
                for i, windows in enumerate(group)
                if windows.status.usable and (kind == "distance" or status[i] == windows.status)
            ]
            found = self._mean_of_strands(kind, [group[i] for i in chosen])
            signs = np.array([-1.0 if group[i].status is Status.SWAPPED else 1.0 for i in chosen])
            for column, values in zip(SCORES[kind], found.T, strict=True):
                scores[column][chosen] = values * signs if column in _SIGNED else values
        return Scored(status, scores)

    def _mean_of_strands(self, kind: str, group: list[AlleleWindows]) -> NDArray[np.float64]:
        """Scores of one kind `[B, n_column]`."""
        if not group:
            return np.empty((0, len(SCORES[kind])))
        of_strand = {"likelihood": self._likelihoods, "masked": self._masked, "distance": self._distances}[kind]
        return np.mean([of_strand(group, reverse) for reverse in self.reading.strands], axis=0)

    def _likelihoods(self, group: list[AlleleWindows], reverse: bool) -> NDArray[np.float64]:
        assert self._likelihood is not None
        # the alleles of a site, which have the same reference window, stand together
        sites: dict[str, dict[str, int]] = {}
        pairs = [(_turned(windows.ref, reverse), _turned(windows.alt, reverse)) for windows in group]
        for ref, alt in pairs:
            site = sites.setdefault(ref, {ref: 0})
            site.setdefault(alt, len(site))
        found = dict(zip(sites, self._likelihood.of_sites([list(site) for site in sites.values()]), strict=True))
        refs = np.stack([found[ref][0] for ref, _ in pairs])
        alts = np.stack([found[ref][sites[ref][alt]] for ref, alt in pairs])
        means = [sums / np.maximum(numbers, 1) for sums, numbers in (alts.T, refs.T)]
        return np.stack([alts[:, 0] - refs[:, 0], means[0] - means[1]], axis=-1)

    def _masked(self, group: list[AlleleWindows], reverse: bool) -> NDArray[np.float64]:
        ids = self.reading.model.tokenizer.ids
        hidden = [w.ref[: w.ref_focus[0]] + HIDDEN * len(_changed(w)[0]) + w.ref[w.ref_focus[1] :] for w in group]
        ratios = []
        for windows, log_p in zip(group, hidden_log_p(self.reading, hidden, reverse=reverse), strict=True):
            ref, alt = ([ids[letter] for letter in letters] for letters in _changed(windows))
            place = np.arange(len(ref))
            ratios.append((log_p[place, alt] - log_p[place, ref]).sum())
        return np.array(ratios)[:, None]

    def _distances(self, group: list[AlleleWindows], reverse: bool) -> NDArray[np.float64]:
        passages = (passage for windows in group for passage in allele_passages("window", windows))
        vectors = [batch.pooled["mean"] for batch in self._embedders[reverse].batches(passages)]
        pairs = np.concatenate(vectors).astype(np.float64).reshape(len(group), 2, -1)
        ref, alt = pairs[:, 0], pairs[:, 1]
        norms = np.linalg.norm(ref, axis=-1) * np.linalg.norm(alt, axis=-1)
        return np.stack([np.linalg.norm(alt - ref, axis=-1), 1 - (ref * alt).sum(-1) / norms], axis=-1)


def _groups(windows: Iterable[AlleleWindows]) -> Iterator[list[AlleleWindows]]:
    """Alleles that follow one another, as many as have about so many letters together."""
    group: list[AlleleWindows] = []
    size = 0
    for allele in windows:
        group.append(allele)
        size += len(allele.ref) + len(allele.alt)
        if size >= _GROUP or len(group) >= _MOST_ALLELES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _status(windows: AlleleWindows, kinds: Sequence[str]) -> str:
    """That of the windows, unless a score that compares letters cannot be had."""
    if not windows.status.usable or kinds == ["distance"]:
        return windows.status
    ref, alt = _changed(windows)
    if "N" in ref + alt:
        return Status.AMBIGUOUS_ALLELE
    return NO_SUBSTITUTION if "masked" in kinds and len(ref) != len(alt) else windows.status


def _changed(windows: AlleleWindows) -> tuple[str, str]:
    """The letters that are exchanged."""
    return windows.ref[slice(*windows.ref_focus)], windows.alt[slice(*windows.alt_focus)]


def _turned(letters: str, reverse: bool) -> str:
    return reverse_complement_string(letters) if reverse else letters


def _checked_kinds(model: BothStrands, scores: str | Sequence[str] | None) -> list[str]:
    is_language_model = isinstance(model, DNALanguageModel)
    causal = is_language_model and model.backbone.causal and not model.equivariant
    own = ("likelihood" if causal else "masked") if is_language_model else "distance"
    kinds = [own] if scores is None else [scores] if isinstance(scores, str) else list(dict.fromkeys(scores))
    for kind in kinds:
        if kind not in SCORES:
            raise InputError(f"score is {kind!r}. {nearest(kind, SCORES)}")
        if kind not in (own, "distance"):
            what = "a causal language model" if kind == "likelihood" else "a language model that reads both ways"
            raise InputError(f"score {kind} needs {what}. For this checkpoint choose {own}")
    if not kinds:
        raise InputError(f"score names nothing, expected one or several of {', '.join(SCORES)}")
    return kinds
