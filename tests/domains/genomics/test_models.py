import csv
from pathlib import Path

import helixwave
import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model, save
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import PAD, A, C, G, T, encode, reverse_complement_string
from helixwave_domains.genomics.annotation import read_genome
from helixwave_domains.genomics.genome import FRAME_CLASSES
from helixwave_domains.genomics.label_model import _kmers

BACKBONE = {
    "d_model": 16,
    "n_layer": 2,
    "blocks": [
        {"name": "bidirectional", "block": {"name": "hyena", "l_max": 32}},
        {"name": "bidirectional", "block": {"name": "mamba", "d_state": 4}},
    ],
}
SWAPPED = [0, 4, 5, 6, 1, 2, 3]


def make(name: str, classes: list[str], **arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = {"model": {"name": name, **arguments}, "backbone": BACKBONE, "classes": classes}
    return build_model(config).eval()


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


@pytest.fixture
def annotator() -> torch.nn.Module:
    return make("reading_frame_annotator", FRAME_CLASSES, window=64, margin=16)


@pytest.mark.parametrize("pool", ["mean", "max", "mean_max", "center"])
def test_classifier_does_not_depend_on_padding_or_batch_mates(pool: str) -> None:
    model = make("sequence_classifier", ["a", "b"], pool=pool, complement=[0, 1])
    long, short = random_sequence(90), random_sequence(33, seed=1)
    inputs = torch.full((2, 90), PAD)
    for row, sequence in zip(inputs, (long, short), strict=True):
        row[: len(sequence)] = torch.from_numpy(encode(sequence).astype(np.int64))
    with torch.inference_mode():
        together = model(inputs, torch.tensor([90, 33])).softmax(-1).numpy()
    for found, sequence in zip(together, (long, short), strict=True):
        np.testing.assert_allclose(found, model.predict(sequence), atol=1e-6)


def test_classifier_of_either_strand_gives_both_strands_one_answer() -> None:
    model = make("sequence_classifier", ["a", "b"], complement=[0, 1])
    sequence = random_sequence(50)
    np.testing.assert_allclose(model.predict(sequence), model.predict(reverse_complement_string(sequence)), atol=1e-6)


def test_flattened_positions_have_weights_of_their_own() -> None:
    model = make("sequence_classifier", ["a", "b"], pool="flatten", length=12)
    assert model.head.weight.shape == (2, 12 * 16)
    assert model.predict("ACGTACGTACGT").sum() == pytest.approx(1)
    with pytest.raises(InputError, match="reads sequences of 12 bases, one of the given has 11"):
        model.predict("ACGTACGTACG")


def test_kmers_see_only_what_comes_before() -> None:
    inputs = torch.from_numpy(encode("ACGTTGCA").astype(np.int64))[None]
    bases = np.array([A, C, G, T])
    number = _kmers(inputs, 3, bases)
    changed = inputs.clone()
    changed[0, 4] = 7
    assert (number != _kmers(changed, 3, bases))[0].tolist() == [False] * 4 + [True] * 3 + [False]
    assert _kmers(inputs[:, 1:], 3, bases)[0, 2:].equal(number[0, 3:])
    assert number.max() < 5**3


@pytest.mark.parametrize("name", ["sequence_classifier", "nucleotide_labeller"])
def test_kmer_embedding_keeps_both_strands_and_padding(name: str) -> None:
    model = make(name, ["a", "b"], complement=[0, 1], kmer=2)
    sequence = random_sequence(50)
    there, back = model.predict(sequence), model.predict(reverse_complement_string(sequence))
    np.testing.assert_allclose(there, back if there.ndim == 1 else back[::-1], atol=1e-6)


def test_a_certain_model_has_finite_logits() -> None:
    model = make("sequence_classifier", ["a", "b"], complement=[0, 1])
    with torch.no_grad():
        model.head.bias += torch.tensor([0.0, 300.0])
    logits = model(torch.from_numpy(encode("ACGTACGT").astype(np.int64))[None])
    assert logits.isfinite().all()


def test_annotator_reads_the_other_strand_as_the_other_strand(annotator: torch.nn.Module) -> None:
    """Reverse complementing the sequence reverses the predictions and swaps the strands."""
    sequence = random_sequence(60)
    there, back = annotator.predict(sequence), annotator.predict(reverse_complement_string(sequence))
    np.testing.assert_allclose(there, back[::-1][:, SWAPPED], atol=1e-6)


def test_lower_case_is_upper_case(annotator: torch.nn.Module) -> None:
    sequence = random_sequence(40)
    assert (annotator.predict(sequence) == annotator.predict(sequence.lower())).all()


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 96, 97, 300])
def test_windows_cover_every_base_once(annotator: torch.nn.Module, length: int) -> None:
    probabilities = annotator.predict(random_sequence(length))
    assert probabilities.shape == (length, 7)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_windows_agree_with_one_pass_where_the_context_is_inside_the_margin() -> None:
    """A model that looks 8 bases around gives the same in windows with a margin of 16."""
    torch.manual_seed(0)
    blocks = [{"name": "bidirectional", "block": {"name": "hyena", "l_max": 6}}]
    config = {"backbone": {"d_model": 8, "n_layer": 1, "blocks": blocks}, "classes": ["out", "in"]}
    sequence = random_sequence(500)
    windowed, whole = (
        build_model({**config, "model": {"name": "nucleotide_labeller", "window": window, "margin": 16}}).eval()
        for window in (64, 1000)
    )
    whole.load_state_dict(windowed.state_dict())
    np.testing.assert_allclose(windowed.predict(sequence), whole.predict(sequence), atol=1e-5)


