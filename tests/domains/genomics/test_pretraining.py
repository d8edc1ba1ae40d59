"""Windows of a genome, where they may lie and what a language model is asked about them."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from helixwave.data import make_loader
from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.recipe import Batches
from helixwave_domains.genomics import encoded
from helixwave_domains.genomics.alphabet import A, N, T, encode, reverse_complement
from helixwave_domains.genomics.encoded import read_encoded
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.pretraining import DnaWindows
from helixwave_domains.genomics.regions import Region
from helixwave_domains.genomics.window_splits import RandomWindows, WindowSplit, possible_starts

CONTIGS = ["one", "two", "three"]


def letters(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


def write(folder: Path, sequences: dict[str, str], name: str = "g.fa") -> str:
    write_fasta(folder / name, sequences.items())
    return str(folder / name)


@pytest.fixture
def genome(tmp_path: Path) -> str:
    sequences = {name: letters(n, i) for i, (name, n) in enumerate(zip(CONTIGS, (400, 300, 300), strict=True))}
    sequences["one"] = "N" * 60 + sequences["one"][60:200].lower() + "N" * 90 + "R" + sequences["one"][291:]
    return write(tmp_path, sequences)


def bed(folder: Path, *rows: str) -> str:
    (folder / "i.bed").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    return str(folder / "i.bed")


def windows_of(split: WindowSplit | RandomWindows) -> list[bytes]:
    return [split.example(i, None)["inputs"].astype(np.uint8).tobytes() for i in range(len(split))]


def test_a_window_lies_in_a_region_of_its_part(genome: str) -> None:
    data = DnaWindows(fasta=genome, length=20, windows=200, either_strand=False)
    ids = read_encoded(genome).ids.tobytes()
    for part, low, high in (("train", 0, 800), ("validation", 800, 900), ("test", 900, 1000)):
        split = getattr(data, part)
        for i in range(len(split)):
            window = split.example(i, np.random.default_rng((1, i)))["inputs"].astype(np.uint8).tobytes()
            assert window in ids[low:high]


@pytest.mark.parametrize("length", [1, 7, 60, 61, 90, 91, 150])
def test_possible_starts_are_those_with_a_base(genome: str, length: int) -> None:
    found = read_encoded(genome)
    regions = [Region("one", 0, 230), Region("one", 230, 395), Region("three", 5, 300)]
    known = (found.ids >= A) & (found.ids <= T)
    expected = [
        start
        for region in regions
        for start in range(found.offsets[region.contig] + region.start, found.offsets[region.contig] + region.end)
        if start + length <= found.offsets[region.contig] + region.end and known[start : start + length].any()
    ]
    runs = possible_starts(found, regions, length)
    assert [start for low, high in runs.tolist() for start in range(low, high)] == expected
    starts = np.arange(len(found.ids) - length + 1)
    counted = [int((~known[start : start + length]).sum()) for start in starts]
    assert found.unknown(starts, length).tolist() == counted


def test_every_possible_start_is_as_likely(genome: str) -> None:
    found = read_encoded(genome)
    regions = [Region("one", 0, 230), Region("two", 10, 60)]
    split = WindowSplit(found, np.array([0]), 50)
    drawn = RandomWindows(split, regions, count=10)
    possible = np.concatenate([np.arange(low, high) for low, high in possible_starts(found, regions, 50)])
    seen: list[int] = []
    object.__setattr__(split, "window", lambda start, rng: seen.append(start))
    for seed in range(8000):
        drawn.example(0, np.random.default_rng(seed))
    counts = np.array([seen.count(start) for start in possible])
    assert counts.sum() == 8000
    # a binomial count of 8000 draws lies within five standard deviations
    mean = 8000 / len(possible)
    assert (abs(counts - mean) < 5 * np.sqrt(mean)).all()


def test_both_strands_are_drawn(genome: str) -> None:
    data = DnaWindows(fasta=genome, length=20, sampling="tiled")
    plain = data.train.example(3, None)["inputs"]
    seen = [data.train.example(3, np.random.default_rng(i))["inputs"] for i in range(200)]
    turned = [window.tolist() == reverse_complement(plain).tolist() for window in seen]
    assert all(turned[i] or window.tolist() == plain.tolist() for i, window in enumerate(seen))
    assert 65 < sum(turned) < 135
    assert windows_of(DnaWindows(fasta=genome, length=20, sampling="tiled", either_strand=False).train) == windows_of(
        data.train
    )


def test_windows_of_unknown_bases_alone_are_left_out_and_counted(genome: str) -> None:
    data = DnaWindows(fasta=genome, length=20, sampling="tiled")
    # of the first record: 0-60 are N, and so are the whole windows in 200-291, which begin at multiples of 20
    assert data.describe()["windows of unknown bases alone, left out"] == 3 + 4
    assert data.describe()["windows of more than half unknown bases"] == 1
    assert data.describe()["ambiguity codes read as unknown"] == 1
    assert len(data.train) == 800 // 20 - 7
    assert all((np.frombuffer(window, np.uint8) != N).any() for window in windows_of(data.train))


def test_case_and_compression_change_nothing(genome: str, tmp_path: Path) -> None:
    text = Path(genome).read_text()
    (tmp_path / "upper.fa").write_text("".join(x if x[0] == ">" else x.upper() for x in text.splitlines(True)))
    (tmp_path / "packed.fa.gz").write_bytes(gzip.compress(text.encode()))
    expected = DnaWindows(fasta=genome, length=25)
    for name in ("upper.fa", "packed.fa.gz"):
        other = DnaWindows(fasta=str(tmp_path / name), length=25)
        for part in ("train", "validation", "test"):
            assert windows_of(getattr(other, part)) == windows_of(getattr(expected, part))


def test_a_large_genome_is_read_from_a_zarr_store(genome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path / "cache"))
    small = read_encoded(genome)
    monkeypatch.setattr(encoded, "_SMALL", 10)
    for _ in range(2):
        large = read_encoded(genome)
        assert isinstance(large.ids, np.memmap)
        assert (large.ids == small.ids).all()
        assert (large.gaps == small.gaps).all()
        assert (large.iupac, large.offsets, large.lengths) == (small.iupac, small.offsets, small.lengths)
    (store,) = (tmp_path / "cache" / "fasta").iterdir()
    assert (zarr.open_group(store, mode="r")["tokens"][:] == small.ids).all()
    (store / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"a damaged window store .* Delete it and run again"):
        read_encoded(genome)


def test_parts_by_bed_contig_and_place(genome: str, tmp_path: Path) -> None:
    intervals = bed(
        tmp_path, "two 0 100 train", "two 90 150 train", "three 0 50 valid", "one 291 400 test", "three 60 99 test"
    )
    data = DnaWindows(fasta=genome, bed=intervals, length=10)
    assert data.regions == {
        "train": [Region("two", 0, 150)],
        "validation": [Region("three", 0, 50)],
        "test": [Region("one", 291, 400), Region("three", 60, 99)],
    }
    assert {name: len(part) for name, part in data.test_parts.items()} == {"one": 10, "three": 3}
    assert windows_of(data.test) == [window for part in data.test_parts.values() for window in windows_of(part)]
    by_contig = DnaWindows(fasta=genome, validation_contigs=["two"], test_contigs=["one"], length=10)
    assert by_contig.regions["train"] == [Region("three", 0, 300)]
    unnamed = bed(tmp_path, "three 0 100 peak", "one 300 400 peak")
    by_place = DnaWindows(fasta=genome, bed=unnamed, validation=0.2, test=0.25, length=10)
    assert by_place.regions == {
        "train": [Region("one", 300, 400), Region("three", 0, 10)],
        "validation": [Region("three", 10, 50)],
        "test": [Region("three", 50, 100)],
    }


def test_evaluated_windows_are_evenly_spaced(genome: str) -> None:
    parts = {"validation_contigs": ["two"], "test_contigs": ["one"], "length": 10}
    few, all_of_them = DnaWindows(fasta=genome, **parts, evaluated=4), DnaWindows(fasta=genome, **parts)  # type: ignore[arg-type]
    assert windows_of(few.validation) == [windows_of(all_of_them.validation)[i] for i in (0, 10, 19, 29)]
    assert [len(few.validation), len(few.test), len(all_of_them.validation)] == [4, 4, 30]


def test_the_embedded_genome_shows_no_test_base_to_the_training() -> None:
    data = DnaWindows()
    (train,), (test,) = data.regions["train"], data.regions["test"]
    assert train.end <= test.start
    # the second copy of the inverted repeat begins at 128214
    assert test.end == 128214
    text = data.genome.ids[test.start : test.end]
    other = reverse_complement(data.genome.ids[train.start : train.end]).tobytes()
    assert sum(text[i : i + 40].tobytes() in other for i in range(0, len(text), 400)) == 0


@pytest.mark.parametrize(
    ("arguments", "rows", "message"),
    [
        ({"length": 900}, (), r"no window of 900 bases fits into the train regions .*, whose longest .* has 400"),
        ({"validation_contigs": ["tow"], "test_contigs": ["one"]}, (), r"'tow' is not in .*Did you mean 'two'"),
        ({"validation_contigs": ["one"], "test_contigs": ["one"]}, (), "'one' is both in data.validation_contigs and"),
        ({"test_contigs": ["one"]}, (), "no region of .* is for validation"),
        ({}, ("two 0 301 train",), r"i\.bed: line 1: ends at 301, beyond two of 300 letters"),
        ({}, ("Two 0 30 train",), r"i\.bed: line 1: 'Two' is not in .*Did you mean 'two'"),
        ({}, ("two 0 50 train", "two 60 99 vali"), "line 2: 'vali' is no part. Did you mean 'valid'"),
        ({}, ("two 0 50 train", "two 49 99 valid", "one 70 90 test"), "two:49-99 for validation overlaps two:0-50"),
        ({}, ("two 0 50 train", "two 50 99 valid"), r"no region of .* is for test in .*i\.bed\. Name train, valid"),
        ({"test_contigs": ["one"]}, ("two 0 50 train",), "says what is for what; leave out data.validation_contigs"),
        ({"length": 10}, ("two 0 50 train", "two 50 99 valid", "one 0 60 test"), "window of the test regions .* N"),
        ({"validation": 0.5, "test": 0.5}, (), "validation 0.5 and test 0.5, expected shares that leave some to train"),
        ({"windows": 0}, (), "windows is 0, expected at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be(
    arguments: dict[str, object], rows: tuple[str, ...], message: str, genome: str, tmp_path: Path
) -> None:
    intervals = {"bed": bed(tmp_path, *rows)} if rows else {}
    with pytest.raises(InputError, match=message):
        DnaWindows(fasta=genome, **{"length": 10, **intervals, **arguments})  # type: ignore[arg-type]


def test_epochs_draw_other_windows_and_the_same_again(genome: str) -> None:
    data = DnaWindows(fasta=genome, length=16)

    def drawn(seed: int, epoch: int) -> list[list[int]]:
        loader = make_loader(data.train, Batches(size=7), seed=seed, epoch=epoch)
        return [row for batch in loader for row in batch["inputs"].tolist()]

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)


def test_unlabelled_examples_have_no_target(genome: str) -> None:
    assert DnaWindows(fasta=genome, length=16).train.example(0, None)["target"] == IGNORED


def test_a_window_is_what_the_letters_say(tmp_path: Path) -> None:
    sequence = letters(100)
    data = DnaWindows(fasta=write(tmp_path, {"c": sequence}), length=10, sampling="tiled")
    for split, low in ((data.train, 0), (data.validation, 80), (data.test, 90)):
        for i in range(len(split)):
            assert (split.example(i, None)["inputs"] == encode(sequence[low + 10 * i : low + 10 * i + 10])).all()
