"""New sequences: greedy, drawn and from beams, against plain readings of the same rules."""

import itertools
import math
from typing import Any

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.generation import Beams, Sample, generate, restricted
from helixwave.token_model import TokenModel
from torch import Tensor, nn

CLASSES = list("abcdefg")


class Chain(nn.Module):
    """Logits of the next token from a table `[8, n_class, n_class]` of the step and the last token.

    Each step has its own probabilities, so that no two sequences are equally likely. The state counts steps.
    """

    def __init__(self, table: Tensor):
        super().__init__()
        self.table = table.expand(8, *table.shape[-2:])

    def prefill(self, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        last = ids[:, -1] if lengths is None else ids.gather(1, lengths[:, None] - 1)[:, 0]
        return self.table[0][last], {"steps": (torch.ones_like(last), None)}

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        steps = state["steps"][0]
        return self.table[steps, ids], {"steps": (steps + 1, None)}


def chain(n_class: int = 4, seed: int = 0) -> Chain:
    return Chain(2 * torch.randn(8, n_class, n_class, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def model() -> TokenModel:
    torch.manual_seed(0)
    blocks = [{"name": "mamba", "d_state": 4}, {"name": "mlp"}, {"name": "hyena", "l_max": 8, "d_filter": 8}]
    model = TokenModel(backbone=Backbone(16, n_layer=3, blocks=blocks, dropout=0.5), classes=CLASSES, tie=False)
    nn.init.normal_(model.embedding.weight)
    nn.init.normal_(model.head.weight)
    return model.eval()


@pytest.fixture(scope="module")
def prompts() -> tuple[Tensor, Tensor]:
    """Of different lengths; what stands behind them is no padding in particular."""
    return torch.randint(7, (3, 9), generator=torch.Generator().manual_seed(1)), torch.tensor([9, 4, 1])


@torch.no_grad()
def log_probability(model: TokenModel, prompt: Tensor, ids: Tensor) -> float:
    """Of `ids` after `prompt`, by one forward pass over both."""
    log_p = model(torch.cat([prompt, ids])[None])[0].log_softmax(-1)
    return float(log_p[len(prompt) - 1 : -1].gather(1, ids[:, None]).sum())


def test_greedy_is_the_largest_logit_of_whole_forward_passes(model: TokenModel, prompts: tuple[Tensor, Tensor]) -> None:
    found = model.generate(*prompts, n_new=12)
    for row, prompt, length in zip(range(3), *prompts, strict=True):
        text = prompt[:length]
        for _ in range(12):
            with torch.no_grad():
                text = torch.cat([text, model(text[None])[0, -1:].argmax(-1)])
        assert found.ids[row].equal(text[length:])
        assert float(found.scores[row]) == pytest.approx(
            log_probability(model, prompt[:length], text[length:]), rel=1e-4
        )


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize(
    "method", [None, Sample(seed=[5, 6, 7]), Beams(4, n_group=2)], ids=["greedy", "sample", "beams"]
)
def test_each_prompt_becomes_what_it_would_alone(
    model: TokenModel, prompts: tuple[Tensor, Tensor], method: Any, end: int | None
) -> None:
    together = model.generate(*prompts, n_new=10, method=method, end=end)
    for row, prompt, length in zip(range(3), *prompts, strict=True):
        own = Sample(seed=5 + row) if isinstance(method, Sample) else method
        alone = model.generate(prompt[None, :length], n_new=10, method=own, end=end)
        assert together.ids[row].equal(alone.ids[0])
        assert together.lengths[row].equal(alone.lengths[0])
        torch.testing.assert_close(together.scores[row], alone.scores[0], rtol=1e-4, atol=1e-4)


def test_the_seed_decides(model: TokenModel, prompts: tuple[Tensor, Tensor]) -> None:
    first, again, other = (model.generate(*prompts, n_new=20, method=Sample(seed=seed)).ids for seed in (1, 1, 50))
    assert first.equal(again)
    assert not first.equal(other)
    assert model.generate(*prompts, n_new=20, method=Sample(seed=[1, 2, 3])).ids.equal(first)


def test_draws_follow_the_distribution() -> None:
    model, n = Chain(torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])), 1500
    found = generate(model, torch.zeros(n, 1, dtype=torch.long), n_new=1, method=Sample(temperature=2.0)).ids
    share = found.flatten().bincount(minlength=4) / n
    expected = torch.tensor([0.0, 0.5, 1.0, -torch.inf]).softmax(-1)
    assert share[3] == 0
    assert ((share - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt() + 1e-9).all()


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(1, None), (3, None), (99, None), (None, 0.01), (None, 0.7), (4, 0.6), (None, 1.0)]
)
def test_only_the_likeliest_are_drawn(top_k: int | None, top_p: float | None) -> None:
    logits = torch.randn(30, 12, generator=torch.Generator().manual_seed(0)) * 2
    allowed = restricted(logits, top_k=top_k, top_p=top_p).isfinite()
    for row, allowed_row in zip(logits, allowed, strict=True):
        order = sorted(range(12), key=lambda i: -row[i])[:top_k]
        probability = row[order].double().softmax(-1).tolist()
        nucleus = [i for n, i in enumerate(order) if top_p is None or sum(probability[:n]) < top_p]
        assert sorted(nucleus) == allowed_row.nonzero().flatten().tolist()
    model = Chain(logits)
    drawn = generate(model, torch.arange(30).repeat(20)[:, None], n_new=1, method=Sample(top_k=top_k, top_p=top_p)).ids
    assert allowed.repeat(20, 1).gather(1, drawn).all()


