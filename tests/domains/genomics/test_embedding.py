import re
from itertools import islice

import numpy as np
import pytest
import torch
from helixwave import Backbone
from helixwave.errors import InputError
from helixwave.registry import BLOCKS
from helixwave_domains.genomics import embedding
from helixwave_domains.genomics.alphabet import VOCABULARY, reverse_complement_string
from helixwave_domains.genomics.embedding import Passage, embed
from helixwave_domains.genomics.fasta import read_fasta, write_fasta
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.models import SequenceClassifier
from helixwave_domains.genomics.pooling import POOLS
from helixwave_domains.genomics.tokenizer import Tokenizer
from torch import nn

HYENA = {"blocks": [{"name": "hyena", "l_max": 64, "d_filter": 8}, {"name": "mlp"}], "norm": "layer"}
BIMAMBA = {"blocks": [{"name": "bimamba", "d_state": 4}]}
KINDS = {
    "hyenadna": (HYENA, {"style": "hyenadna", "context": 64}),
    "caduceus_ph": (BIMAMBA, {"style": "caduceus"}),
    "caduceus_ps": (BIMAMBA, {"style": "caduceus", "equivariant": True}),
    "caduceus_ps_fused": ({**BIMAMBA, "mirrored": True}, {"style": "caduceus", "equivariant": True}),
    "mlstm": ({"blocks": [{"name": "mlstm", "n_head": 2}]}, {}),
}
# short, of equal length, with N, with ambiguity codes, all of one kind
SEQUENCES = [
    "ACGTTGCAAC",
    "GATTACAGATTACA",
    "ACGTTGCATT",
    "NNACGTN",
    "A",
    "ACRYGTTTKGACA",
    "TTTTTTTTTTTTTTTTTTTTTTTTTTTTT",
]


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def language_model(backbone, n_layer=2, **options):
    return seeded(
        lambda: _shaken(
            DNALanguageModel(backbone=Backbone(8, n_layer=n_layer, **backbone), classes=list(VOCABULARY), **options)
        )
    )


def _shaken(model):
    """With embeddings and norms away from where they start, so that strands and letters differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 3:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


MODELS = {kind: language_model(backbone, **options) for kind, (backbone, options) in KINDS.items()}
MODELS["classifier"] = seeded(
    lambda: _shaken(SequenceClassifier(backbone=Backbone(8, n_layer=2, **HYENA), classes=["a", "b"], kmer=2))
)


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def records(sequences):
    return [(f"r{i}", letters) for i, letters in enumerate(sequences)]


def embedded(sequences, model, pool="mean", **options):
    """`[B, D]` of `(name, letters)` or letters."""
    named = [s if isinstance(s, tuple | Passage) else ("r", s) for s in sequences]
    return np.concatenate([batch.pooled[pool] for batch in embed(named, model, pool=pool, **options)])


def positions(sequences, model, **options):
    return [p for batch in embed(records(sequences), model, pool="none", **options) for p in batch.positions]


@torch.inference_mode()
def states(model, letters, reverse=False, layer=None):
    """The hidden states of one sequence alone, by the letters' ids."""
    codes = {**{letter: i for i, letter in enumerate(VOCABULARY) if len(letter) == 1}, "U": 10}
    ids = torch.tensor([[codes.get(letter.upper(), 6) for letter in letters]])
    return model.strand(ids, reverse=reverse, layer=layer)[0].numpy()


def pooled(hidden, pool, reverse=False):
    if pool == "mean":
        return hidden.mean(0)
    if pool == "max":
        return hidden.max(0)
    return hidden[0] if (pool == "first") != reverse else hidden[-1]


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "none"])
@pytest.mark.parametrize("strand", ["+", "-", "both"])
def test_pooled_states_of_each_sequence_alone(model, pool, strand):
    found = embedded(SEQUENCES, model, pool, strand=strand)
    strands = {"+": [False], "-": [True], "both": [False, True]}[strand]
    expected = [np.mean([pooled(states(model, s, r), pool, r) for r in strands], axis=0) for s in SEQUENCES]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("strand", ["+", "-", "both"])
def test_all_positions_are_in_the_order_of_the_letters(model, strand):
    found = positions(SEQUENCES, model, strand=strand)
    strands = {"+": [False], "-": [True], "both": [False, True]}[strand]
    for letters, array in zip(SEQUENCES, found, strict=True):
        np.testing.assert_allclose(array, np.mean([states(model, letters, r) for r in strands], axis=0), atol=1e-6)
        assert array.dtype == np.float32


