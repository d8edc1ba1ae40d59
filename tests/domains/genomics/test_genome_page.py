"""The genome page: what it chooses and what it shows, compared with the model asked one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model
from helixwave.data.batches import IGNORED
from helixwave.pictures import as_svg
from helixwave_domains.genomics.alphabet import encode
from helixwave_domains.genomics.base_labels import LabelledWindows
from helixwave_domains.genomics.genome_page import (
    Mutated,
    base_page,
    embedding_picture,
    mutagenesis_picture,
    sequence_page,
)
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.labels import LabelledSequences
from helixwave_domains.genomics.mutagenesis import mutagenesis
from helixwave_domains.genomics.seen import (
    Seen,
    Stretch,
    evenly,
    principal_components,
    see_bases,
    see_sequences,
)
from helixwave_domains.genomics.sequences import LabelledFasta

BACKBONE = {
    "d_model": 8,
    "n_layer": 1,
    "blocks": [{"name": "bidirectional", "block": {"name": "mamba", "d_state": 2}}],
}
PAGE = "helixwave_domains.genomics.genome_page."


def model(name: str = "sequence_classifier", n_class: int = 2, **arguments) -> DNALabelModel:
    torch.manual_seed(0)
    config = {"model": {"name": name, **arguments}, "backbone": BACKBONE, "predicts": "class"}
    built = build_model({**config, "classes": [f"c{i}" for i in range(n_class)]})
    with torch.no_grad():
        built.embedding.weight.normal_()
        built.head.weight.normal_()
    return built.eval()


def data(count: int = 9, n_class: int = 2) -> LabelledSequences:
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGTN"), 8 + i % 4, p=[0.24] * 4 + [0.04])) for i in range(count)]
    labels = np.arange(count) % n_class
    return LabelledSequences([f"s{i}" for i in range(count)], sequences, labels, [f"c{i}" for i in range(n_class)], 0)


def stretches() -> list[Stretch]:
    rng = np.random.default_rng(1)
    target = rng.integers(0, 3, (2, 60))
    target[0, :20] = IGNORED
    return [Stretch(f"chr{i}", 1000 * i, encode("".join(rng.choice(list("ACGTR"), 60))), target[i]) for i in range(2)]


@pytest.mark.parametrize("strands", [{}, {"complement": [1, 0]}, {"equivariant": True}], ids=str)
@pytest.mark.parametrize("tokens", [2**15, 20])
def test_sequences_are_seen_as_one_by_one(
    tokens: int, strands: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helixwave_domains.genomics.seen._TOKENS", tokens)
    made, rows = model(**strands), data()
    seen = see_sequences(made, rows.names, rows.sequences, rows.labels)
    for i, sequence in enumerate(rows.sequences):
        np.testing.assert_allclose(seen.probabilities[i], made.predict(sequence), atol=1e-5)
        ids = torch.from_numpy(made.tokenizer.encode(sequence))[None]
        both = made.strands(ids) if strands else (made.hidden(ids),)
        np.testing.assert_allclose(seen.embeddings[i], sum(both)[0].mean(0).detach() / len(both), atol=1e-5)


def test_bases_are_seen_where_they_stand() -> None:
    made, pieces = model("nucleotide_labeller", 3), stretches()
    seen = see_bases(made, pieces, np.array([[0, 20], [0, 59], [1, 7]]))
    assert seen.names == ["chr0:21", "chr0:60", "chr1:1008"]
    assert seen.labels.tolist() == [pieces[0].target[20], pieces[0].target[59], pieces[1].target[7]]
    assert set(pieces[0].letters) == set("ACGTN")
    np.testing.assert_allclose(seen.probabilities[2], made.predict(pieces[1].letters)[7], atol=1e-5)


def test_pieces_of_a_stretch_hold_all_of_it() -> None:
    whole = stretches()[1]
    pieces = list(whole.pieces(25))
    assert [len(piece.ids) for piece in pieces] == [25, 25, 10]
    assert [piece.start for piece in pieces] == [1000, 1025, 1050]
    assert "".join(piece.letters for piece in pieces) == whole.letters


def test_the_surest_of_each_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.6, 0.4], [0.1, 0.9]])
    seen = Seen(list("abcde"), np.array([0, 0, 1, 1, 0]), probabilities, np.zeros((5, 2)))
    assert seen.most_confident(4) == [0, 3]
    assert seen.most_confident(1) == [0]


def test_principal_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) @ np.diag([5, 2, 1, 0.1]) + 7
    points, shares = principal_components(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    expected = (x - x.mean(0)) @ vectors[:, [3, 2]]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares, values[[3, 2]] / values.sum(), atol=1e-12)
    for degenerate in (np.ones((3, 4)), np.ones((1, 4)), np.arange(3.0)[:, None]):
        assert np.isfinite(principal_components(degenerate)[0]).all()


def test_evenly() -> None:
    assert evenly("abcdefg", 3) == ["a", "c", "e"]
    assert evenly("ab", 3) == ["a", "b"]
    assert evenly("", 3) == []


def test_page_of_sequences_shows_their_mutations() -> None:
    made, rows = model(), data()
    mutation, embedding = sequence_page(made, rows)
    probabilities = {i: made.predict(sequence) for i, sequence in enumerate(rows.sequences)}
    surest = [max((i for i in probabilities if rows.labels[i] == c), key=lambda i: probabilities[i][c]) for c in (0, 1)]
    titles = [f"s{i}: c{c}, probability {probabilities[i][c]:.3f}" for c, i in enumerate(surest)]
    assert list(dict.fromkeys(mutation.table["sequence"])) == titles
    expected = np.concatenate([mutagenesis(made, rows.sequences[i])[..., c].ravel() for c, i in enumerate(surest)])
    np.testing.assert_allclose(mutation.table["change"], expected, atol=1e-5)
    assert "".join(mutation.table["from"][::4]) == rows.sequences[surest[0]] + rows.sequences[surest[1]]
    assert mutation.table["to"][:4] == list("ACGT")
    assert embedding.table["label"] == [f"c{c}" for c in rows.labels]
    for picture in (mutation, embedding):
        assert as_svg(picture.figure).startswith("<svg")
        assert len({len(column) for column in picture.table.values()}) == 1


def test_long_sequences_are_mutated_in_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAGE + "_LETTERS", 240)
    rows = data(2)
    mutation, _ = sequence_page(model(), rows)
    # 240 letters for two sequences, of which every position takes three
    counts = [240 // 2 // (3 * len(sequence)) for sequence in rows.sequences]
    starts = [(len(sequence) - n) // 2 for sequence, n in zip(rows.sequences, counts, strict=True)]
    first = list(dict.fromkeys(mutation.table["position"][: 4 * counts[0]]))
    assert first == list(range(starts[0] + 1, starts[0] + counts[0] + 1))
    assert len(mutation.table["position"]) == 4 * sum(counts)


def test_page_of_bases_shows_what_is_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PAGE + "_CONTEXT", 12)
    monkeypatch.setattr(PAGE + "_MUTATED", 3)
    made = model("nucleotide_labeller", 3)
    mutation, embedding = base_page(made, stretches(), made.classes)
    assert len(embedding.table["name"]) == 100
    title = mutation.table["sequence"][0]
    place = int(title.split(":")[1])
    stretch = stretches()[int(title[3])]
    shown = [i for i, name in enumerate(mutation.table["sequence"]) if name == title]
    positions = [mutation.table["position"][i] for i in shown][::4]
    assert positions == [p for p in range(place - 3, place + 4) if stretch.start < p <= stretch.start + 60]
    at = place - 1 - stretch.start
    begin = max(0, at - 12)
    letters = stretch.letters[begin : at + 13]
    changes = mutagenesis(made, letters, at=at - begin)[..., int(title.split(": c")[1][0])]
    near = [p - 1 - stretch.start - begin for p in positions]
    np.testing.assert_allclose([mutation.table["change"][i] for i in shown], changes[near].ravel(), atol=1e-5)


def test_no_page_where_nothing_is_scored() -> None:
    nothing = Stretch("chr1", 0, encode("ACGT"), np.full(4, IGNORED))
    assert base_page(model("nucleotide_labeller"), [nothing], ["c0", "c1"]) == []


def test_pictures_take_names_and_numbers_as_they_are() -> None:
    mutated = Mutated("a$x^$ <b>", "NNA", 5, np.zeros((3, 4), np.float32))
    assert as_svg(mutagenesis_picture([mutated], "All").figure).startswith("<svg")
    seen = Seen(["x"], np.array([0]), np.ones((1, 2)), np.ones((1, 3)))
    assert as_svg(embedding_picture(seen, ["_a", "$b$"], "test sequence").figure).startswith("<svg")


@pytest.mark.parametrize("predicts", ["labels", "numbers"])
def test_models_of_something_else_have_no_page(predicts: str, tmp_path: Path) -> None:
    rows = [f"{'ACGT' * 3}{'ACGT'[i % 4] * (i // 4 + 1)},{i % 2}" for i in range(40)]
    (tmp_path / "t.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    source = LabelledFasta(table=str(tmp_path / "t.csv"))
    made = model()
    assert [picture.title for picture in source.export(made, tmp_path)] == ["In-silico mutagenesis", "Embeddings"]
    made.predicts = predicts
    assert source.export(made, tmp_path) == []
    assert source.export(torch.nn.Linear(1, 1), tmp_path) == []


def test_labelled_windows_have_a_page(tmp_path: Path) -> None:
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
    (tmp_path / "g.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "l.bed").write_text("".join(f"chr1\t{i}\t{i + 20}\tgene\n" for i in range(0, 400, 50)))
    source = LabelledWindows(fasta=str(tmp_path / "g.fa"), labels=str(tmp_path / "l.bed"), length=20)
    mutation, embedding = source.export(model("nucleotide_labeller"), tmp_path)
    assert set(embedding.table["label"]) == {"background", "gene"}
    position, letter = mutation.table["position"][0], mutation.table["from"][0]
    assert letters[position - 1] == letter
