from pathlib import Path

import numpy as np
import pytest
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import encode, reverse_complement
from helixwave_domains.genomics.genome import labels, reverse_complement_labels
from helixwave_domains.genomics.genome_annotation import GenomeAnnotation


@pytest.fixture(scope="module")
def chloroplast() -> GenomeAnnotation:
    return GenomeAnnotation(mutation=0.0, window=256)


def test_blocks_cover_the_genome_once_without_the_second_repeat(chloroplast: GenomeAnnotation) -> None:
    (genome,) = chloroplast.genomes
    used = np.zeros(len(genome.sequence), dtype=int)
    for block in chloroplast.blocks:
        used[block.start : block.start + len(block.ids)] += 1
    assert used.max() == 1
    ((start, end),) = genome.excluded
    assert (used == 0).nonzero()[0].tolist() == list(range(start, end))


def test_parts_are_every_fifth_block(chloroplast: GenomeAnnotation) -> None:
    parts = [block.part for block in chloroplast.blocks]
    assert parts[:6] == ["train", "train", "test", "train", "validation", "train"]
    assert [parts.count(part) for part in ("train", "validation", "test")] == [10, 3, 3]


def test_blocks_hold_the_genome_and_its_labels(chloroplast: GenomeAnnotation) -> None:
    (genome,) = chloroplast.genomes
    ids, target = encode(genome.sequence), labels(genome)
    for block in chloroplast.blocks:
        here = slice(block.start, block.start + len(block.ids))
        assert (block.ids == ids[here]).all()
        assert (block.target == target[here]).all()


def test_training_windows_are_pieces_of_training_blocks_on_either_strand(chloroplast: GenomeAnnotation) -> None:
    blocks = [block for block in chloroplast.blocks if block.part == "train"]
    text = [bytes(block.ids.astype(np.uint8)) for block in blocks]
    strands = []
    for index in range(20):
        example = chloroplast.train.example(index, np.random.default_rng(index))
        ids, target = np.asarray(example["inputs"]), np.asarray(example["target"])
        for strand in "+-":
            found = [(block, t.find(bytes(ids.astype(np.uint8)))) for block, t in zip(blocks, text, strict=True)]
            hits = [(block, at) for block, at in found if at >= 0]
            if hits:
                block, at = hits[0]
                assert (block.target[at : at + len(ids)] == target).all()
                strands.append(strand)
                break
            ids, target = reverse_complement(ids), reverse_complement_labels(target)
        else:
            pytest.fail("a window that is nowhere in the training blocks")
    assert set(strands) == {"+", "-"}


def test_mutation_replaces_about_its_part() -> None:
    plain, noisy = GenomeAnnotation(window=4096), GenomeAnnotation(window=4096, mutation=0.2)
    a, b = (np.asarray(data.train.example(0, np.random.default_rng(5))["inputs"]) for data in (plain, noisy))
    # one in four draws gives the base that was there
    assert 0.10 < (a != b).mean() < 0.20


def test_own_genome(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">c\n" + "ATGAAACCCGGGTTTTAA" * 50 + "\n")
    (tmp_path / "g.gff3").write_text("##gff-version 3\nc\tx\tCDS\t1\t18\t.\t+\t0\tID=a\n")
    arguments = {"genome": str(tmp_path / "g.fa"), "annotation": str(tmp_path / "g.gff3")}
    data = GenomeAnnotation(**arguments, block=100, window=50)
    assert len(data.blocks) == 9
    assert data.blocks[0].target[:19].tolist() == [1, 2, 3] * 6 + [0]
    assert data.describe()["ambiguous bases"] == 0
    with pytest.raises(InputError, match=r"1 blocks of 8192 bases, expected at least 5.*data\.block"):
        GenomeAnnotation(**arguments)
    with pytest.raises(InputError, match="window is 200, expected 1 to 100"):
        GenomeAnnotation(**arguments, block=100, window=200)


def test_describe_counts(chloroplast: GenomeAnnotation) -> None:
    target = np.concatenate([block.target for block in chloroplast.blocks if block.part == "test"])
    assert f"{(target == IGNORED).sum():,} not scored" in chloroplast.describe()["test"]