def test_the_end_token_ends() -> None:
    model = Chain(torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]))
    found = generate(model, torch.tensor([[0], [1], [2]]), n_new=5, end=2)
    assert found.ids.tolist() == [[1, 2, 2, 2, 2], [2, 2, 2, 2, 2], [0, 1, 2, 2, 2]]
    assert found.lengths.tolist() == [2, 1, 3]
    step = float(model.table[0, 0].log_softmax(-1)[1])
    assert found.scores.tolist() == pytest.approx([2 * step, step, 3 * step])


Table = list[list[list[float]]]


def sequences(table: Table, last: int, n_new: int, end: int | None) -> list[tuple[float, tuple[int, ...]]]:
    """All that can follow, the likeliest first: log-probability, tokens up to the end."""
    found = {}
    for ids in itertools.product(range(len(table[0])), repeat=n_new):
        kept = ids[: ids.index(end) + 1] if end in ids else ids
        found[kept] = sum(step[a][b] for step, (a, b) in zip(table, itertools.pairwise([last, *kept]), strict=False))
    return sorted(((score, ids) for ids, score in found.items()), reverse=True)


@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize("n_beam", [64, 300])
def test_enough_beams_find_what_a_search_of_all_sequences_finds(n_beam: int, end: int | None) -> None:
    model, n_new = chain(), 4
    found = generate(model, torch.tensor([[0], [2]]), n_new=n_new, method=Beams(n_beam), end=end)
    table = model.table.log_softmax(-1).tolist()
    for row, last in enumerate((0, 2)):
        expected = sequences(table, last, n_new, end)[:n_beam]
        n = len(expected)
        assert [tuple(ids[:length]) for ids, length in _texts(found, row)][:n] == [ids for _, ids in expected]
        assert found.scores[row, :n].tolist() == pytest.approx([score for score, _ in expected], rel=1e-5)
        assert (found.scores[row, n:] == -math.inf).all()


def _texts(found: Any, row: int) -> list[tuple[list[int], int]]:
    return list(zip(found.ids[row].tolist(), found.lengths[row].tolist(), strict=True))


