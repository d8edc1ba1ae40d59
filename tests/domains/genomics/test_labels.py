import gzip

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.fasta import read_fasta
from helixwave_domains.genomics.labels import (
    Duplicates,
    LabelledSequences,
    read_bed,
    read_class_files,
    read_headers,
    read_table,
    read_uci_splice,
    without_duplicates,
)
from hypothesis import given
from hypothesis import strategies as st

FASTA = ">s1 first\nACGT\n>s2\nggRN\n>s3\nTTTT\n"


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="labels.tsv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return path

    return write_file


def rows_of(data):
    return list(zip(data.names, data.sequences, [data.classes[i] for i in data.labels], strict=True))


@pytest.mark.parametrize(
    "table",
    [
        "name\tlabel\ns3\thigh\ns1\tlow\ns2\tlow\n",
        "s3\thigh\ns1\tlow\ns2\tlow",
        "s3,high\r\ns1,low\r\n\r\ns2,low\r\n",
        "# made by hand\n#name,label\n# a comment\ns3,high\ns1,low\ns2,low\n",
        "# name\tLabel\ns3\thigh\ns1\tlow\ns2\tlow\n",
        'extra,"Class",ID\n"a, b",high,s3\n,low,s1\n1,low,s2',
        "\ufeffid\ty\ns3\thigh\ns1\tlow\ns2\tlow\n",
    ],
)
@pytest.mark.parametrize("name", ["labels.tsv", "labels.tsv.gz"])
def test_table_names_the_records_of_a_fasta(write, table, name):
    data = read_table(write(table, name), write(FASTA, "a.fa"))
    assert rows_of(data) == [("s3", "TTTT", "high"), ("s1", "ACGT", "low"), ("s2", "GGRN", "low")]
    assert data.classes == ["high", "low"]
    assert data.labels.dtype == np.int64
    assert data.iupac == 1
    assert len(data) == 3


def test_table_holds_the_sequences(write):
    data = read_table(write("sequence,label\nacgt,1\nGGRN,0\n"))
    assert rows_of(data) == [("line2", "ACGT", "1"), ("line3", "GGRN", "0")]
    assert rows_of(read_table(write("acgt,1\nGGRN,0\n")))[0] == ("line1", "ACGT", "1")


def test_columns_without_a_header_can_be_explained(write):
    data = read_table(write("high\tx\tone\tACGT\n"), columns=("label", "", "name", "sequence"))
    assert rows_of(data) == [("one", "ACGT", "high")]


def test_numeric_classes_are_in_the_order_of_numbers(write):
    assert read_table(write("A,10\nC,9\nG,-1\n")).classes == ["-1", "9", "10"]


def test_given_classes_keep_their_order(write):
    data = read_table(write("A,b\nC,a\n"), classes=["b", "a", "unseen"])
    assert data.labels.tolist() == [0, 1]
    assert data.classes == ["b", "a", "unseen"]


def test_records_without_a_label_can_be_skipped(write):
    assert len(read_table(write("s1\tlow\n"), write(FASTA, "a.fa"), unlabelled="skip")) == 1


def test_rows_can_be_kept_by_column(data_folder):
    path = data_folder / "genomic_benchmarks_hg38_subset" / "genomic_benchmarks_hg38_subset.tsv"
    data = read_table(path, keep={"dataset": "human_nontata_promoters", "split": "test"})
    everything = read_table(path)
    assert 0 < len(data) < len(everything) == 313
    with pytest.raises(InputError, match=r"no column named 'spilt'. Did you mean 'split'"):
        read_table(path, keep={"spilt": "test"})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "table of labels is empty"),
        ("\n\n", "the table holds no row."),
        ("name\tlabel\n", "the table holds no row."),
        ("s1\tlow\ns11\tlow\n", r"labels.tsv: line 2: 's11' is not in .*a.fa. Did you mean 's1'\? Known: s1, s2, s3"),
        ("s1\tlow\n", "2 of 3 sequences have no label in .*labels.tsv: 's2', 's3'. Add them to the table"),
        ("s1\tlow\ns2\tlow\ns1\thigh\ns3\tlow\n", "'s1' named more than once"),
        ("s1\tlow\ns2\n", "line 2: 1 columns, expected at least 2"),
        ("s1\tlow\ns2\t\n", "line 2: the label is empty"),
        ("name\tlabel\n\tlow\n", "line 2: the name is empty"),
        ("s1\tlow\t3\n", "line 1 names no columns and has 3 cells. Write a header"),
        ("sequence\tlabel\nACGT\tlow\n", "no column for the name. Expected one named name, id, seqid"),
    ],
)
def test_wrong_table_for_a_fasta_is_refused(write, table, message):
    with pytest.raises(InputError, match=message) as error:
        read_table(write(table), write(FASTA, "a.fa"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name\tlabel\ns1\tlow\n", "no column for the sequence. .* or name the FASTA that holds the sequences"),
        ("ACGT\tlow\nAC?T\tlow\n", r"line 2: line2: unknown letter '\?' at position 3"),
        ("sequence\tlabel\n\tlow\n", "line 2: the sequence is empty"),
        ("A" * 200_000 + ",low\n", "line 1 is no CSV .*A table with tabs has no such limits"),
    ],
)
def test_wrong_table_of_sequences_is_refused(write, table, message):
    with pytest.raises(InputError, match=message):
        read_table(write(table))