def test_checkpoint_predicts_the_same(annotator: torch.nn.Module, tmp_path: Path) -> None:
    save(annotator, tmp_path)
    sequence = random_sequence(100)
    assert (helixwave.load(tmp_path).predict(sequence) == annotator.predict(sequence)).all()


def test_classifier_writes_a_table(tmp_path: Path, logged: list[str]) -> None:
    model = make("sequence_classifier", ["EI", "IE"])
    fasta = tmp_path / "my.seqs.fa"
    fasta.write_text(">one first\nACGTACGT\n>two\nacgtnnry\n")
    (path,) = model.predict_files([fasta], tmp_path / "out")
    rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
    assert path.name == "my.seqs.tsv"
    assert "2 ambiguity codes are read as unknown" in "\n".join(logged)
    assert [row["name"] for row in rows] == ["one", "two"]
    for row, sequence in zip(rows, ["ACGTACGT", "ACGTNNRY"], strict=True):
        expected = model.predict(sequence)
        np.testing.assert_allclose([float(row["EI"]), float(row["IE"])], expected, atol=1e-5)
        assert row["class"] == ["EI", "IE"][expected.argmax()]


def test_annotator_writes_what_can_be_read_back(annotator: torch.nn.Module, tmp_path: Path) -> None:
    with torch.no_grad():
        annotator.head.bias += torch.tensor([0.0, 3, 0, 0, 0, 0, 0])  # else an untrained model finds no gene
        annotator.head.weight *= 8
    fasta = tmp_path / "genome.fa"
    fasta.write_text(f">chr1\n{random_sequence(3000)}\n")
    gff3, bed = annotator.predict_files([fasta], tmp_path / "out")
    intervals = [line.split("\t")[:3] for line in bed.read_text().splitlines()]
    assert intervals
    (genome,) = read_genome(fasta, gff3)
    assert [[genome.name, str(piece.start), str(piece.end)] for piece in genome.cds] == intervals


def test_nucleotide_labels_are_written_as_runs(tmp_path: Path) -> None:
    model = make("nucleotide_labeller", ["background", "motif"])
    fasta = tmp_path / "x.fa"
    fasta.write_text(f">s\n{random_sequence(200)}\n")
    (bed,) = model.predict_files([fasta], tmp_path)
    labelled = np.zeros(200, dtype=int)
    for line in bed.read_text().splitlines():
        name, start, end, label, score, _ = line.split("\t")
        assert (name, label) == ("s", "motif")
        assert 500 <= int(score) <= 1000
        labelled[int(start) : int(end)] = 1
    assert (labelled == model.predict(random_sequence(200)).argmax(-1)).all()


def test_results_are_not_replaced_unasked(tmp_path: Path) -> None:
    model = make("sequence_classifier", ["a", "b"])
    fasta = tmp_path / "x.fa"
    fasta.write_text(">s\nACGT\n")
    list(model.predict_files([fasta], tmp_path))
    before = (tmp_path / "x.tsv").read_text()
    fasta.write_text(">t\nACGT\n")
    with pytest.raises(InputError, match=r"x\.tsv is there already.*--overwrite"):
        list(model.predict_files([fasta], tmp_path))
    assert (tmp_path / "x.tsv").read_text() == before
    list(model.predict_files([fasta], tmp_path, overwrite=True))
    assert (tmp_path / "x.tsv").read_text() != before


def test_a_bad_record_leaves_nothing_half_written(tmp_path: Path) -> None:
    model = make("sequence_classifier", ["a", "b"])
    fasta = tmp_path / "x.fa"
    fasta.write_text(">s\nACGT\n>t\nAC!T\n")
    with pytest.raises(InputError, match=r"unknown letter '!' at position 3"):
        list(model.predict_files([fasta], tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*"))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    model = make("sequence_classifier", ["a", "b"])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.fa").write_text(">s\nACGT\n")
    with pytest.raises(InputError, match="two input files are called x"):
        list(model.predict_files([tmp_path / "one/x.fa", tmp_path / "two/x.fa"], tmp_path))


@pytest.mark.parametrize(
    ("name", "classes", "arguments", "message"),
    [
        (
            "sequence_classifier",
            ["a", "b"],
            {"complement": [0, 2]},
            r"complement is \[0, 2\], expected the numbers 0 to 1",
        ),
        ("sequence_classifier", ["a", "b"], {"pool": "flatten"}, "Give a length for pool=flatten"),
        ("sequence_classifier", ["a", "b"], {"kmer": 9}, "kmer is 9, expected 1 to 6"),
        ("nucleotide_labeller", ["a", "b"], {"window": 10, "margin": 5}, "margin is 5, expected less than half"),
        ("reading_frame_annotator", ["a", "b"], {}, r"the classes are \['a', 'b'\], expected \['intergenic'"),
    ],
)
def test_arguments_that_cannot_be(name: str, classes: list[str], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(name, classes, **arguments)


def test_equivariant_labeller_is_exactly_the_same_on_the_other_strand() -> None:
    model = make("reading_frame_annotator", FRAME_CLASSES, equivariant=True).train()
    ids = torch.from_numpy(encode(random_sequence(40)).astype(np.int64))[None]
    torch.testing.assert_close(
        model(model.other_strand(ids)).flip(1)[..., model.class_complement], model(ids), rtol=0, atol=0
    )


def test_equivariant_classifier_trains_on_both_strands() -> None:
    model = make("sequence_classifier", ["a", "b"], equivariant=True).train()
    ids = torch.from_numpy(encode(random_sequence(40)).astype(np.int64))[None]
    assert torch.equal(model(model.other_strand(ids)), model(ids))
    scores = [model._scores(hidden, None) for hidden in model.strands(ids)]
    torch.testing.assert_close(model(ids), sum(scores) / 2)
