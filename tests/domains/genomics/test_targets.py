"""Labels and numbers: from tables, at each base, in models and in what they write."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model, load, save
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.objectives import CausalLanguage, MaskedLanguage
from helixwave.recipe import check_recipe
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.base_labels import LabelledWindows
from helixwave_domains.genomics.baselines import KmerLogisticRegression, OneHotLogisticRegression
from helixwave_domains.genomics.context_baseline import BaseContext
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.pretraining import DnaWindows
from helixwave_domains.genomics.sequences import LabelledFasta
from helixwave_domains.genomics.target_baselines import KmerLinear
from helixwave_domains.genomics.vocabulary import DNA

BACKBONE = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "bimamba", "d_state": 4}]}


def letters(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def table(folder: Path, labels: list[str]) -> str:
    rows = [f"{letters(20, i)}\t{label}" for i, label in enumerate(labels)]
    (folder / "t.tsv").write_text("sequence\tlabel\n" + "\n".join(rows) + "\n")
    return str(folder / "t.tsv")


def rows_of(data: LabelledFasta) -> dict[str, list[float]]:
    """What each sequence is labelled with."""
    splits = (data.train, data.validation, data.test)
    pairs = ((sequence, s.example(i, None)) for s in splits for i, sequence in enumerate(s.sequences))
    return {sequence: np.asarray(example["target"]).tolist() for sequence, example in pairs}


def test_several_labels(tmp_path: Path) -> None:
    labels = ["b;a", "-", "c", "a"] * 10
    data = LabelledFasta(table=table(tmp_path, labels), target="labels")
    assert data.classes == ["a", "b", "c"]
    expected = {"b;a": [1, 1, 0], "-": [0, 0, 0], "c": [0, 0, 1], "a": [1, 0, 0]}
    assert rows_of(data) == {letters(20, i): expected[label] for i, label in enumerate(labels)}
    assert "20 a" in data.describe()["train"] or " a, " in data.describe()["train"]


def test_numbers(tmp_path: Path) -> None:
    numbers = [f"{i / 7:.4f}" for i in range(40)]
    data = LabelledFasta(table=table(tmp_path, numbers), target="numbers")
    assert data.classes == ["value"]
    for sequence, (value,) in rows_of(data).items():
        assert value == pytest.approx(float(numbers[[letters(20, i) for i in range(40)].index(sequence)]))
    several = LabelledFasta(table=table(tmp_path, [f"{i};?" for i in range(40)]), target="numbers")
    assert several.classes == ["value 1", "value 2"]
    assert all(math.isnan(second) for _, second in rows_of(several).values())
    assert "value 1" in several.describe()["test"]


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (
            ["1", "two"] * 20,
            "numbers",
            "the label of 'line3' is 'two', expected a number. For classes choose data.target",
        ),
        (["1;2", "1"] * 20, "numbers", "sequence 'line3' has 1 numbers, the first sequence has 2"),
        (["-"] * 40, "labels", "all 40 sequences have the label '-'"),
    ],
)
def test_targets_that_cannot_be(labels: list[str], target: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        LabelledFasta(table=table(tmp_path, labels), target=target)


def make(name: str, predicts: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    model = {"name": name, **arguments}
    return build_model({"model": model, "backbone": BACKBONE, "classes": ["p", "q", "r"], "predicts": predicts}).eval()


@pytest.mark.parametrize("name", ["sequence_classifier", "nucleotide_labeller"])
@pytest.mark.parametrize("predicts", ["class", "labels", "numbers"])
def test_both_strands_are_averaged_as_people_read_them(name: str, predicts: str) -> None:
    """Post-hoc conjoining is the mean of what the model says of each strand alone."""
    both, one = make(name, predicts, complement=[1, 0, 2]), make(name, predicts)
    sequence = letters(30)
    there, back = one.predict(sequence), one.predict(reverse_complement_string(sequence))[..., [1, 0, 2]]
    back = back if back.ndim == 1 else back[::-1]
    np.testing.assert_allclose(both.predict(sequence), (there + back) / 2, atol=1e-6)


@pytest.mark.parametrize("predicts", ["labels", "numbers"])
def test_what_a_model_predicts_is_kept_and_written(predicts: str, tmp_path: Path) -> None:
    save(make("sequence_classifier", predicts), tmp_path / "checkpoint")
    model = load(tmp_path / "checkpoint")
    write_fasta(tmp_path / "x.fa", [("s", letters(30)), ("t", letters(20))])
    (path,) = model.predict_files([tmp_path / "x.fa"], tmp_path)
    rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
    assert [row["name"] for row in rows] == ["s", "t"]
    for row, length in zip(rows, (30, 20), strict=True):
        expected = model.predict(letters(length))
        np.testing.assert_allclose([float(row[name]) for name in "pqr"], expected, atol=1e-5)
        if predicts == "labels":
            assert row["labels"] == ";".join(name for name, p in zip("pqr", expected, strict=True) if p >= 0.5)


def test_labels_and_numbers_of_each_base_are_written(tmp_path: Path) -> None:
    write_fasta(tmp_path / "x.fa", [("s", letters(60))])
    labels = make("nucleotide_labeller", "labels")
    (bed,) = labels.predict_files([tmp_path / "x.fa"], tmp_path)
    found = np.zeros((60, 3), dtype=bool)
    for line in bed.read_text().splitlines():
        _, start, end, label, score, _ = line.split("\t")
        found[int(start) : int(end), "pqr".index(label)] = True
        assert 500 <= int(score) <= 1000
    assert (found == (labels.predict(letters(60)) > 0.5)).all()
    numbers = make("nucleotide_labeller", "numbers")
    (tsv,) = numbers.predict_files([tmp_path / "x.fa"], tmp_path)
    lines = [line.split("\t") for line in tsv.read_text().splitlines()]
    assert [line[:2] for line in lines] == [["s", str(i)] for i in range(60)]
    np.testing.assert_allclose(
        [[float(x) for x in line[2:]] for line in lines], numbers.predict(letters(60)), atol=1e-5
    )


@pytest.fixture
def genome(tmp_path: Path) -> str:
    write_fasta(
        tmp_path / "g.fa", [("one", letters(200)), ("two", letters(100, 1)[:90] + "N" * 10), ("three", letters(80))]
    )
    return str(tmp_path / "g.fa")


def bed(folder: Path, *rows: str) -> str:
    (folder / "l.bed").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    return str(folder / "l.bed")


def test_a_class_at_each_base(genome: str, tmp_path: Path) -> None:
    labels = bed(tmp_path, "one 5 20 exon", "two 0 10 intron", "two 10 12 exon", "three 70 80 exon")
    parts: dict[str, Any] = {"validation_contigs": ["two"], "test_contigs": ["three"], "length": 20}
    data = LabelledWindows(fasta=genome, labels=labels, **parts, either_strand=True)
    assert data.classes == ["background", "exon", "intron"]
    two = np.concatenate([data.validation.example(i, None)["target"] for i in range(5)])
    assert two.tolist() == [2] * 10 + [1] * 2 + [0] * 78 + [IGNORED] * 10
    assert data.describe()["validation"] == "100 bases (78 background, 2 exon, 10 intron)"
    text = letters(200)
    expected = np.array([5 <= i < 20 for i in range(200)]).astype(int)
    strands = set()
    for i in range(40):
        example = data.train.example(i, np.random.default_rng(i))
        window = "".join("ACGT"[base - 7] for base in example["inputs"])
        places = [(text.find(window), 1), (text.find(reverse_complement_string(window)), -1)]
        start, strand = next((place, strand) for place, strand in places if place >= 0)
        strands.add(strand)
        assert example["target"].tolist() == expected[start : start + 20][::strand].tolist()
    assert strands == {1, -1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("one 5 20 exon", "one 19 30 intron"), r"l\.bed: line 2: 'intron' overlaps 'exon'. A base has one class"),
        (("one 5 20",), "line 1: column 4 is missing or empty, expected the class"),
        (("four 5 20 exon",), "line 1: 'four' is not in"),
        (("one 5 201 exon",), "line 1: ends at 201, beyond one of 200"),
    ],
)
def test_labels_of_bases_that_cannot_be(rows: tuple[str, ...], message: str, genome: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        LabelledWindows(fasta=genome, labels=bed(tmp_path, *rows), length=10)


def test_linear_baseline_learns_labels_and_numbers_and_does_not_see_the_test_part(tmp_path: Path) -> None:
    sequences = [letters(20, i) for i in range(40)]
    shares = [f"{sequence.count('A') / 20};{i % 3 if i < 3 else '?'}" for i, sequence in enumerate(sequences)]
    numbers = LabelledFasta(table=table(tmp_path, shares), target="numbers")
    found, target = KmerLinear(size=1).predict(numbers)
    assert np.corrcoef(found[:, 0], target[:, 0])[0, 1] > 0.95
    assert found[:, 1].std() == 0, "of two or three numbers nothing can be learnt"
    many = ["many" if sequence.count("A") > 5 else "-" for sequence in sequences]
    labels = LabelledFasta(table=table(tmp_path, [f"{label};all" for label in many]), target="labels")
    found, target = KmerLinear(size=1).predict(labels)
    assert labels.classes == ["all", "many"]
    assert ((found[:, 1] > 0) == target[:, 1].bool()).float().mean() > 0.8
    assert (found[:, 0] > 2).all()
    labels.test.labels[:] = 0
    assert KmerLinear(size=1).predict(labels)[0].equal(found)


@pytest.mark.parametrize(
    ("target", "objective", "scores"),
    [("labels", "multi_label", {"auroc", "auprc"}), ("numbers", "regression", {"pearson", "spearman", "r2", "mse"})],
)
def test_a_run_on_labels_or_numbers(target: str, objective: str, scores: set[str], tmp_path: Path) -> None:
    cells = ["a;b", "-", "b", "a"] * 10 if target == "labels" else [f"{i % 7};{i % 3}" for i in range(40)]
    config = {
        "backbone": BACKBONE,
        "model": {"name": "sequence_classifier", "equivariant": True},
        "data": {"name": "labelled_fasta", "table": table(tmp_path, cells), "target": target},
        "objective": {"name": objective},
        "baseline": {"name": "kmer_linear", "size": 1},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    folder, recipe = RunFolder(tmp_path / "run"), check_recipe("own", config)
    folder.create(recipe)
    run(recipe, folder)
    results = json.loads(folder.results.read_text())
    assert results["test"].keys() == results["baseline"].keys() == scores
    model = load(folder.path)
    assert (model.predicts, model.predict(letters(9)).shape) == (target, (2,))


def test_baselines_say_what_they_are_for(tmp_path: Path, genome: str) -> None:
    unlabelled: Any = DnaWindows(fasta=genome, length=20)
    numbers: Any = LabelledFasta(table=table(tmp_path, [str(i) for i in range(40)]), target="numbers")
    classes: Any = LabelledFasta(table=table(tmp_path, ["a", "b"] * 20))
    for data in (unlabelled, numbers):
        with pytest.raises(InputError, match="kmer_logistic_regression is for sequences with one class each"):
            KmerLogisticRegression().predict(data)
    with pytest.raises(InputError, match="one_hot_logistic_regression is for sequences with one class each"):
        OneHotLogisticRegression().predict(numbers)
    with pytest.raises(InputError, match=r"kmer_linear is for data.target=labels and numbers"):
        KmerLinear().predict(classes)
    with pytest.raises(InputError, match=r"base_context is for objective.name=masked and causal"):
        BaseContext().predict(classes)


@pytest.mark.parametrize("sides", ["both", "left"])
def test_context_baseline_by_a_plain_loop(sides: Any, genome: str) -> None:
    """Counts on both strands, joined with those of the shorter context, written out base by base."""
    objective = MaskedLanguage(DNA, share=0.3) if sides == "both" else CausalLanguage(DNA)
    parts: dict[str, Any] = {"validation_contigs": ["two"], "test_contigs": ["three"], "length": 20}
    data = objective.prepare(DnaWindows(fasta=genome, **parts, sampling="tiled"))
    found, target = BaseContext(sides=sides, sizes=[2], strengths=[3.0]).predict(data)  # type: ignore[arg-type]

    def context(text: str, i: int, size: int) -> str:
        around = text[max(i - size, 0) : i], text[i + 1 : i + 1 + size] if sides == "both" else "A" * size
        known = all(len(piece) == size and set(piece) <= set("ACGT") for piece in around)
        return "|".join(around) if known else "unknown"

    pieces = [letters(200)[i : i + 20] for i in range(0, 200, 20)]
    counts = {
        size: [
            (context(text, i, size), text[i])
            for p in pieces
            for text in (p, reverse_complement_string(p))
            for i in range(20)
        ]
        for size in range(3)
    }
    expected, truth = [], []
    for number in range(len(data.test)):
        example = data.test.example(number, None)
        text = "".join(DNA.tokens[i] if DNA.tokens[i] in "ACGT" else "?" for i in example["inputs"])
        for i, token in enumerate(example["target"]):
            if token == IGNORED:
                continue
            place, p = i + (sides == "left"), np.full(4, 0.25)
            for size, seen in counts.items():
                here = context(text, place, size)
                n = np.array([sum(pair == (here, base) for pair in seen) * (here != "unknown") for base in "ACGT"])
                p = (n + 3.0 * p) / (n.sum() + 3.0)
            expected.append(p)
            truth.append(int(token))
    assert target.tolist() == truth
    np.testing.assert_allclose(found.exp()[:, DNA.letter_ids], expected, rtol=1e-6)


def test_context_baseline_is_chosen_on_the_validation_part(genome: str) -> None:
    parts: dict[str, Any] = {"validation_contigs": ["two"], "test_contigs": ["three"], "length": 20}
    data: Any = MaskedLanguage(DNA).prepare(DnaWindows(fasta=genome, **parts))
    chosen = BaseContext(sizes=[1, 3], strengths=[1.0, 50.0])
    outputs, _ = chosen.predict(data)

    def loss(size: int, strength: float) -> float:
        data.test, kept = data.validation, data.test
        log_p, target = BaseContext(sizes=[size], strengths=[strength]).predict(data)
        data.test = kept
        return -float(log_p.gather(-1, target[:, None]).mean())

    size, strength = min(((k, s) for k in (1, 3) for s in (1.0, 50.0)), key=lambda pair: loss(*pair))
    assert f"among the {size} bases on each side" in chosen.description
    assert f"{strength:g}, chosen on the validation part" in chosen.description
    assert outputs.equal(BaseContext(sizes=[size], strengths=[strength]).predict(data)[0])
