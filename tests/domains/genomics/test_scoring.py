import re

import numpy as np
import pytest
import torch
from helixwave import Backbone
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import VOCABULARY, reverse_complement_string
from helixwave_domains.genomics.embedding import embed
from helixwave_domains.genomics.fasta import read_fasta, write_fasta
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.models import SequenceClassifier
from helixwave_domains.genomics.scoring import score
from helixwave_domains.genomics.variants import read_alleles
from helixwave_domains.genomics.windows import allele_windows

GENOME = "ACGGTCATTGCAGGATTTACCGATACGGAT"
# SNVs of one site, of others, MNV, insertions and deletions, one beyond the end, one without windows
CALLS = (
    "1\t9\ta\tT\tA,C,G\n1\t15\tb\tA\tG\n1\t15\tc\tAT\tGG\n1\t15\td\tA\tACC\n1\t12\te\tAG\tA\n1\t30\tf\tT\tG\n"
    "1\t3\tg\tA\tG\n"
)
HYENA = [{"name": "hyena", "l_max": 64, "d_filter": 8}, {"name": "mlp"}]
CAUSAL = {
    "hyena": HYENA,
    "hyena_without_state": [{**HYENA[0], "stateful": False}, HYENA[1]],
    "mamba": [{"name": "mamba", "d_state": 4}],
    "mlstm": [{"name": "mlstm", "n_head": 2}],
}
MASKED = {"bimamba": {}, "equivariant": {"equivariant": True}}
IDS = {letter: i for i, letter in enumerate(VOCABULARY) if len(letter) == 1}


