"""Published benchmarks in their published layouts."""

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.benchmarks import GenomicBenchmarks, NucleotideTransformer
from helixwave_domains.genomics.fasta import read_fasta, read_records, write_fasta
from helixwave_domains.genomics.labels import read_headers

COLUMNS = "id,region,start,end,strand\n"
CHR22_OFFSET = 32_000_000
TASK = "human_enhancers_cohn"


def letters(count: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count))


def write_tables(folder: Path, rows: dict[tuple[str, str], list[str]]) -> None:
    """Tables of coordinates as the project publishes them; the keys are part and class."""
    for (part, label), lines in rows.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        table = COLUMNS + "".join(f"{i},{line}\n" for i, line in enumerate(lines))
        (folder / part / f"{label}.csv.gz").write_bytes(gzip.compress(table.encode()))


def tables(count: int = 12, region: str = "chr1", strand: str = "+") -> dict[tuple[str, str], list[str]]:
    """Intervals of ten bases that do not overlap."""
    keys = [(part, label) for part in ("train", "test") for label in ("negative", "positive")]
    return {
        key: [f"{region},{10 * (count * n + i)},{10 * (count * n + i) + 10},{strand}" for i in range(count)]
        for n, key in enumerate(keys)
    }


@pytest.fixture
def genome(tmp_path: Path) -> str:
    write_fasta(tmp_path / "g.fa", [("chr1", letters(600)), ("chr2", letters(40, 1))])
    return str(tmp_path / "g.fa")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tables(tmp_path / TASK, tables())
    return tmp_path


def sequences(data: GenomicBenchmarks | NucleotideTransformer) -> dict[str, list[tuple[str, str, str]]]:
    """Name, letters and class of what is in the training file and in the test file."""
    rows = {
        part: list(zip(found.names, found.sequences, [found.classes[i] for i in found.labels], strict=True))
        for part, found in data.parts.items()
    }
    return {"train": sorted(rows["train"] + rows["validation"]), "test": sorted(rows["test"])}