def test_unknown_class_is_refused_with_the_nearest(write):
    with pytest.raises(InputError, match=r"line 2: no class 'hihg'. Did you mean 'high'\? Known: high, low"):
        read_table(write("A\tlow\nC\thihg\n"), classes=["high", "low"])


def test_rows_cannot_be_kept_without_a_header(write):
    with pytest.raises(InputError, match="where line 1 names the columns"):
        read_table(write("A\tlow\n"), keep={"split": "train"})


def test_long_list_of_unlabelled_is_cut(write):
    fasta = write("".join(f">r{i}\nA\n" for i in range(20)), "many.fa")
    with pytest.raises(InputError, match=r"19 of 20 sequences .*'r5' and 14 more"):
        read_table(write("r0\tlow\n"), fasta)


def test_bed_cuts_out_both_strands(write):
    bed = "track name=x\n#chrom\nc\t0\t3\tpeak\nc\t2\t6\tnone\t0\t-\nc\t2\t6\tpeak\t0\t-\n"
    data = read_bed(write(bed, "a.bed"), write(">c\nAACG\nTTR\n", "c.fa"))
    assert rows_of(data) == [
        ("c:0-3:.", "AAC", "peak"),
        ("c:2-6:-", "AACG", "none"),
        ("c:2-6:-#2", "AACG", "peak"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c\t0\t9\tpeak", "a.bed: line 2: ends at 9, beyond c of 7 letters. Is this the right assembly"),
        ("c\t3\t3\tpeak", "line 2: start 3 and end 3, expected 0 <= start < end"),
        ("c\t-1\t3\tpeak", "line 2: start -1 and end 3"),
        ("c\tone\t3\tpeak", "line 2: 'one' is no coordinate, expected a whole number"),
        ("c\t0\t3", "line 2: column 4 is missing or empty, expected the class"),
        ("chrc\t0\t3\tpeak", "line 2: 'chrc' is not in .*c.fa. The file says 'c' where you say 'chrc'"),
        ("c\t0\t3\tpeak\t0\tplus", "line 2: strand 'plus', expected"),
    ],
)
def test_wrong_interval_is_refused(write, line, message):
    with pytest.raises(InputError, match=message):
        read_bed(write(f"c 0 1 peak\n{line}\n", "a.bed"), write(">c\nAACG\nTTR\n", "c.fa"))


def test_bed_without_intervals_is_refused(write):
    with pytest.raises(InputError, match="the BED file holds no interval"):
        read_bed(write("# nothing\n", "a.bed"), write(FASTA, "a.fa"))


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        ("word", ["a high and dry", "b low"]),
        ("pipe", ["a|high", "b|low"]),
        ("key", ["a x=1 label=high y=2", "b Class=low"]),
    ],
)
def test_headers_give_the_class(write, style, headers):
    path = write(f">{headers[0]}\nAC\n>{headers[1]}\nGT\n", "a.fa")
    assert rows_of(read_headers(path, style)) == [("a", "AC", "high"), ("b", "GT", "low")]


@pytest.mark.parametrize(
    ("style", "expected"), [("word", "'>name class'"), ("pipe", r"'>name\|class'"), ("key", "'>name label=class'")]
)
def test_header_without_a_class_is_refused(write, style, expected):
    with pytest.raises(InputError, match=f"record 'a': no class in its header, expected {expected}"):
        read_headers(write(">a\nAC\n", "a.fa"), style)


