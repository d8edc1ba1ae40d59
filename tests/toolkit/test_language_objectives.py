"""Language modelling: what is hidden, what is asked for, and how it is scored."""

import math

import numpy as np
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.data import make_loader
from helixwave.data.batches import IGNORED
from helixwave.data.views import respelt, vocabulary_of
from helixwave.data.vocabulary import Vocabulary
from helixwave.errors import InputError
from helixwave.objectives import CausalLanguage, MaskedLanguage
from helixwave.objectives.language import Perplexity
from helixwave.recipe import Batches
from helixwave.signal_model import SignalModel
from helixwave.token_model import TokenModel
from hypothesis import given, settings
from hypothesis import strategies as st

# PAD, MASK, UNK, four letters, and N, which is none
TOKENS = ("[PAD]", "[MASK]", "[UNK]", "A", "C", "G", "T", "N")
VOCABULARY = Vocabulary(TOKENS, tuple("ACGT"))
MASK, LETTERS = 1, [3, 4, 5, 6]


class Tokens:
    """A source of given sequences; all three splits are the same."""

    padding = 0

    def __init__(self, sequences):
        self.sequences, self.classes, self.vocabulary = sequences, [], VOCABULARY
        self.train = self.validation = self.test = self

    def __len__(self):
        return len(self.sequences)

    def length(self, index):
        return len(self.sequences[index])

    def example(self, index, rng):
        return {"inputs": np.array(self.sequences[index]), "target": IGNORED}


def draw(T, seed=0):
    return np.random.default_rng(seed).integers(0, len(TOKENS), T)


def within(count, n, p):
    """Five standard deviations of a binomial distribution."""
    return abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("random", ["letters", "vocabulary"])
def test_shares_of_what_is_chosen(random):
    ids = draw(200_000)
    masked = MaskedLanguage(VOCABULARY, random=random)
    found = masked.example({"inputs": ids, "target": 0}, 0, np.random.default_rng(5))
    inputs, target = found["inputs"], found["target"]
    chosen, letter = target != IGNORED, np.isin(ids, LETTERS)
    assert (target[chosen] == ids[chosen]).all()
    assert not chosen[~letter].any(), "neither N nor padding nor a special token is ever chosen"
    assert (inputs[~chosen] == ids[~chosen]).all()
    n = int(letter.sum())
    assert within(chosen.sum(), n, 0.15)
    hidden, same = (inputs == MASK) & chosen, (inputs == ids) & chosen
    k = len(LETTERS) if random == "letters" else len(TOKENS)
    # a random token can be the mask itself where it is drawn from the whole vocabulary, or the one that stood there
    by_chance = 0.1 / len(TOKENS) if random == "vocabulary" else 0.0
    assert within(hidden.sum(), chosen.sum(), 0.8 + by_chance)
    assert within(same.sum(), chosen.sum(), 0.1 + 0.1 / k)
    replaced = inputs[chosen & ~hidden & ~same]
    assert set(replaced) == (set(LETTERS) if random == "letters" else set(range(len(TOKENS))) - {MASK})


@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 5))
def test_what_is_hidden_follows_from_seed_epoch_and_number(T, seed, epoch):
    source = MaskedLanguage(VOCABULARY, share=0.5).prepare(Tokens([draw(T, i) for i in range(6)]))

    def inputs(seed, epoch, size):
        loader = make_loader(source.train, Batches(size=size), seed=seed, epoch=epoch)
        return sorted(row for batch in loader for row in batch["inputs"].tolist())

    assert inputs(seed, epoch, 2) == inputs(seed, epoch, 3)
    judged = [make_loader(source.validation, Batches(size=size), seed=s) for size, s in ((6, 0), (6, 1))]
    one, other = (next(iter(loader)) for loader in judged)
    assert one["inputs"].equal(other["inputs"]), "a split is always judged on the same tokens"


def test_each_epoch_hides_others():
    source = MaskedLanguage(VOCABULARY).prepare(Tokens([draw(400)]))
    batches = [next(iter(make_loader(source.train, Batches(), seed=0, epoch=epoch))) for epoch in (0, 0, 1)]
    assert batches[0]["target"].equal(batches[1]["target"])
    assert not batches[0]["target"].equal(batches[2]["target"])


def test_padding_is_not_scored():
    source = MaskedLanguage(VOCABULARY, share=1.0).prepare(Tokens([[3] * 5, [4] * 9]))
    batch = next(iter(make_loader(source.test, Batches(), seed=0)))
    assert (batch["target"][0] == IGNORED).tolist() == [False] * 5 + [True] * 4