def language_model(blocks, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbone(8, n_layer=2, blocks=blocks)
        model = DNALanguageModel(backbone=backbone, classes=list(VOCABULARY), **options).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim < 3:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return model


CAUSAL_MODELS = {name: language_model(blocks) for name, blocks in CAUSAL.items()}
MASKED_MODELS = {name: language_model([{"name": "bimamba", "d_state": 4}], **o) for name, o in MASKED.items()}


@pytest.fixture
def windows(tmp_path):
    def cut(calls=CALLS, genome=GENOME, window=15, **options):
        write_fasta(tmp_path / "g.fa", [("chr1", genome)])
        (tmp_path / "c.vcf").write_text(calls)
        with read_fasta(tmp_path / "g.fa") as fasta:
            options = {"on_mismatch": "skip", **options}
            return [allele_windows(a, fasta, window=window, **options) for a in read_alleles(tmp_path / "c.vcf")]

    return cut


def scored(pairs, model, **options):
    batches = list(score(pairs, model, **options))
    columns = {name: np.concatenate([b.scores[name] for b in batches]) for name in batches[0].scores}
    return [status for b in batches for status in b.status], columns


@torch.inference_mode()
def log_p(model, letters):
    ids = torch.tensor([[IDS[letter] for letter in letters]])
    return model.logits(ids)[0].double().log_softmax(-1).numpy()


def log_likelihood(model, letters):
    """Letter by letter: the sum of log p of each base but the first, and their mean."""
    rows = log_p(model, letters)
    terms = [rows[t - 1][IDS[letters[t]]] for t in range(1, len(letters)) if letters[t] in "ACGT"]
    return np.array([sum(terms), sum(terms) / len(terms)])


@pytest.mark.parametrize("strand", ["+", "-", "both"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_likelihoods_of_both_windows_letter_by_letter(kind, strand, windows):
    pairs, model = windows(), CAUSAL_MODELS[kind]
    status, found = scored(pairs, model, strand=strand)
    assert status == ["ok"] * 8 + ["ref_mismatch"]
    for i, pair in enumerate(pairs[:-1]):
        scores = []
        for turn in {"+": [str], "-": [reverse_complement_string], "both": [str, reverse_complement_string]}[strand]:
            scores.append(log_likelihood(model, turn(pair.alt)) - log_likelihood(model, turn(pair.ref)))
        np.testing.assert_allclose([found["ll_sum"][i], found["ll_mean"][i]], np.mean(scores, axis=0), atol=2e-5)
    assert np.isnan(found["ll_sum"][-1])
    assert np.isnan(found["ll_mean"][-1])


@pytest.mark.parametrize("strand", ["+", "-", "both"])
@pytest.mark.parametrize("kind", MASKED)
def test_ratios_of_the_changed_letters_all_masked(kind, strand, windows):
    pairs, model = windows(), MASKED_MODELS[kind]
    status, found = scored(pairs, model, strand=strand)
    assert status == ["ok"] * 5 + ["no_substitution"] * 2 + ["ok", "ref_mismatch"]
    for i, pair in enumerate(pairs):
        if status[i] != "ok":
            assert np.isnan(found["log_ratio"][i])
            continue
        low, high = pair.ref_focus
        scores = []
        for reverse in {"+": [False], "-": [True], "both": [False, True]}[strand]:
            ref, alt = (reverse_complement_string(s) if reverse else s for s in (pair.ref, pair.alt))
            places = range(15 - high, 15 - low) if reverse else range(low, high)
            ids = torch.tensor([[IDS[letter] for letter in ref]])
            ids[0, list(places)] = 3
            with torch.inference_mode():
                rows = model.logits(ids)[0].double().log_softmax(-1).numpy()
            scores.append(sum(rows[t][IDS[alt[t]]] - rows[t][IDS[ref[t]]] for t in places))
        np.testing.assert_allclose(found["log_ratio"][i], np.mean(scores), atol=1e-6)


@pytest.mark.parametrize("strand", ["+", "both"])
@pytest.mark.parametrize("model", [CAUSAL_MODELS["mamba"], MASKED_MODELS["equivariant"]], ids=["causal", "masked"])
def test_distances_of_mean_embeddings(model, strand, windows):
    pairs = windows()
    status, found = scored(pairs, model, scores=["distance"], strand=strand, layer=1)
    # an insertion is as far away as a substitution
    assert status == ["ok"] * 8 + ["ref_mismatch"]
    for i, pair in enumerate(pairs[:-2]):
        distances = []
        for one in {"+": "+", "both": "+-"}[strand]:
            (batch,) = embed([("ref", pair.ref), ("alt", pair.alt)], model, strand=one, layer=1)
            ref, alt = batch.pooled["mean"].astype(np.float64)
            cosine = ref @ alt / np.sqrt((ref @ ref) * (alt @ alt))
            distances.append([np.sqrt(((alt - ref) ** 2).sum()), 1 - cosine])
        np.testing.assert_allclose([found["l2"][i], found["cosine"][i]], np.mean(distances, axis=0), atol=1e-6)
    assert np.isnan(found["l2"][-1])


def test_a_distance_is_there_where_letters_cannot_be_compared(windows):
    calls = "1\t9\ta\tT\tN\n1\t15\td\tA\tACC\n1\t9\te\tT\t<DEL>\n"
    status, found = scored(windows(calls), MASKED_MODELS["bimamba"], scores=["masked", "distance"])
    assert status == ["ambiguous_allele", "no_substitution", "symbolic"]
    assert np.isnan(found["log_ratio"]).all()
    assert np.isnan(found["l2"]).tolist() == [False, False, True]
    status, found = scored(windows(calls), CAUSAL_MODELS["mamba"])
    assert status == ["ambiguous_allele", "ok", "symbolic"]
    assert np.isnan(found["ll_sum"]).tolist() == [True, False, True]


@pytest.mark.parametrize("strand", ["+", "both"])
@pytest.mark.parametrize("model", [CAUSAL_MODELS["mlstm"], MASKED_MODELS["bimamba"]], ids=["causal", "masked"])
def test_swapped_alleles_have_exactly_the_negated_scores(model, strand, windows):
    calls = "1\t9\ta\tT\tA,C,G\n1\t15\tb\tA\tG\n1\t15\tc\tAT\tGG\n"
    swapped = "1\t9\ta\tA\tT\n1\t9\ta\tC\tT\n1\t9\ta\tG\tT\n1\t15\tb\tG\tA\n1\t15\tc\tGG\tAT\n"
    _, there = scored(windows(calls), model, strand=strand)
    status, back = scored(windows(swapped, on_mismatch="swap"), model, strand=strand)
    assert status == ["swapped"] * 5
    for column, values in there.items():
        np.testing.assert_array_equal(back[column], -values)
    _, far = scored(windows(calls), model, scores="distance")
    _, near = scored(windows(swapped, on_mismatch="swap"), model, scores="distance")
    np.testing.assert_array_equal(far["l2"], near["l2"])
    # keep writes REF of the file into the genome, which is the other window
    status, kept = scored(windows(swapped, on_mismatch="keep"), model, strand=strand)
    assert status == ["kept"] * 5
    for column, values in there.items():
        np.testing.assert_allclose(kept[column], -values, atol=1e-5)


@pytest.mark.parametrize("model", [CAUSAL_MODELS["hyena"], MASKED_MODELS["bimamba"]], ids=["causal", "masked"])
def test_a_score_does_not_depend_on_the_other_alleles(model, windows):
    pairs = [*windows(), *windows(window=11), *windows(window=15)]
    _, together = scored(pairs, model, scores=None)
    for i, pair in enumerate(pairs):
        _, alone = scored([pair], model, batch_tokens=1)
        for column, values in alone.items():
            np.testing.assert_allclose(together[column][i], values[0], atol=2e-6)


@pytest.mark.parametrize("model", [CAUSAL_MODELS["mamba"], MASKED_MODELS["bimamba"]], ids=["causal", "masked"])
def test_both_strands_of_a_reference_that_is_turned_around(model, windows):
    calls = "1\t9\ta\tT\tA,C,G\n1\t15\tb\tA\tG\n"
    length = len(GENOME)
    turned = f"1\t{length + 1 - 9}\ta\tA\tT,G,C\n1\t{length + 1 - 15}\tb\tT\tC\n"
    _, there = scored(windows(calls), model, strand="both")
    _, back = scored(windows(turned, reverse_complement_string(GENOME)), model, strand="both")
    for column, values in there.items():
        np.testing.assert_allclose(back[column], values, atol=2e-5)


def test_the_alleles_of_a_site_share_its_reference(windows, monkeypatch):
    """Of three SNVs of one site, what comes before them is read once and all four letters in one batch."""
    model, read = CAUSAL_MODELS["mamba"], []
    extend = type(model).extend
    monkeypatch.setattr(type(model), "extend", lambda *a: read.append(tuple(a[1].shape)) or extend(*a))
    scored(windows("1\t9\ta\tT\tA,C,G\n"), model)
    assert read == [(1, 7), (4, 8)]
    read.clear()
    scored(windows("1\t9\ta\tT\tA\n1\t9\ta\tT\tC\n1\t15\tb\tA\tG\n"), model)
    assert read == [(2, 7), (5, 8)]
    masked, read = MASKED_MODELS["bimamba"], []
    logits = type(masked).logits
    monkeypatch.setattr(type(masked), "logits", lambda *a: read.append(tuple(a[1].shape)) or logits(*a))
    scored(windows("1\t9\ta\tT\tA,C,G\n1\t15\tb\tA\tG\n"), masked)
    assert read == [(2, 15)]


def test_a_block_of_others_that_keeps_no_state_reads_whole_windows(windows):
    """Nothing can be handed over behind the letters that alleles share, whatever a Hyena could keep."""
    pairs, model = windows(), language_model(CAUSAL["mamba"])
    for block in model.backbone.blocks:
        block.stateful, forward = False, block.forward
        block.forward = lambda x, state=None, lengths=None, forward=forward: (forward(x, None, lengths)[0], None)
    found, expected = (scored(pairs, each)[1]["ll_sum"] for each in (model, CAUSAL_MODELS["mamba"]))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_alleles_of_equal_letters_and_windows_of_one(windows):
    # a deletion from a run that fills the window, and the shortest window there is
    pair = windows("1\t2\ta\tAA\tA\n", genome="CAAAAAAAAAAAAAAA", window=8, center=0)
    assert pair[0].ref == pair[0].alt
    _, found = scored(pair, CAUSAL_MODELS["mamba"])
    assert found["ll_sum"].tolist() == [0.0]
    _, found = scored(windows("1\t9\ta\tT\tA\n", window=1), CAUSAL_MODELS["mamba"])
    assert (found["ll_sum"].tolist(), found["ll_mean"].tolist()) == ([0.0], [0.0])


def test_what_a_checkpoint_can_score():
    with torch.random.fork_rng():
        classifier = SequenceClassifier(backbone=Backbone(8, n_layer=1, blocks=HYENA), classes=["a", "b"])
    causal, masked = CAUSAL_MODELS["mamba"], MASKED_MODELS["bimamba"]
    for model, options, message in [
        (classifier, {"scores": "masked"}, "score masked needs a language model that reads both ways"),
        (classifier, {"scores": ["distance", "likelihood"]}, "For this checkpoint choose distance"),
        (
            masked,
            {"scores": "likelihood"},
            "score likelihood needs a causal language model. For this checkpoint choose",
        ),
        (causal, {"scores": "masked"}, "For this checkpoint choose likelihood"),
        (causal, {"scores": "likelyhood"}, "score is 'likelyhood'. Did you mean 'likelihood'?"),
        (causal, {"scores": []}, "score names nothing, expected one or several of likelihood, masked, distance"),
        (causal, {"strand": "x"}, "strand is 'x'"),
        (causal, {"layer": 7}, "layer is 7"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            score([], model, **options)


def test_windows_beyond_the_context(windows):
    model = language_model(CAUSAL["mamba"], context=14)
    with pytest.raises(InputError, match="window is 15, expected at most 14"):
        list(score(windows(), model))
