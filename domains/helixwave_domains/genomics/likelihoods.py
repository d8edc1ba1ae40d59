"""How likely a language model of DNA finds letters: whole sequences from left to right, or hidden ones from around."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch
from helixwave.blocks.hyena import Hyena, keeping_inputs
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.reading import Reading

# the longest windows of which a Hyena without states is made to keep its inputs: at 256 channels 32 MB each
_KEPT = 2**15

HIDDEN = "?"
"""Stands for a masked letter."""


class CausalLikelihood:
    """`log p(sequence)` of a causal model: the sum of `log p(letter | letters before it)`.

    The first letter, which has nothing before it, and all that are not A, C, G or T are read but not scored.

    Args:
        reading: of a causal language model.
    """

    def __init__(self, reading: Reading):
        assert isinstance(reading.model, DNALanguageModel)
        self.reading, self.model = reading, reading.model
        self.longest = _longest_shared(self.model)

    def of_sites(self, sites: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """For each site the log-likelihood of its sequences and how many letters it is of, `[n, 2]`.

        Args:
            sites: sequences of one length, such as a reference and its variants; what they begin with alike is read
                once if the model can go on from there.
        """
        found: dict[int, NDArray[np.float64]] = {}
        for batch in self._batches(sites):
            scores = self._score([sites[number] for number in batch])
            ends = np.cumsum([len(sites[number]) for number in batch])
            found |= zip(batch, np.split(scores, ends[:-1]), strict=True)
        return [found[number] for number in range(len(sites))]

    def _batches(self, sites: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """Numbers of sites of one length, in the order of what their sequences share."""

        def length(number: int) -> int:
            return len(sites[number][0])

        order = sorted(range(len(sites)), key=lambda number: (length(number), _shared(sites[number])))
        for letters, alike in groupby(order, key=length):
            batch: list[int] = []
            for number in alike:
                rows = sum(len(sites[other]) for other in [*batch, number])
                if batch and rows * letters > self.reading.batch_tokens:
                    yield batch
                    batch = []
                batch.append(number)
            yield batch

    @torch.inference_mode()
    def _score(self, sites: list[Sequence[str]]) -> NDArray[np.float64]:
        ids = encoded(self.reading, [sequence for site in sites for sequence in site])
        sizes = torch.tensor([len(site) for site in sites], device=ids.device)
        owner = torch.arange(len(sites), device=ids.device).repeat_interleave(sizes)
        shared = min(map(_shared, sites)) if ids.shape[1] <= self.longest else 0
        if shared == 0:
            with self.reading.autocast():
                logits = self.model.logits(ids)
            return self._summed(logits[:, :-1], ids[:, 1:]).cpu().numpy()
        with self.reading.autocast(), keeping_inputs(self.model.backbone, shared):
            begun = ids[sizes.cumsum(0) - sizes, :shared]
            before, state = self.model.extend(begun)
            state = tree_map(lambda part: part[owner] if isinstance(part, Tensor) else part, state)
            behind, _ = self.model.extend(ids[:, shared:], state)
        beginning = self._summed(before[:, :-1], begun[:, 1:])
        # the first letter that may differ is foretold by what all share
        logits = torch.cat([before[owner, -1:], behind[:, :-1]], dim=1)
        return (beginning[owner] + self._summed(logits, ids[:, shared:])).cpu().numpy()

    def _summed(self, logits: Tensor, letters: Tensor) -> Tensor:
        """Log-probabilities of letters `[B, T]` from `[B, T, n_class]`: their sum and number `[B, 2]` in float64."""
        log_p = logits.float().log_softmax(-1).gather(-1, letters[..., None])[..., 0].double()
        is_base = torch.isin(letters, torch.from_numpy(self.model.tokenizer.bases).to(letters.device))
        return torch.stack([(log_p * is_base).sum(-1), is_base.sum(-1).double()], dim=-1)


def _longest_shared(model: DNALanguageModel) -> float:
    """Up to how many letters a model can go on from what sequences begin with alike."""
    without = [block for block in model.backbone.blocks if not getattr(block, "stateful", True)]
    if not without:
        return math.inf
    return _KEPT if all(isinstance(block, Hyena) for block in without) else 0


@torch.inference_mode()
def hidden_log_p(reading: Reading, windows: Sequence[str], *, reverse: bool) -> list[NDArray[np.float64]]:
    """Log-probabilities of all tokens at the hidden letters of each window `[n_hidden, n_class]`.

    Args:
        reading: of a language model that reads both ways.
        windows: letters in upper case, with `?` for each of the hidden ones.
        reverse: read the other strand; the tokens are those of this one all the same.
    """
    model = reading.model
    assert isinstance(model, DNALanguageModel)
    found: dict[str, NDArray[np.float64]] = {}
    for batch in _of_one_length(dict.fromkeys(windows), reading.batch_tokens):
        ids = encoded(reading, batch)
        with reading.autocast():
            logits = model.logits(model.other_strand(ids) if reverse else ids)
        if reverse:
            logits = logits.flip(1)[..., model.base_complement]
        hidden = np.stack([_is_hidden(window) for window in batch])
        log_p = logits[torch.from_numpy(hidden).to(ids.device)].float().log_softmax(-1).double().cpu().numpy()
        found |= zip(batch, np.split(log_p, hidden.sum(1).cumsum()[:-1]), strict=True)
    return [found[window] for window in windows]


def encoded(reading: Reading, windows: Sequence[str]) -> Tensor:
    """Ids of windows of one length `[B, T]`, hidden letters as the mask."""
    tokenizer = reading.model.tokenizer
    rows = []
    for window in windows:
        ids = tokenizer.encode(window.replace(HIDDEN, "N"))
        ids[_is_hidden(window)] = tokenizer.mask
        rows.append(ids)
    return torch.from_numpy(np.stack(rows)).to(reading.device)


def _is_hidden(window: str) -> NDArray[np.bool_]:
    return np.frombuffer(window.encode(), dtype=np.uint8) == ord(HIDDEN)


def _shared(sequences: Sequence[str]) -> int:
    """How many letters sequences begin with alike, the last one not counted."""
    letters = np.stack([np.frombuffer(sequence.encode(), dtype=np.uint8) for sequence in sequences])[:, :-1]
    differs = (letters != letters[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else len(differs)


def _of_one_length(windows: Iterable[str], tokens: int) -> Iterator[list[str]]:
    for length, alike in groupby(sorted(windows, key=len), key=len):
        while batch := list(islice(alike, max(1, tokens // length))):
            yield batch
