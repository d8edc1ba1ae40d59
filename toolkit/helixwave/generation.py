"""New sequences from a model that reads step by step: the likeliest token each time, a drawn one, or several beams.

A prompt is read in one parallel pass, then each token costs one step, however many came before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from helixwave.errors import InputError


class Stepwise(Protocol):
    """What `generate` asks of a model. A state is a tree of tensors with the batch first."""

    training: bool

    def prefill(self, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Right-padded prompts `[B, T]`: logits of the next token `[B, n_class]`, and the state."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One more token of each sequence `[B]`: logits of the next one `[B, n_class]`, and the state."""

    def train(self, mode: bool = True) -> Any: ...


@dataclass(frozen=True)
class Sample:
    """Draw each token from the model's distribution.

    Args:
        temperature: logits are divided by it: below 1 the likely becomes likelier.
        top_k: only the k likeliest tokens.
        top_p: only the smallest set of likeliest tokens that has at least this probability (nucleus sampling, Holtzman
            et al., "The Curious Case of Neural Text Degeneration", 2020).
        seed: of the first sequence, the next has the next number; or one for each. What a sequence becomes follows from
            its prompt and seed, whatever else is in the batch.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        _require(self.temperature > 0, "temperature", self.temperature, "more than 0")
        _require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "at least 1 or None")
        _require(self.top_p is None or 0 < self.top_p <= 1, "top_p", self.top_p, "more than 0 to 1, or None")


@dataclass(frozen=True)
class Beams:
    """Look for several likely sequences: diverse beam search (Vijayakumar et al., 2016, algorithm 1).

    Groups of beams choose one after another; each avoids what the earlier ones have just chosen. One group is ordinary
    beam search.

    Args:
        n_beam: sequences that are followed, of all groups together.
        n_group: groups; they have the same size.
        diversity: taken from a token's log-probability for each earlier group's beam that has chosen it at this step.
    """

    n_beam: int = 4
    n_group: int = 1
    diversity: float = 0.5

    def __post_init__(self) -> None:
        _require(self.n_beam >= 1, "n_beam", self.n_beam, "at least 1")
        divides = self.n_group >= 1 and self.n_beam % self.n_group == 0
        _require(divides, "n_group", self.n_group, f"a divisor of the {self.n_beam} beams")
        _require(self.diversity >= 0, "diversity", self.diversity, "at least 0")


@dataclass(frozen=True)
class Generated:
    """New tokens; from beams with one axis more, `[B, n_beam, ...]`, the likeliest first.

    Args:
        ids: `[B, n_new]`, without the prompt; filled up with the end token.
        lengths: tokens until the end token, that one included `[B]`.
        scores: logarithm of their probability under the model `[B]`; for a beam that has found no sequence -inf.
    """

    ids: Tensor
    lengths: Tensor
    scores: Tensor


@torch.no_grad()
def generate(
    model: Stepwise,
    prompt: Tensor,
    lengths: Tensor | None = None,
    *,
    n_new: int,
    method: Sample | Beams | None = None,
    end: int | None = None,
) -> Generated:
    """What follows each prompt; every sequence becomes what it would alone.

    Args:
        prompt: token ids, right-padded `[B, T]`.
        lengths: tokens of each prompt `[B]`; None: all are valid.
        n_new: tokens to add at most.
        method: how tokens are chosen; None: the likeliest each time.
        end: the id of a token that ends a sequence; None: all get `n_new` tokens.

    Raises:
        InputError: an empty prompt, or a model that cannot go step by step.
    """
    _require(n_new >= 1, "n_new", n_new, "at least 1")
    _require(
        prompt.ndim == 2 and prompt.shape[1] >= 1, "the prompt's shape", list(prompt.shape), "[B, T], T at least 1"
    )
    if lengths is not None:
        _require(bool((lengths >= 1).all()), "lengths", lengths.tolist(), "at least one token in each prompt")
    with _evaluation(model):
        logits, state = model.prefill(prompt, lengths)
        _require(end is None or 0 <= end < logits.shape[-1], "end", end, f"a token's id, 0 to {logits.shape[-1] - 1}")
        if isinstance(method, Beams):
            return _search(model, logits, state, method, n_new, end)
        choose = _likeliest if method is None else _Drawing(method, len(prompt))
        return _follow(model, logits, state, choose, n_new, end)


def restricted(logits: Tensor, *, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits `[B, n_class]` with -inf for all but the `top_k` likeliest and, of these, the nucleus of `top_p`."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered = ordered.masked_fill(torch.arange(logits.shape[-1], device=logits.device) >= top_k, -torch.inf)
    if top_p is not None:
        probability = ordered.double().softmax(-1)
        # a token belongs to the nucleus if those before it have not reached the sum
        ordered = ordered.masked_fill(probability.cumsum(-1) - probability >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(-1, order, ordered)


def _follow(
    model: Stepwise,
    logits: Tensor,
    state: Any,
    choose: Callable[[Tensor], Tensor],
    n_new: int,
    end: int | None,
) -> Generated:
    """One sequence for each prompt."""
    ids = torch.full((len(logits), n_new), -1 if end is None else end, device=logits.device)
    lengths, scores = torch.zeros_like(ids[:, 0]), torch.zeros_like(logits[:, 0], dtype=torch.float32)
    ended = torch.zeros_like(lengths, dtype=torch.bool)
    for i in range(n_new):
        token = choose(logits)
        ids[:, i] = torch.where(ended, ids[:, i], token)
        gained = logits.float().log_softmax(-1).gather(1, token[:, None])[:, 0]
        scores += gained.masked_fill(ended, 0)
        lengths += ~ended
        if end is not None:
            ended |= token == end
        if i == n_new - 1 or ended.all():
            break
        logits, state = model.step(token, state)
    return Generated(ids, lengths, scores)


def _likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


class _Drawing:
    """Draws with a generator for each sequence."""

    def __init__(self, method: Sample, B: int):
        seeds = range(method.seed, method.seed + B) if isinstance(method.seed, int) else method.seed
        _require(len(seeds) == B, "the number of seeds", len(seeds), f"one for each of {B} prompts")
        self.method, self.generators = method, [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Tensor) -> Tensor:  # [B, n_class] -> [B]
        method, n_class = self.method, logits.shape[-1]
        allowed = restricted(logits.float() / method.temperature, top_k=method.top_k, top_p=method.top_p)
        uniform = [torch.rand(n_class, generator=generator, dtype=torch.float64) for generator in self.generators]
        # the largest of log-probabilities with Gumbel noise is a draw, and what has none is never drawn
        noise = -(-torch.stack(uniform).clamp(min=1e-300).log()).log()
        return (allowed + noise.to(logits.device)).argmax(-1)


def _search(model: Stepwise, logits: Tensor, state: Any, method: Beams, n_new: int, end: int | None) -> Generated:
    """Several sequences for each prompt."""
    B, n_beam, device = len(logits), method.n_beam, logits.device
    rows = torch.arange(B, device=device)[:, None] * n_beam
    beams = _BeamsSoFar(B, method, n_new, end, device)
    # all beams begin as the same prompt
    copies = torch.arange(B, device=device).repeat_interleave(n_beam)
    logits, state = logits[copies], _picked(state, copies)
    for i in range(n_new):
        parent, token = beams.grow(i, logits.float().log_softmax(-1).unflatten(0, (B, n_beam)))
        if i == n_new - 1 or beams.ended.all():
            break
        logits, state = model.step(token.flatten(), _picked(state, (rows + parent).flatten()))
    return beams.best_first()


class _BeamsSoFar:
    """The beams of each prompt, group after group, `[B, n_beam]`.

    `found` is what the search compares, the penalties included; `scores` are log-probabilities. A beam that has ended
    goes on with the end token at no cost, so that it competes with those that have not.
    """

    def __init__(self, B: int, method: Beams, n_new: int, end: int | None, device: torch.device):
        self.method, self.end = method, end
        self.ids = torch.full((B, method.n_beam, n_new), -1 if end is None else end, device=device)
        self.lengths = torch.zeros_like(self.ids[..., 0])
        self.ended = torch.zeros_like(self.lengths, dtype=torch.bool)
        # of equal beams the first alone counts
        self.found = torch.full((B, method.n_beam), -torch.inf, device=device)
        self.found[:, :: method.n_beam // method.n_group] = 0
        self.scores = self.found.clone()

    def grow(self, i: int, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """Add token `i`, given `[B, n_beam, n_class]`: the beam that each new one goes on from, and its token."""
        if self.end is not None:
            log_p = log_p.masked_fill(self.ended[..., None], -torch.inf)
            log_p[..., self.end].masked_fill_(self.ended, 0)
        parent, token, found = self._chosen(log_p)
        was_ended = self.ended.gather(1, parent)
        self.found = found
        self.scores = self.scores.gather(1, parent) + log_p.flatten(1).gather(1, parent * log_p.shape[-1] + token)
        self.ids = self.ids.gather(1, parent[..., None].expand_as(self.ids))
        self.ids[..., i] = token
        self.lengths = self.lengths.gather(1, parent) + ~was_ended
        self.ended = was_ended if self.end is None else was_ended | (token == self.end)
        return parent, token

    def best_first(self) -> Generated:
        scores, order = self.scores.sort(dim=1, descending=True, stable=True)
        ids = self.ids.gather(1, order[..., None].expand_as(self.ids))
        return Generated(ids, self.lengths.gather(1, order), scores)

    def _chosen(self, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations of each group, where earlier groups' choices cost."""
        size, n_class = self.method.n_beam // self.method.n_group, log_p.shape[-1]
        taken = torch.zeros_like(log_p[:, 0])  # how often each token was chosen at this step
        chosen: list[tuple[Tensor, Tensor, Tensor]] = []
        for first in range(0, self.method.n_beam, size):
            own = slice(first, first + size)
            penalty = (self.method.diversity * taken)[:, None].masked_fill(self.ended[:, own, None], 0)
            candidates = self.found[:, own, None] + log_p[:, own] - penalty
            found, index = candidates.flatten(1).topk(size)
            parent, token = first + index // n_class, index % n_class
            is_choice = ~self.ended.gather(1, parent) & (found > -torch.inf)
            taken.scatter_add_(1, token, is_choice.to(taken))
            chosen.append((parent, token, found))
        parents, tokens, founds = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
        return parents, tokens, founds


def _picked(state: Any, index: Tensor) -> Any:
    """The states of some sequences of the batch, in the order of `index`."""
    return tree_map(lambda part: part.index_select(0, index) if isinstance(part, Tensor) else part, state)


@contextmanager
def _evaluation(model: Stepwise) -> Iterator[None]:
    """Without dropout; afterwards the model is as it was."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


def _require(condition: bool, what: str, value: object, expected: str) -> None:
    if not condition:
        raise InputError(f"generate: {what} is {value!r}, expected {expected}")