def test_an_embedding_depends_on_nothing_else(model):
    alone = np.concatenate([embedded([letters], model) for letters in SEQUENCES])
    together = embedded(SEQUENCES, model)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    backwards = embedded(SEQUENCES[::-1], model)[::-1]
    np.testing.assert_allclose(backwards, alone, atol=1e-6)
    np.testing.assert_allclose(embedded(SEQUENCES, model, batch_tokens=1), alone, atol=1e-6)
    np.testing.assert_array_equal(embedded([s.lower() for s in SEQUENCES], model), together)
    np.testing.assert_array_equal(embedded([s.replace("T", "u") for s in SEQUENCES], model), together)


def test_the_other_strand_is_the_reverse_complement(model):
    turned = [reverse_complement_string(letters) for letters in SEQUENCES]
    options = {"window": 8, "overlap": 3}
    for pool in ("mean", "max", "first", "last"):
        there = embedded(SEQUENCES, model, pool, strand="-", **options)
        np.testing.assert_allclose(there, embedded(turned, model, pool, strand="+", **options), atol=1e-6)
        both = embedded(SEQUENCES, model, pool, strand="both", **options)
        np.testing.assert_allclose(both, embedded(turned, model, pool, strand="both", **options), atol=1e-6)
    there, back = positions(SEQUENCES, model, strand="-", **options), positions(turned, model, **options)
    for here, other in zip(there, back, strict=True):
        np.testing.assert_allclose(here, other[::-1], atol=1e-6)


def test_layers_are_counted_from_either_end(model):
    n_layer = len(model.backbone.layer_ends)
    for layer in range(n_layer + 1):
        found = positions(["ACGTNACCA"], model, layer=layer)[0]
        np.testing.assert_allclose(found, states(model, "ACGTNACCA", layer=layer), atol=1e-6)
        np.testing.assert_array_equal(positions(["ACGTNACCA"], model, layer=layer - n_layer - 1)[0], found)


def test_padding_is_read_but_not_pooled():
    model = MODELS["caduceus_ph"]
    passage = Passage("edge", "NNNNACGTNA", padded=(4, 1))
    hidden = states(model, passage.letters)
    for pool in ("mean", "max", "first", "last"):
        expected = pooled(hidden[4:9], pool)
        np.testing.assert_allclose(embedded([passage], model, pool)[0], expected, atol=1e-6)
        np.testing.assert_allclose(embedded([passage], model, pool, window=3, overlap=1).shape, (1, 8))
    # the same letters without padding are another passage
    both = embedded([passage, Passage("file", passage.letters)], model)
    np.testing.assert_allclose(both[1], hidden.mean(0), atol=1e-6)


class Neighbours(nn.Module):
    """The mean of an input and those up to `reach` before it, and behind it unless `causal`."""

    def __init__(self, d_model, *, reach: int = 2, causal: bool = True):
        super().__init__()
        self.reach, self.causal = reach, causal

    def forward(self, x, state=None, lengths=None):
        T = x.shape[1]
        distance = torch.arange(T)[:, None] - torch.arange(T)
        near = (distance <= self.reach) & (distance >= (0 if self.causal else -self.reach))
        return (near / near.sum(-1, keepdim=True)) @ x.sin(), None


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("strand", ["+", "-", "both"])
def test_pieces_equal_the_whole_where_they_see_as_much(causal, strand, monkeypatch):
    """Two layers look 2 positions far each: 4 in the shared part, on one side if causal, on both otherwise."""
    # for this test alone: whatever is registered is held to the laws of blocks
    monkeypatch.setitem(BLOCKS._local, "test_neighbours", Neighbours)
    model = language_model({"blocks": [{"name": "test_neighbours", "causal": causal}]})
    overlap = 4 if causal else 8
    letters = "ACGTTGCATGCCGATAGGACTTACGACTGATCAAAGCTGAGT"
    for length in (9, 10, 11, 25, 42):
        sequence = letters[:length]
        for window in (overlap + 1, overlap + 3, 20):
            options = {"window": window, "overlap": overlap, "strand": strand}
            whole = positions([sequence], model, strand=strand)[0]
            np.testing.assert_allclose(positions([sequence], model, **options)[0], whole, atol=1e-6)
            for pool in ("mean", "max", "first", "last"):
                expected = embedded([sequence], model, pool, strand=strand)
                np.testing.assert_allclose(embedded([sequence], model, pool, **options), expected, atol=1e-6)
    if not causal:
        assert not np.allclose(positions([letters], model, window=9, overlap=2)[0], positions([letters], model)[0])


def test_a_long_mean_weighs_each_position_once():
    model = MODELS["hyenadna"]
    letters = "ACGTTGCATGCCGATAGGACTTACG"
    hidden = positions([letters], model, window=10, overlap=4)[0]
    # pieces 0:10, 6:16, 12:22, 15:25; what two share is the earlier one's
    pieces = [states(model, letters[start : start + 10]) for start in (0, 6, 12, 15)]
    expected = np.concatenate([pieces[0], pieces[1][4:], pieces[2][4:], pieces[3][7:]])
    np.testing.assert_allclose(hidden, expected, atol=1e-6)
    np.testing.assert_allclose(embedded([letters], model, window=10, overlap=4)[0], expected.mean(0), atol=1e-6)