def diverse_beams(table: Table, last: int, n_new: int, method: Beams, end: int | None) -> list[tuple[int, ...]]:
    """Algorithm 1 of Vijayakumar et al. with the Hamming diversity, one beam after another."""
    size = method.n_beam // method.n_group
    groups: list[list[tuple[float, list[int]]]] = [[(0.0, [])] for _ in range(method.n_group)]
    for step in table[:n_new]:
        taken = [0] * len(step)
        for g, beams in enumerate(groups):
            candidates = []
            for score, ids in beams:
                if ids[-1:] == [end]:
                    candidates.append((score, ids, None))
                    continue
                for token, log_p in enumerate(step[ids[-1] if ids else last]):
                    candidates.append((score + log_p - method.diversity * taken[token], [*ids, token], token))
            best = sorted(candidates, key=lambda candidate: -candidate[0])[:size]
            groups[g] = [(score, ids) for score, ids, _ in best]
            for *_, token in best:
                if token is not None:
                    taken[token] += 1
    return [tuple(ids) for beams in groups for _, ids in beams]


@pytest.mark.parametrize("end", [None, 5])
@pytest.mark.parametrize(
    "method", [Beams(3), Beams(6, n_group=3, diversity=0.7), Beams(4, n_group=4, diversity=2.0)], ids=str
)
def test_diverse_beams_follow_the_algorithm(method: Beams, end: int | None) -> None:
    for seed in range(5):
        model = chain(6, seed)
        found = generate(model, torch.tensor([[0], [1]]), n_new=6, method=method, end=end)
        for row, last in enumerate((0, 1)):
            texts = sorted(tuple(ids[:length]) for ids, length in _texts(found, row))
            assert texts == sorted(diverse_beams(model.table.log_softmax(-1).tolist(), last, 6, method, end))


def test_much_diversity_makes_groups_begin_apart() -> None:
    found = generate(chain(6), torch.tensor([[0]]), n_new=3, method=Beams(4, n_group=4, diversity=100.0))
    assert len(set(found.ids[0, :, 0].tolist())) == 4


def test_beams_carry_the_states_of_their_own_past(model: TokenModel, prompts: tuple[Tensor, Tensor]) -> None:
    found = model.generate(*prompts, n_new=8, method=Beams(6, n_group=2))
    assert (found.scores.diff(dim=1) <= 0).all()
    for row, prompt, length in zip(range(3), *prompts, strict=True):
        for ids, score in zip(found.ids[row], found.scores[row], strict=True):
            assert float(score) == pytest.approx(log_probability(model, prompt[:length], ids), rel=1e-3)


def test_training_goes_on_as_it_was(model: TokenModel, prompts: tuple[Tensor, Tensor]) -> None:
    """Dropout is off while a sequence is made, and on again afterwards."""
    quiet = model.generate(*prompts, n_new=5)
    assert model.train().generate(*prompts, n_new=5).ids.equal(quiet.ids)
    assert model.training
    model.eval()


def test_a_model_that_reads_ahead_cannot_generate() -> None:
    backbone = Backbone(8, n_layer=1, blocks=[{"name": "bidirectional"}])
    with pytest.raises(InputError, match="reads what comes later"):
        TokenModel(backbone=backbone, classes=CLASSES).generate(torch.tensor([[1]]), n_new=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample(temperature=0), "temperature is 0, expected more than 0"),
        (lambda: Sample(top_k=0), "top_k is 0"),
        (lambda: Sample(top_p=1.1), "top_p is 1.1"),
        (lambda: Beams(0), "n_beam is 0"),
        (lambda: Beams(4, n_group=3), "n_group is 3, expected a divisor of the 4 beams"),
        (lambda: Beams(diversity=-1), "diversity is -1"),
        (lambda: generate(chain(), torch.tensor([[1]]), n_new=0), "n_new is 0"),
        (lambda: generate(chain(), torch.tensor([1]), n_new=1), r"the prompt's shape is \[1\]"),
        (lambda: generate(chain(), torch.tensor([[1]]), torch.tensor([0]), n_new=1), r"lengths is \[0\]"),
        (lambda: generate(chain(), torch.tensor([[1]]), n_new=1, end=4), "end is 4, expected a token's id, 0 to 3"),
        (lambda: generate(chain(), torch.tensor([[1]]), n_new=1, method=Sample(seed=[1, 2])), "number of seeds is 2"),
    ],
)
def test_wrong_options(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"generate: .*{message}"):
        make()