def test_names_that_become_alike_are_refused(write):
    with pytest.raises(InputError, match="'a' named more than once"):
        read_headers(write(">a|high\nAC\n>a|low\nAC\n", "a.fa"), "pipe")


def test_unknown_label_style_is_refused(write):
    with pytest.raises(InputError, match=r"no label style 'words'. Did you mean 'word'"):
        read_headers(write(FASTA, "a.fa"), "words")


def test_a_file_per_class(write):
    files = {"peak": [write(">1\nAC\n", "a.fa"), write(">1\nGG\n", "b.fa")], "none": write(">2\nGT\n", "c.fa")}
    data = read_class_files(files)
    assert rows_of(data) == [("1", "AC", "peak"), ("1#2", "GG", "peak"), ("2", "GT", "none")]
    assert data.classes == ["peak", "none"]
    with pytest.raises(InputError, match="no FASTA file was given"):
        read_class_files({})


def test_chip_seq_files_read_as_classes(data_folder):
    folder = data_folder / "nfe2_chipseq"
    data = read_class_files({"peak": folder / "nfe2.test.fa", "background": folder / "nfe2.neg.test.fa"})
    assert np.bincount(data.labels).tolist() == [69, 69]


def test_uci_splice_junctions(data_folder):
    data = read_uci_splice(data_folder / "uci_splice" / "spliceData.txt")
    assert data.classes == ["EI", "IE", "N"]
    assert np.bincount(data.labels).tolist() == [767, 768, 1655]
    assert {len(sequence) for sequence in data.sequences} == {60}
    assert len(set(data.names)) == len(data)
    assert data.iupac == sum(letter in "DSR" for sequence in data.sequences for letter in sequence) > 0
    once, taken = without_duplicates(data)
    assert len(once) + taken.repeated + taken.conflicting == len(data)
    assert len(set(data.sequences)) - len(once) == len({s for s in data.sequences if s not in set(once.sequences)})


def test_intervals_of_a_genome_read_as_in_the_benchmark(data_folder, tmp_path):
    table = data_folder / "genomic_benchmarks_hg38_subset" / "genomic_benchmarks_hg38_subset.tsv"
    source = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    bed, expected = tmp_path / "a.bed", []
    lines = []
    for line in table.read_text().splitlines()[1:]:
        _, _, label, chrom, start, end, strand, sequence = line.split("\t")
        if chrom == "chr1":
            lines.append(f"{chrom}\t{start}\t{end}\t{label}\t0\t{strand or '.'}\n")
            expected.append(sequence)
    bed.write_text("".join(lines))
    assert read_bed(bed, source).sequences == expected
    assert read_fasta(source).names == ["chr1"]


def labelled(pairs):
    return LabelledSequences(
        names=[str(i) for i in range(len(pairs))],
        sequences=[sequence for sequence, _ in pairs],
        labels=np.array([label for _, label in pairs], dtype=np.int64),
        classes=["a", "b"],
        iupac=0,
    )


def test_duplicates_are_counted():
    pairs = [("AC", 0), ("GT", 1), ("AC", 0), ("GT", 0), ("R", 1), ("AC", 0)]
    data, taken = without_duplicates(labelled(pairs))
    assert rows_of(data) == [("0", "AC", "a"), ("4", "R", "b")]
    assert taken == Duplicates(repeated=2, conflicting=2)
    assert data.iupac == 1


@given(st.lists(st.tuples(st.text("AC", min_size=1, max_size=3), st.integers(0, 1)), max_size=20))
def test_what_is_left_has_each_sequence_once_and_its_only_label(pairs):
    data, taken = without_duplicates(labelled(pairs))
    assert len(set(data.sequences)) == len(data) == len(pairs) - taken.repeated - taken.conflicting
    for sequence, label in zip(data.sequences, data.labels.tolist(), strict=True):
        assert {other for text, other in pairs if text == sequence} == {label}
    assert without_duplicates(data)[1] == Duplicates(0, 0)


def test_strand_matters_to_duplicates():
    data, _ = without_duplicates(labelled([("AACC", 0), (reverse_complement_string("AACC"), 0)]))
    assert len(data) == 2