def test_the_context_of_the_checkpoint_is_the_window():
    model = MODELS["hyenadna"]
    letters = "ACGTTGCATGCC" * 8
    expected = embedded([letters], model, window=64, overlap=16)
    np.testing.assert_array_equal(embedded([letters], model), expected)


def test_records_of_a_fasta_and_ambiguity_codes(tmp_path):
    write_fasta(tmp_path / "a.fa", [("one", "ACGT"), ("two", "acrYn")])
    (batch,) = embed(read_fasta(tmp_path / "a.fa"), MODELS["mlstm"], pool=["mean", "last", "none"])
    assert batch.names == ["one", "two"]
    assert batch.unknown.tolist() == [0, 2]
    assert batch.pooled.keys() == {"mean", "last"}
    np.testing.assert_allclose(batch.pooled["last"], [p[-1] for p in batch.positions], atol=1e-7)
    np.testing.assert_allclose(batch.positions[1], states(MODELS["mlstm"], "ACRYN"), atol=1e-6)


def test_a_vocabulary_without_n():
    plant = ["[PAD]", "[MASK]", "[UNK]", "a", "c", "g", "t"]
    backbone = Backbone(8, n_layer=1, **BIMAMBA)
    model = seeded(lambda: DNALanguageModel(backbone=backbone, classes=plant, style="plantcaduceus"))
    assert Tokenizer(plant, "plantcaduceus").encode("ACN").tolist() == [3, 4, 2]
    np.testing.assert_array_equal(embedded(["ACNT"], model), embedded(["acnt"], model))


def test_sequences_are_asked_for_as_they_are_needed(monkeypatch):
    asked = []

    def endless():
        while True:
            asked.append("ACGT")
            yield "r", "ACGT"

    monkeypatch.setattr(embedding, "_GROUP", 10)
    batches = embed(endless(), MODELS["mlstm"])
    assert asked == []
    (first,) = islice(batches, 1)
    # one more shows that the group is full
    assert (len(first.names), len(asked)) == (2, 3)


def test_equal_sequences_are_read_once(monkeypatch):
    model, read = MODELS["mlstm"], []
    strand = type(model).strand
    monkeypatch.setattr(type(model), "strand", lambda *a, **k: read.append(a[1].shape[0]) or strand(*a, **k))
    found = embedded(["ACGT", "ACCC", "acgt", "ACGT"], model)
    assert read == [2]
    np.testing.assert_array_equal(found[[0, 0]], found[[2, 3]])


def test_bfloat16_is_close_and_float32_on_the_way_out():
    model = MODELS["mlstm"]
    exact, rough = embedded(SEQUENCES, model), embedded(SEQUENCES, model, dtype=torch.bfloat16)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "meen"}, "pool is 'meen'. Did you mean 'mean'? Known: first, last, max, mean, none."),
        ({"pool": []}, "pool names nothing, expected one or several of none, mean, max, first, last"),
        ({"strand": "*"}, "strand is '*', expected one of +, -, both"),
        ({"window": 0}, "window is 0, expected at least 1"),
        ({"window": 65}, "window is 65, expected at most 64, which this checkpoint was made for"),
        ({"window": 8, "overlap": 8}, "overlap is 8, expected 0 to 7, less than the window"),
        ({"layer": 2}, "layer is 2, expected 0 (the embedding) to 1 (after the last layer), or -2 to -1"),
        ({"batch_tokens": 0}, "batch_tokens is 0, expected at least 1"),
        ({"dtype": torch.float16}, "dtype is torch.float16, expected torch.float32 or torch.bfloat16"),
        ({"device": "nowhere"}, "device is 'nowhere': "),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        embed(iter([]), MODELS["hyenadna"], **options)


def test_no_model_of_dna():
    with pytest.raises(InputError, match="model is Linear, expected a language model or classifier of DNA"):
        embed([], nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (("r7", ""), "r7: no letters. Remove it"),
        (("r7", "ACX"), "r7: unknown letter 'X' at position 3"),
        (Passage("r7", "NNN", (2, 1)), "r7: padded is (2, 1), expected less than 3 letters together"),
        (Passage("r7", "NNN", (-1, 1)), "r7: padded is (-1, 1)"),
    ],
)
def test_wrong_sequences(record, message):
    with pytest.raises(InputError, match=re.escape(message)):
        list(embed([record], MODELS["mlstm"]))