@pytest.mark.parametrize("task", ["human_ensembl_regulatory", "human_ocr_ensembl", "human_enhancers_ensembl"])
def test_published_intervals_give_the_published_sequences(task: str, data_folder: Path, tmp_path: Path) -> None:
    """A subset of the real tables and two pieces of the real genome, of which one begins at 32 Mb."""
    chr1 = read_fasta(data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz")
    chr22 = read_fasta(data_folder / "hg38_chr22_300k" / "hg38_chr22_32000000_32300000.fa")
    write_fasta(tmp_path / "hg38.fa", [("chr1", chr1.fetch("chr1")), ("chr22", chr22.fetch("chr22"))])
    rows = defaultdict(list)
    expected: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    subset = data_folder / "genomic_benchmarks_hg38_subset" / "genomic_benchmarks_hg38_subset.tsv"
    for row in csv.DictReader(subset.read_text().splitlines(), delimiter="\t"):
        if row["dataset"] == task:
            shift = CHR22_OFFSET if row["region"] == "chr22" else 0
            start, end = int(row["start"]) - shift, int(row["end"]) - shift
            rows[row["split"], row["label"]].append(f"{row['region']},{start},{end},{row['strand']}")
            name = f"{row['region']}:{start}-{end}:{row['strand'] or '+'}"
            expected[row["split"]].append((name, row["sequence"], row["label"]))
    write_tables(tmp_path / task, rows)
    data = GenomicBenchmarks(task=task, folder=str(tmp_path), genome=str(tmp_path / "hg38.fa"))
    found = sequences(data)
    for part in ("train", "test"):
        assert [row[1:] for row in found[part]] == [row[1:] for row in sorted(expected[part])]
    assert data.describe()["test intervals that are not in the FASTA, left out"] == f"none of {len(expected['test'])}"


def test_real_promoters_of_both_strands(data_folder: Path, tmp_path: Path) -> None:
    """The strand `-` is the reverse complement: the real table of the promoters of chr1 says so."""
    subset = data_folder / "genomic_benchmarks_hg38_subset" / "genomic_benchmarks_hg38_subset.tsv"
    rows = [
        row
        for row in csv.DictReader(subset.read_text().splitlines(), delimiter="\t")
        if row["dataset"] == "human_nontata_promoters" and row["region"] == "chr1"
    ]
    assert {row["strand"] for row in rows} == {"+", "-"}
    lines = [f"{row['region']},{row['start']},{row['end']},{row['strand']}" for row in rows]
    write_tables(tmp_path / "human_nontata_promoters", {(part, "positive"): lines for part in ("train", "test")})
    write_tables(tmp_path / "human_nontata_promoters", {(part, "negative"): lines for part in ("train", "test")})
    chr1 = str(data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz")
    data = GenomicBenchmarks(task="human_nontata_promoters", folder=str(tmp_path), genome=chr1, validation=0.5)
    positive = [row[1] for row in sequences(data)["test"] if row[2] == "positive"]
    assert sorted(positive) == sorted(row["sequence"] for row in rows)
    assert not data.train.either_strand


def test_validation_is_a_seeded_stratified_tenth_of_the_training_part(folder: Path, genome: str) -> None:
    made = [GenomicBenchmarks(task=TASK, folder=str(folder), genome=genome, split_seed=seed) for seed in (0, 0, 1)]
    assert [len(part) for part in made[0].parts.values()] == [21, 3, 24]
    names = [data.parts["validation"].names for data in made]
    assert names[0] == names[1] != names[2]
    assert abs(np.diff(np.bincount(made[0].validation.labels))[0]) <= 1
    assert {tuple(sequences(data)["test"]) for data in made} == {tuple(sequences(made[0])["test"])}
    assert made[0].metric == "accuracy"
    assert made[0].classes == ["negative", "positive"]


@pytest.mark.parametrize("strand", ["+", "", "-"])
@pytest.mark.parametrize("region", ["chr1", "1"])
def test_coordinates_count_from_zero_on_the_strand_that_the_table_names(
    region: str, strand: str, tmp_path: Path, genome: str
) -> None:
    write_tables(tmp_path / TASK, tables(region=region, strand=strand))
    data = GenomicBenchmarks(task=TASK, folder=str(tmp_path), genome=genome)
    whole = letters(600)
    first = {name: sequence for name, sequence, _ in sequences(data)["train"]}[f"{region}:0-10:{strand or '+'}"]
    assert first == (reverse_complement_string(whole[:10]) if strand == "-" else whole[:10])


def test_what_cannot_be_cut_is_counted_and_said(tmp_path: Path, genome: str, logged: list[str]) -> None:
    rows = tables()
    rows["train", "positive"] += ["chrUn_1,0,10,+", "chrUn_1,5,15,+", "chrY,0,10,+", "chr1,595,605,+"]
    write_tables(tmp_path / TASK, rows)
    data = GenomicBenchmarks(task=TASK, folder=str(tmp_path), genome=genome)
    expected = "4 of 28: 3 on contigs that the FASTA lacks (2 on chrUn_1, 1 on chrY), 1 beyond the end of their contig"
    assert data.describe()["train intervals that are not in the FASTA, left out"] == expected
    assert data.describe()["test intervals that are not in the FASTA, left out"] == "none of 24"
    assert expected in "\n".join(logged)
    assert len(sequences(data)["train"]) == 24


def test_many_missing_contigs_are_listed_shortly(tmp_path: Path, genome: str) -> None:
    rows = tables()
    rows["test", "negative"] += [f"scaffold{i},0,10,+" for i in range(9)]
    write_tables(tmp_path / TASK, rows)
    said = GenomicBenchmarks(task=TASK, folder=str(tmp_path), genome=genome).describe()
    assert said["test intervals that are not in the FASTA, left out"].endswith("1 on scaffold4 and 4 more contigs)")


def test_transcripts_have_versions_in_their_fasta(tmp_path: Path, genome: str) -> None:
    task = "demo_coding_vs_intergenomic_seqs"
    rows = tables()
    coding = {
        (part, "coding_seqs"): [row.replace("chr1", "ENST01") for row in rows[part, "positive"]]
        for part in ("train", "test")
    }
    other = {(part, "intergenomic_seqs"): rows[part, "negative"] for part in ("train", "test")}
    write_tables(tmp_path / task, coding | other)
    cdna = letters(600, 2)
    write_fasta(tmp_path / "cdna.fa", [("ENST02.1", "A"), ("ENST01.7", cdna)])
    data = GenomicBenchmarks(task=task, folder=str(tmp_path), genome=genome, transcripts=str(tmp_path / "cdna.fa"))
    found = {name: (sequence, label) for name, sequence, label in sequences(data)["train"]}
    assert found["ENST01:120-130:+"] == (cdna[120:130], "coding_seqs")
    assert found["chr1:0-10:+"] == (letters(600)[:10], "intergenomic_seqs")


def test_two_species_may_name_their_chromosomes_alike(tmp_path: Path) -> None:
    task = "demo_human_or_worm"
    rows = tables(region="X")
    human = {
        (part, "human"): [row.replace("X", "chrX") for row in rows[part, "positive"]] for part in ("train", "test")
    }
    write_tables(tmp_path / task, human | {(part, "worm"): rows[part, "negative"] for part in ("train", "test")})
    for name, seed in (("human", 3), ("worm", 4)):
        write_fasta(tmp_path / f"{name}.fa", [("X", letters(600, seed))])
    data = GenomicBenchmarks(
        task=task, folder=str(tmp_path), genome=str(tmp_path / "human.fa"), worm=str(tmp_path / "worm.fa")
    )
    found = {name: sequence for name, sequence, _ in sequences(data)["train"]}
    assert found["chrX:120-130:+"] == letters(600, 3)[120:130]
    assert found["X:0-10:+"] == letters(600, 4)[:10]


def test_all_layouts_hold_the_same_sequences(folder: Path, genome: str, tmp_path: Path) -> None:
    cut = sequences(GenomicBenchmarks(task=TASK, folder=str(folder), genome=genome))
    for part, rows in cut.items():
        for i, (_, sequence, label) in enumerate(rows):
            place = tmp_path / "downloaded" / TASK / part / label / f"{i}.txt"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(sequence.lower() + "\n")
    headers = [
        (f"{name} split={part} class={label}", sequence)
        for part, rows in cut.items()
        for name, sequence, label in [*rows, rows[0]]
    ]
    write_fasta(tmp_path / "all.fa", headers)
    from_files = sequences(GenomicBenchmarks(task=TASK, folder=str(tmp_path / "downloaded")))
    from_headers = sequences(GenomicBenchmarks(task=TASK, fasta=str(tmp_path / "all.fa")))
    for part, rows in cut.items():
        assert sorted(row[1:] for row in from_files[part]) == sorted(row[1:] for row in rows)
        # the first record stands in the FASTA twice, under one name
        assert sorted(row[1:] for row in from_headers[part]) == sorted(row[1:] for row in [*rows, rows[0]])


def test_sequences_in_both_published_parts_are_kept_and_counted(folder: Path, genome: str) -> None:
    rows = tables()
    rows["test", "positive"][0] = rows["train", "positive"][0]
    write_tables(folder / TASK, rows)
    data = GenomicBenchmarks(task=TASK, folder=str(folder), genome=genome)
    assert data.describe()["test sequences that are training sequences too"] == 1
    assert len(data.test) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "human_enhancers"}, "no task 'human_enhancers'. Did you mean 'human_enhancers_"),
        ({"worm": "w.fa"}, "human_enhancers_cohn needs data.genome too: the FASTA of its class 'negative'"),
        ({"genome": "g.fa", "worm": "g.fa"}, "data.worm is given, but no class of human_enhancers_cohn is cut from it"),
        ({"genome": "g.fa", "fasta": "g.fa"}, "give either data.fasta or data.genome, not both"),
        ({"genome": "h.fa"}, "h.fa: no such FASTA file"),
        ({}, "train/negative: there is no such folder of text files. Give data.genome to cut the sequences"),
        ({"task": "demo_human_or_worm"}, "Give data.genome and data.worm to cut"),
        ({"genome": "g.fa", "folder": "nowhere"}, "train/negative.csv: no such table of intervals"),
        ({"genome": "g.fa", "validation": 0.0}, "a part is 0.0, expected more than 0"),
        ({"fasta": "g.fa"}, "record 'chr1': expected a header '>name split=train class=CLASS'"),
    ],
)
def test_arguments_that_cannot_be(
    arguments: dict[str, str], message: str, folder: Path, genome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InputError) as caught:
        GenomicBenchmarks(**{"task": TASK, "folder": ".", **arguments})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,region,start,stop,strand\n", "no column 'end', found id, region, start, stop, strand"),
        (COLUMNS + "0,chr1,0,10\n", "line 2: 4 columns, expected at least 5"),
        (COLUMNS + "0,chr1,0,10,+\n1,chr1,-5,10,+\n", "line 3: start '-5' and end '10', expected whole numbers"),
        (COLUMNS + "0,chr1,10,10,+\n", "line 2: start '10' and end '10', expected whole numbers 0 <= start < end"),
        (COLUMNS + "0,chr1,1,2.0,+\n", "line 2: start '1' and end '2.0'"),
        (COLUMNS + "0,chr1,0,10,x\n", "line 2: strand 'x', expected '+', '-' or nothing"),
        (COLUMNS, "has no train sequence of class 'negative'. Is the FASTA of its assembly whole?"),
        (COLUMNS + "0,chr9,0,10,+\n", "has no train sequence of class 'negative'"),
    ],
)
def test_tables_that_cannot_be_read(table: str, message: str, folder: Path, genome: str) -> None:
    (folder / TASK / "train" / "negative.csv.gz").write_bytes(gzip.compress(table.encode()))
    with pytest.raises(InputError) as caught:
        GenomicBenchmarks(task=TASK, folder=str(folder), genome=genome)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ACGQ", "0.txt: unknown letter 'Q' at position 4"),
        (" \n", "0.txt: the text file holds no letters"),
        ("", "0.txt: the text file is empty"),
        (None, "test/positive: there is no such folder. Expected one text file for each sequence of 'positive'"),
    ],
)
def test_text_files_that_cannot_be_read(content: str | None, message: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("negative", "positive"):
            place = tmp_path / TASK / part / label / "0.txt"
            if (part, label) != ("test", "positive") or content is not None:
                place.parent.mkdir(parents=True)
                place.write_text("ACGT")
    if content is not None:
        place.write_text(content)
    with pytest.raises(InputError) as caught:
        GenomicBenchmarks(task=TASK, folder=str(tmp_path))
    assert message in str(caught.value)


def write_task(folder: Path, task: str, n_class: int = 2, ending: str = "fna") -> None:
    """Files as they are published: some names occur more than once."""
    (folder / task).mkdir(parents=True)
    for part, count in (("train", 20 * n_class), ("test", 4 * n_class)):
        records = [(f"P{i // 2}_RAT|{i % n_class}", letters(30, i)) for i in range(count)]
        write_fasta(folder / task / f"{part}.{ending}", records, width=1000)


@pytest.mark.parametrize(
    ("task", "n_class", "metric", "either_strand"),
    [
        ("H3K4me1", 2, "mcc", True),
        ("enhancers_types", 3, "mcc", True),
        ("promoter_tata", 2, "macro_f1", False),
        ("splice_sites_donors", 2, "macro_f1", False),
        ("splice_sites_all", 3, "accuracy", False),
    ],
)
def test_nucleotide_transformer(task: str, n_class: int, metric: str, either_strand: bool, tmp_path: Path) -> None:
    write_task(tmp_path, task, n_class)
    data = NucleotideTransformer(task=task, folder=str(tmp_path))
    assert data.classes == [str(i) for i in range(n_class)]
    assert [len(part) for part in data.parts.values()] == [18 * n_class, 2 * n_class, 4 * n_class]
    assert (data.metric, data.train.either_strand) == (metric, either_strand)
    names = [name for part in data.parts.values() for name in part.names]
    assert sum(name.endswith("#2") for name in names) == len(names) / 2
    assert sequences(data)["test"][0] == ("P0_RAT", letters(30, 0), "0")


@pytest.mark.parametrize("ending", ["fasta", "fa"])
def test_nucleotide_transformer_by_other_endings(ending: str, tmp_path: Path) -> None:
    write_task(tmp_path, "H3", ending=ending)
    assert len(NucleotideTransformer(task="H3", folder=str(tmp_path)).test) == 8


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("H3k4me1", "no task 'H3k4me1'. Did you mean 'H3K4me1'?"),
        ("H4ac", "H4ac/train.fna: no such FASTA file"),
        ("H4", "record 'P': no class in its header, expected '>name|class'"),
        ("H3", "test.fna: record 'P|7': no class '7'. Known: 0, 1."),
    ],
)
def test_nucleotide_transformer_that_cannot_be_read(task: str, message: str, tmp_path: Path) -> None:
    write_task(tmp_path, "H3")
    (tmp_path / "H3" / "test.fna").write_text(">P|7\nACGT\n")
    write_task(tmp_path, "H4")
    (tmp_path / "H4" / "train.fna").write_text(">P\nACGT\n")
    with pytest.raises(InputError) as caught:
        NucleotideTransformer(task=task, folder=str(tmp_path))
    assert message in str(caught.value)


def test_names_may_repeat_where_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">x first|a\nAC\n>x first|b\nGT\n>y|a\nTT\n")
    data = read_headers(tmp_path / "a.fa", "pipe", repeated="number")
    assert data.names == ["x first", "x first#2", "y"]
    assert data.labels.tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="names a second record 'x'"):
        read_headers(tmp_path / "a.fa", "pipe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (">a\nAC\n>\nGT\n", "record 2 has no name. Write '>name' there."),
        (">a\n>b\nAC\n", "record 1, 'a', has no sequence. Remove it, or check the lines below."),
        (">a\nAC\n>b\nA*\n", "b: unknown letter '*' at position 2"),
    ],
)
def test_records_that_cannot_be_read(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(content)
    with pytest.raises(InputError) as caught:
        list(read_records(tmp_path / "a.fa"))
    assert message in str(caught.value)
