from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import encode, reverse_complement
from helixwave_domains.genomics.baselines import KmerLogisticRegression, OneHotLogisticRegression
from helixwave_domains.genomics.labels import LabelledSequences
from helixwave_domains.genomics.sequences import LabelledFasta, Nfe2ChipSeq, SequenceSplit, UciSplice, mutated


def write_table(folder: Path, count: int = 60) -> Path:
    """Class `motif` holds TGACTCA somewhere, class `plain` does not."""
    rng = np.random.default_rng(0)
    rows = ["sequence\tlabel"]
    for i in range(count):
        letters = "".join(rng.choice(list("ACGT"), 30)).replace("TGACTCA", "AAAAAAA")
        rows.append(f"{letters[:9]}TGACTCA{letters[16:]}\tmotif" if i % 2 else f"{letters}\tplain")
    (folder / "table.tsv").write_text("\n".join(rows) + "\n")
    return folder / "table.tsv"


@pytest.fixture
def data(tmp_path: Path) -> LabelledFasta:
    return LabelledFasta(table=str(write_table(tmp_path)))


def test_parts_are_disjoint_stratified_and_fixed(data: LabelledFasta, tmp_path: Path) -> None:
    again = LabelledFasta(table=str(tmp_path / "table.tsv"))
    other = LabelledFasta(table=str(tmp_path / "table.tsv"), split_seed=1)
    parts = [set(part.sequences) for part in data.parts.values()]
    assert [len(part) for part in parts] == [42, 6, 12]
    assert len(set.union(*parts)) == 60
    assert [np.bincount(part.labels).tolist() for part in data.parts.values()] == [[21, 21], [3, 3], [6, 6]]
    assert again.parts["test"].names == data.parts["test"].names
    assert other.parts["test"].names != data.parts["test"].names


def test_only_training_examples_change() -> None:
    labelled = LabelledSequences(["a"], ["ACGTTGCAAA"], np.array([0]), ["x"], 0)
    split = SequenceSplit(labelled, either_strand=True)
    ids = encode("ACGTTGCAAA")
    assert (split.example(0, None)["inputs"] == ids).all()
    seen = {tuple(np.asarray(split.example(0, np.random.default_rng(i))["inputs"])) for i in range(20)}
    assert seen == {tuple(ids), tuple(reverse_complement(ids))}


def test_mutated_is_a_copy_of_bases() -> None:
    ids = encode("ACGT" * 250)
    changed = mutated(ids, 0.4, np.random.default_rng(0))
    assert (ids == encode("ACGT" * 250)).all()
    assert 0.25 < (changed != ids).mean() < 0.35
    assert set(changed) <= set(ids)
    assert (mutated(ids, 0.0, np.random.default_rng(0)) == ids).all()


@pytest.mark.parametrize(
    "baseline", [KmerLogisticRegression(sizes=[3, 4]), OneHotLogisticRegression()], ids=["k-mers", "one-hot"]
)
def test_baselines_learn_and_do_not_see_the_test_part(
    baseline: KmerLogisticRegression | OneHotLogisticRegression, data: LabelledFasta
) -> None:
    log_probabilities, target = baseline.predict(data)
    assert log_probabilities.exp().sum(-1).numpy() == pytest.approx(1)
    accuracy = (log_probabilities.argmax(-1) == target).double().mean()
    assert accuracy > 0.8
    assert "cross-validation" in baseline.description
    data.test.labels[:] = 0
    again, _ = baseline.predict(data)
    assert again.equal(log_probabilities)


def test_labels_from_headers_and_bed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(40)]
    (tmp_path / "h.fa").write_text("".join(f">s{i} {'ab'[i % 2]}\n{s}\n" for i, s in enumerate(sequences)))
    assert LabelledFasta(fasta=str(tmp_path / "h.fa")).classes == ["a", "b"]
    (tmp_path / "g.fa").write_text(">chr1\n" + "".join(sequences) + "\n")
    bed = "".join(f"chr1\t{20 * i}\t{20 * i + 20}\t{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "b.bed").write_text(bed)
    cut = LabelledFasta(fasta=str(tmp_path / "g.fa"), bed=str(tmp_path / "b.bed"))
    assert sorted(s for part in cut.parts.values() for s in part.sequences) == sorted(sequences)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give data.fasta with labels in its headers, data.table"),
        ({"bed": "x.bed"}, "data.bed with data.fasta"),
        ({"test": 1.5}, "a part is 1.5, expected more than 0 and less than 1"),
        ({"test": 0.01}, "too few sequences to split off"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    table = {"table": str(write_table(tmp_path))} if "test" in arguments else {}
    with pytest.raises(InputError, match=message):
        LabelledFasta(**table, **arguments)


def test_uci_splice(data_folder: Path) -> None:
    data = UciSplice()
    assert data.classes == ["EI", "IE", "N"]
    parts = [set(part.sequences) for part in data.parts.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 3004
    assert data.dropped == {
        "further copies of a sequence, left out": 184,
        "copies with conflicting classes, left out": 2,
    }


def test_nfe2_chipseq(data_folder: Path) -> None:
    data = Nfe2ChipSeq()
    assert len(data.test) == 138
    assert len(data.train) + len(data.validation) == 1288
    assert np.bincount(data.test.labels).tolist() == [69, 69]
