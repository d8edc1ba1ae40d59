"""In-silico mutagenesis against a loop over single substitutions."""

import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.mutagenesis import log_odds, mutagenesis

BACKBONE = {
    "d_model": 8,
    "n_layer": 1,
    "blocks": [{"name": "bidirectional", "block": {"name": "mamba", "d_state": 2}}],
}
SEQUENCE = "ACGTNCARGT"


def model(name: str = "sequence_classifier", predicts: str = "class", n_class: int = 3, **arguments) -> DNALabelModel:
    torch.manual_seed(0)
    config = {"model": {"name": name, **arguments}, "backbone": BACKBONE, "predicts": predicts}
    built = build_model({**config, "classes": [f"c{i}" for i in range(n_class)]})
    with torch.no_grad():
        built.embedding.weight.normal_()
        built.head.weight.normal_()
    return built


def said(made: DNALabelModel, sequence: str, at: int | None) -> np.ndarray:
    """The logarithm of p / (1 - p) as the probabilities have it, in float64."""
    outputs = made(torch.from_numpy(made.tokenizer.encode(sequence))[None])[0].detach().double()
    outputs = outputs if at is None else outputs[at]
    if made.predicts == "numbers":
        return outputs.numpy()
    p = outputs.softmax(-1) if made.predicts == "class" else outputs.sigmoid()
    return (p / (1 - p)).log().numpy()


def substituted(made: DNALabelModel, sequence: str, at: int | None) -> np.ndarray:
    """One substitution after the other."""
    made.eval()
    before = said(made, sequence, at)
    changes = np.zeros((len(sequence), 4, len(before)))
    for i, letter in enumerate(sequence):
        for j, base in enumerate("ACGT"):
            if base != letter:
                changes[i, j] = said(made, sequence[:i] + base + sequence[i + 1 :], at) - before
    return changes


@pytest.mark.parametrize(
    ("predicts", "strands"),
    [
        ("class", {}),
        ("class", {"complement": [0, 2, 1]}),
        ("class", {"equivariant": True}),
        ("labels", {"complement": [0, 2, 1]}),
        ("numbers", {}),
    ],
    ids=str,
)
def test_whole_sequences(predicts: str, strands: dict[str, object]) -> None:
    made = model(predicts=predicts, **strands)
    found = mutagenesis(made, SEQUENCE)
    assert found.shape == (len(SEQUENCE), 4, 3)
    np.testing.assert_allclose(found, substituted(made, SEQUENCE, None), atol=2e-4)
    assert np.abs(found).max() > 0.1


@pytest.mark.parametrize(("at", "strands"), [(0, {}), (4, {"complement": [0, 2, 1]}), (9, {})], ids=str)
def test_bases(at: int, strands: dict[str, object]) -> None:
    made = model("nucleotide_labeller", **strands)
    np.testing.assert_allclose(mutagenesis(made, SEQUENCE, at=at), substituted(made, SEQUENCE, at), atol=2e-4)


def test_what_stands_there_changes_nothing_and_another_letter_has_four_others() -> None:
    found = mutagenesis(model(), SEQUENCE)
    unchanged = [(i, "ACGT".index(letter)) for i, letter in enumerate(SEQUENCE) if letter in "ACGT"]
    assert all((found[place] == 0).all() for place in unchanged)
    for i in (SEQUENCE.index("N"), SEQUENCE.index("R")):
        assert (found[i] != 0).all()


def test_some_positions_in_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    whole = mutagenesis(made, SEQUENCE)
    monkeypatch.setattr("helixwave_domains.genomics.mutagenesis._TOKENS", 25)
    some = mutagenesis(made, SEQUENCE, positions=range(3, 8))
    np.testing.assert_allclose(some, whole[3:8], atol=1e-5)


def test_a_trained_model_is_read_in_evaluation_mode() -> None:
    made = model(dropout=0.5)
    made.train()
    assert (mutagenesis(made, SEQUENCE) == mutagenesis(made, SEQUENCE)).all()


def test_log_odds_say_something_where_probabilities_are_one() -> None:
    outputs = torch.tensor([[60.0, 0.0, -1.0], [80.0, 0.0, -1.0]])
    odds = log_odds(outputs, "class")
    assert outputs.softmax(-1)[:, 0].tolist() == [1, 1]
    expected = outputs.double()[:, 0] - outputs.double()[:, 1:].logsumexp(-1)
    assert odds[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nucleotide_labeller", {}, "this model labels each base: at is None, expected one of 0 to 9"),
        ("nucleotide_labeller", {"at": 10}, "this model labels each base: at is 10, expected one of 0 to 9"),
        ("sequence_classifier", {"at": 3}, "this model labels whole sequences: at is 3, leave it out"),
        (
            "sequence_classifier",
            {"positions": range(5, 11)},
            "positions are range(5, 11), expected places in a sequence",
        ),
        ("sequence_classifier", {"positions": range(-1, 2)}, "positions are range(-1, 2), expected places"),
    ],
)
def test_arguments_that_cannot_be(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        mutagenesis(model(name), SEQUENCE, **arguments)
    assert message in str(caught.value)