def test_next_token():
    ids = np.array([3, 4, 7, 5, 2, 6])
    found = CausalLanguage(VOCABULARY).example({"inputs": ids, "target": 0}, 0, None)
    assert found["inputs"].tolist() == ids.tolist()
    # N and an unknown letter are shown and not asked for; nothing follows the last
    assert found["target"].tolist() == [4, IGNORED, 5, IGNORED, 6, IGNORED]


@pytest.mark.parametrize(
    "objective", [MaskedLanguage(VOCABULARY), CausalLanguage(VOCABULARY)], ids=["masked", "causal"]
)
def test_perplexity_of_a_uniform_model_is_the_number_of_tokens(objective):
    source = objective.prepare(Tokens([draw(300)]))
    batch = next(iter(make_loader(source.test, Batches(), seed=0)))
    uniform = torch.zeros(*batch["target"].shape, len(TOKENS))
    scores = objective.score(*objective.scored(uniform, batch["target"]))
    assert scores["perplexity"] == pytest.approx(len(TOKENS))
    only_letters = uniform.index_fill(-1, torch.tensor([0, 1, 2, 7]), -torch.inf)
    assert objective.score(*objective.scored(only_letters, batch["target"]))["perplexity"] == pytest.approx(4)
    assert objective.loss(uniform, batch["target"]).exp() == pytest.approx(len(TOKENS))


def test_perplexity_is_over_all_batches_together():
    log_p, target = torch.randn(50, 5).log_softmax(-1), torch.randint(5, (50,))
    metric = Perplexity()
    for some, wanted in zip(log_p.split(7), target.split(7), strict=True):
        metric.update(some, wanted)
    expected = math.exp(-sum(float(log_p[i, t]) for i, t in enumerate(target)) / 50)
    assert float(metric.compute()) == pytest.approx(expected)


def test_picture_shows_letters_alone():
    objective = MaskedLanguage(VOCABULARY)
    target = torch.tensor([3, 4, 5, 6])
    (picture,) = objective.pictures(torch.nn.functional.one_hot(target, 8).float().log_softmax(-1), target)
    cells = [text.get_text() for text in picture.figure.axes[0].texts]
    assert cells == ["100" if row == column else "0" for row in range(4) for column in range(4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "share is 0.0, expected more than 0"),
        ({"masked": 0.9, "replaced": 0.2}, "masked 0.9 and replaced 0.2, expected shares of at most 1 together"),
    ],
)
def test_shares_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        MaskedLanguage(VOCABULARY, **arguments)


def test_a_vocabulary_without_a_mask():
    with pytest.raises(InputError, match=r"lacks \[MASK\]. Choose objective.name=causal"):
        MaskedLanguage(Vocabulary(tuple("ACGT"), tuple("ACGT")))


@pytest.mark.parametrize("block", ["mamba", "bimamba"])
def test_the_next_token_needs_a_causal_model(block):
    model = TokenModel(backbone=Backbone(8, n_layer=1, blocks=[{"name": block}]), classes=list(TOKENS))
    objective = CausalLanguage(VOCABULARY)
    if block == "mamba":
        objective.check(model)
        return
    with pytest.raises(InputError, match=r"block 0 .* reads what comes later"):
        objective.check(model)
    with pytest.raises(InputError, match="SignalModel does not score the next token"):
        objective.check(SignalModel(backbone=model.backbone, classes=["a"]))


def test_inputs_in_the_tokens_of_another_vocabulary():
    lower = ["[PAD]", "[MASK]", "[UNK]", "t", "g", "c", "a"]
    source = respelt(Tokens([[3, 4, 5, 6, 7, 2]]), lower)
    assert source.test.example(0, None)["inputs"].tolist() == [6, 5, 4, 3, 2, 2]
    assert vocabulary_of(source).letter_ids.tolist() == [6, 5, 4, 3]
    assert (source.test.padding, source.test.length(0), len(source.test)) == (0, 6, 1)
    hidden = MaskedLanguage(vocabulary_of(source), share=1.0, masked=0.0, replaced=0.0).prepare(source).test
    assert hidden.example(0, None)["target"].tolist() == [6, 5, 4, 3, IGNORED, IGNORED]
    with pytest.raises(InputError, match="lacks 'A', which the data have"):
        respelt(Tokens([[3]]), ["[UNK]", "c", "g", "t"])


def test_signals_are_no_tokens():
    with pytest.raises(InputError, match="the inputs of object are no tokens"):
        vocabulary_of(object())
