import builtins
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.annotation import read_genome, write_coding_table
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.genome import (
    FRAME_CLASSES,
    IGNORED,
    CodingSegment,
    Genome,
    exclude_inverted_repeat,
    labels,
    reverse_complement,
    reverse_complement_labels,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SHIPPED = Path(__file__).parents[3] / "data_cards" / "arabidopsis_chloroplast"
STOPS = {"TAA", "TAG", "TGA"}
LENGTH = 60


@pytest.fixture
def write(tmp_path):
    def write_file(content, name):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return path

    return write_file


@pytest.fixture
def chloroplast(data_folder):
    return read_genome(data_folder / "arabidopsis_chloroplast" / "NC_000932.gb")[0]


@pytest.fixture
def from_gff(write):
    """Labels of a contig `c` of 60 bases with the given lines of GFF3."""

    def read(*lines, contig="c"):
        text = "##gff-version 3\n" + "".join("\t".join(line.split()) + "\n" for line in lines)
        return read_genome(write(f">{contig}\n{'A' * LENGTH}\n", "c.fa"), write(text, "c.gff3"))[0]

    return read


@pytest.fixture
def from_genbank(write):
    """Labels of a GenBank record of 60 bases with the given features `(key, location, qualifier...)`."""

    def read(*features, **changes):
        return read_genome(write(genbank(features, **changes), "c.gb"))[0]

    return read


def genbank(features, length=LENGTH, sequence="a" * LENGTH, end="//\n"):
    lines = [f"LOCUS       c {length:>24} bp    DNA     circular PLN 15-APR-2009", "ACCESSION   c", "VERSION     c.1"]
    lines.append("FEATURES             Location/Qualifiers")
    for key, location, *qualifiers in features:
        lines += [f"     {key:<16}{location}", *(f"{'':21}/{qualifier}" for qualifier in qualifiers)]
    lines.append("ORIGIN")
    for i in range(0, len(sequence), 60):
        blocks = [sequence[j : j + 10] for j in range(i, min(i + 60, len(sequence)), 10)]
        lines.append(f"{i + 1:>9} {' '.join(blocks)}")
    return "\n".join(lines) + "\n" + end


def text(values):
    """Labels as one character each: `.` for intergenic, `x` for ignored."""
    return "".join({0: ".", IGNORED: "x"}.get(value, str(value)) for value in values.tolist())


def genome(*segments, ignored=(), excluded=(), length=12):
    return Genome("c", "A" * length, sorted(CodingSegment(*s) for s in segments), list(ignored), list(excluded))


@st.composite
def genomes(draw):
    length = draw(st.integers(1, 40))
    starts = st.integers(0, length - 1)
    intervals = starts.flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, length)))
    segments = st.builds(
        lambda interval, strand, phase: CodingSegment(*interval, strand, phase),
        intervals,
        st.sampled_from("+-"),
        st.integers(0, 2),
    )
    return Genome(
        "c",
        draw(st.text("ACGTN", min_size=length, max_size=length)),
        sorted(draw(st.sets(segments, max_size=4))),
        sorted(draw(st.sets(intervals, max_size=2))),
        sorted(draw(st.sets(intervals, max_size=1))),
    )


def test_seven_classes():
    assert FRAME_CLASSES == ["intergenic", "+1", "+2", "+3", "-1", "-2", "-3"]


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((3, 9, "+", 0), "...123123..."),
        ((3, 9, "-", 0), "...654654..."),
        ((3, 9, "+", 1), "...312312..."),
        ((3, 9, "+", 2), "...231231..."),
        ((3, 9, "-", 1), "...546546..."),
        ((3, 8, "-", 0), "...54654...."),
    ],
)
def test_labels_of_a_segment(segment, expected):
    assert text(labels(genome(segment))) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (genome((0, 6, "+", 0), (3, 9, "+", 0)), "123123123..."),
        (genome((0, 6, "+", 0), (4, 10, "+", 0)), "1231xx3123.."),
        (genome((0, 6, "+", 0), (3, 9, "-", 0)), "123xxx654..."),
        (genome((0, 6, "+", 0), (0, 6, "+", 1), (0, 6, "+", 0)), "xxxxxx......"),
        (genome((3, 6, "+", 0), ignored=[(1, 8)]), ".xx123xx...."),
        (genome((3, 6, "+", 0), excluded=[(5, 8)]), "...12xxx...."),
    ],
    ids=["same frame", "two frames", "two strands", "three times", "coding in an intron", "excluded"],
)
def test_what_is_stronger(case, expected):
    assert text(labels(case)) == expected


@settings(deadline=None)
@given(genomes())
def test_labelling_commutes_with_the_other_strand(case):
    np.testing.assert_array_equal(reverse_complement_labels(labels(case)), labels(reverse_complement(case)))


@settings(deadline=None)
@given(genomes())
def test_other_strand_twice_is_the_same(case):
    assert reverse_complement(reverse_complement(case)) == case
    once = reverse_complement_labels(labels(case))
    np.testing.assert_array_equal(reverse_complement_labels(once), labels(case))
    assert once.dtype == np.int8


@settings(max_examples=30, deadline=None)
@given(genomes().filter(lambda case: case.cds))
def test_table_and_fasta_hold_all_of_a_genome(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("genome")
    write_fasta(folder / "c.fa", [(case.name, case.sequence)], width=7)
    write_coding_table(case, folder / "coding.tsv")
    (again,) = read_genome(folder / "c.fa", folder / "coding.tsv")
    assert (again.name, again.sequence, again.cds) == (case.name, case.sequence, case.cds)
    np.testing.assert_array_equal(labels(again), labels(case))


def test_shipped_chloroplast_is_the_record_of_genbank(chloroplast):
    (shipped,) = read_genome(SHIPPED / "NC_000932.fasta", SHIPPED / "coding.tsv")
    assert shipped.excluded == [(128_214, 154_478)]
    assert replace(shipped, excluded=[]) == chloroplast
    assert exclude_inverted_repeat(chloroplast) == shipped
    np.testing.assert_array_equal(labels(shipped)[:128_214], labels(chloroplast)[:128_214])


def test_excluded_repeat_is_the_other_strand_of_the_first_one():
    (shipped,) = read_genome(SHIPPED / "NC_000932.fasta", SHIPPED / "coding.tsv")
    assert shipped.sequence[128_214:154_478] == reverse_complement_string(shipped.sequence[84_170:110_434])
    assert len(shipped.sequence) == 154_478


def test_shipped_chloroplast_reads_as_proteins():
    (shipped,) = read_genome(SHIPPED / "NC_000932.fasta", SHIPPED / "coding.tsv")
    assert shipped.odd_lengths == 0
    codons = [codon for _, codon in whole_codons(shipped)]
    assert len(codons) > 20_000
    assert sum(codon in STOPS for codon in codons) < 100


@pytest.mark.parametrize("strand", "+-")
def test_genes_begin_with_a_start_and_end_with_a_stop(chloroplast, strand):
    turned = chloroplast if strand == "+" else reverse_complement(chloroplast)
    alone = [s for s in turned.cds if s.strand == "+" and not touches_intron(s, turned)]
    target = labels(turned)
    genes = [turned.sequence[s.start : s.end] for s in alone if (target[s.start : s.end] > 0).all()]
    assert len(genes) > 15
    starts = sum(gene[:3] in {"ATG", "GTG", "ACG"} for gene in genes)
    stops = sum(gene[-3:] in STOPS for gene in genes)
    assert starts > 0.95 * len(genes)
    assert stops > 0.95 * len(genes)
    for segment in alone:
        inside = {turned.sequence[i : i + 3] for i in range(segment.start, segment.end - 3, 3)}
        assert not inside & STOPS


def whole_codons(case):
    """Start and letters of each codon that the labels show whole, of both strands."""
    for turned in (case, reverse_complement(case)):
        target = labels(turned)
        for i in np.flatnonzero((target[:-2] == 1) & (target[1:-1] == 2) & (target[2:] == 3)).tolist():
            yield i, turned.sequence[i : i + 3]


def touches_intron(segment, case):
    return any(segment.start == end or segment.end == start for start, end in case.ignored) or (
        segment.phase != 0 or (segment.end - segment.start) % 3 != 0
    )


def test_codon_goes_on_over_an_intron_on_both_strands(from_genbank):
    forward = from_genbank(("CDS", "join(1..4,8..12)"))
    assert text(labels(forward)) == "1231xxx23123" + "." * 48
    other = from_genbank(("CDS", "complement(join(1..4,8..12))"))
    assert text(labels(other)) == "6546xxx54654" + "." * 48
    assert [s.phase for s in forward.cds] == [0, 2]
    assert forward.odd_lengths == 0


def test_coding_over_the_origin(from_genbank):
    case = from_genbank(("CDS", "join(56..60,1..4)"))
    assert text(labels(case)) == "3123" + "." * 51 + "12312"
    case = from_genbank(("CDS", "complement(join(56..60,1..4))"))
    assert text(labels(case)) == "4654" + "." * 51 + "65465"


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        (("CDS", "<1..>6", "codon_start=2"), "312312"),
        (("CDS", "<1..6", "codon_start=3"), "231231"),
        (("CDS", "complement(<1..>6)", "codon_start=2"), "546546"),
        (("CDS", "(1.3)..6"), "123123"),
        (("CDS", "1..6", "pseudo"), "xxxxxx"),
        (("CDS", "1..6", 'pseudogene="unknown"'), "xxxxxx"),
        (("gene", "1..6", "pseudo"), "xxxxxx"),
        (("tRNA", "join(1..2,5..6)"), "xxxxxx"),
        (("mRNA", "1..6"), "......"),
        (("CDS", "join(1..3,J00194.1:1..4,4..6)"), "123231"),
    ],
)
def test_features_of_genbank(from_genbank, feature, expected):
    case = from_genbank(feature, ("CDS", "50..52"))
    assert text(labels(case))[:10] == expected + "...."


def test_trans_spliced_gene_does_not_mask_half_the_genome(chloroplast):
    assert max(end - start for start, end in chloroplast.ignored) < 10_000
    assert text(labels(chloroplast)[69_610:69_724]).endswith("654")


def test_odd_lengths_are_kept_and_counted(from_genbank, from_gff):
    case = from_genbank(("CDS", "1..7"), ("CDS", "10..15"), ("CDS", "20..26", "codon_start=2"))
    assert case.odd_lengths == 1
    assert len(case.cds) == 3
    assert from_gff("c . CDS 1 7 . + 0 ID=a").odd_lengths == 1


def test_overlapping_genes_of_a_phage(data_folder):
    (phage,) = read_genome(data_folder / "genbank_misc" / "NC_001422.gbk")
    target = labels(phage)
    # gene E lies within gene D, in another frame
    assert (target[567:843] == IGNORED).all()
    # gene A* is the end of gene A, in the same frame
    assert (target[4496:5074] > 0).all()


def test_genbank_may_be_packed(write):
    (case,) = read_genome(write(genbank([("CDS", "1..6")]), "c.gb.gz"))
    assert case.name == "c.1"


def test_several_records(write):
    text_of_both = genbank([("CDS", "1..6")]) + genbank([]).replace("c.1", "d.1").replace(
        "ACCESSION   c", "ACCESSION   d"
    )
    assert [case.name for case in read_genome(write(text_of_both, "both.gb"))] == ["c.1", "d.1"]


@pytest.mark.parametrize(
    ("features", "changes", "message"),
    [
        ([("gene", "1..6")], {}, r"no coding sequence \(CDS\) is annotated"),
        ([("CDS", "1..6")], {"sequence": ""}, "has no sequence. Download the full record"),
        ([("CDS", "1..6")], {"length": 90}, "malformed GenBank file: Expected sequence length 90, found 60"),
        ([("CDS", "1..six", 'gene="rps1"')], {}, "c.gb: c.1: CDS rps1: its place is not known. Correct the location"),
        ([("tRNA", "join(1..2,order(3..4,5..6))")], {}, "c.1: tRNA without a name: its place is not known"),
        ([("CDS", "?..6")], {}, "its place is not known"),
        ([("CDS", "50..70")], {}, "c.gb: c.1: CDS .*: outside the record of 60 letters"),
        ([("CDS", "1..6", "codon_start=4")], {}, "codon_start '4', expected 1, 2 or 3"),
        ([("CDS", "1..6")], {"sequence": "a" * 59 + "!"}, "c.gb: c.1: unknown letter '!' at position 60"),
    ],
)
def test_wrong_genbank_is_refused(from_genbank, features, changes, message):
    with pytest.raises(InputError, match=message) as error:
        from_genbank(*features, **changes)
    assert "\n" not in str(error.value)


def test_cut_off_genbank_is_refused(write):
    whole = genbank([("CDS", "1..6")])
    for part in (whole[:60], whole[: whole.index("ORIGIN")], whole[: whole.index("ORIGIN") + 30]):
        with pytest.raises(InputError, match=r"malformed|has no sequence|no complete GenBank record"):
            read_genome(write(part, "c.gb"))


def test_missing_biopython_is_told(write, monkeypatch):
    path = write(genbank([("CDS", "1..6")]), "c.gb")
    whole = builtins.__import__

    def without_biopython(name, *args):
        if name == "Bio":
            raise ImportError
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_biopython)
    with pytest.raises(InputError, match=r"pip install 'helixwave\[genomics\]'"):
        read_genome(path)


def test_gff3_gives_what_genbank_gives(from_genbank, from_gff):
    record = from_genbank(
        ("CDS", "join(1..4,8..12)"), ("CDS", "complement(join(20..24,30..33))"), ("tRNA", "40..45"), ("CDS", "50..52")
    )
    gff = from_gff(
        "c . region 1 60 . + . ID=c",
        "c . CDS 8 12 . + 2 ID=cds1;Parent=g1",
        "c . CDS 1 4 . + 0 ID=cds1;Parent=g1",
        "c . mRNA 20 33 . - . ID=t2",
        "c . CDS 20 24 . - 2 ID=x;Parent=t2",
        "c . CDS 30 33 . - 0 ID=y;Parent=t2",
        "c . tRNA 40 45 . - . ID=t",
        "c . CDS 50 52 . + 0 Note=alone",
    )
    assert text(labels(gff)) == text(labels(record))
    assert gff.cds == record.cds


def test_circular_gff3_goes_over_the_origin(from_gff, from_genbank):
    gff = from_gff("c . region 1 60 . + . ID=c;Is_circular=true", "c . CDS 56 64 . + 0 ID=a", "c . tRNA 58 62 . + .  .")
    assert text(labels(gff)) == "3123" + "." * 51 + "12312"
    gff = from_gff("c . region 1 60 . + . ID=c;Is_circular=true", "c . CDS 56 64 . - 0 ID=a")
    assert text(labels(gff)) == text(labels(from_genbank(("CDS", "complement(join(56..60,1..4))"))))


def test_gff3_pseudogenes_long_introns_and_escapes(from_gff):
    case = from_gff(
        "a%3Bb . pseudogene 1 4 . + . ID=p",
        "a%3Bb . CDS 10 12 . + 0 ID=q;pseudo=true",
        "a%3Bb . CDS 20 22 . + 0 ID=c%3D1",
        contig="a;b",
    )
    assert text(labels(case)) == "xxxx.....xxx" + "." * 7 + "123" + "." * 38


def test_exon_of_several_transcripts_ends_an_intron_in_each(from_gff):
    case = from_gff(
        "c . CDS 1 3 . + 0 ID=x1;Parent=t1,t2",
        "c . CDS 6 8 . + 0 ID=x2;Parent=t1",
        "c . CDS 11 13 . + 0 ID=x3;Parent=t1,t2",
    )
    assert text(labels(case)) == "123xx123xx123" + "." * 47
    assert case.odd_lengths == 0


def test_long_gap_is_no_intron(write):
    fasta = write(">c\n" + "A" * 20_000 + "\n", "c.fa")
    lines = ["c\t.\tCDS\t1\t3\t.\t+\t0\tID=a", "c\t.\tCDS\t10004\t10006\t.\t+\t0\tID=a"]
    (case,) = read_genome(fasta, write("\n".join(lines), "c.gff"))
    assert case.ignored == [(3, 10_003)]
    (case,) = read_genome(fasta, write("\n".join(lines).replace("10004", "10005"), "c.gff"))
    assert case.ignored == []


def test_sequence_within_a_gff3_is_passed_over(write):
    gff = "##gff-version 3\nc\t.\tCDS\t1\t3\t.\t+\t0\tID=a\n##FASTA\n>c\nAAAA\n"
    (case,) = read_genome(write(">c\nAAAA\n", "c.fa"), write(gff, "c.gff3"))
    assert text(labels(case)) == "123."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c . CDS 1 3 . + 0", "c.gff3: line 2: 8 columns, expected the 9 of GFF3"),
        ("c . CDS one 3 . + 0 ID=a", "line 2: 'one' is no position"),
        ("c . CDS 0 3 . + 0 ID=a", "line 2: start 0 and end 3, expected 1 <= start <= end"),
        ("c . CDS 5 3 . + 0 ID=a", "line 2: start 5 and end 3"),
        ("c . CDS 1 3 . + . ID=a", "line 2: CDS with strand '\\+' and phase '.', expected"),
        ("c . CDS 1 3 . . 0 ID=a", "line 2: CDS with strand '.' and phase '0'"),
        ("c . CDS 59 61 . + 0 ID=a", "line 2: ends at 61, beyond c of 60 letters. Do the FASTA and the annotation"),
        ("chrc . CDS 1 3 . + 0 ID=a", "line 2: 'chrc' is not in the FASTA. The file says 'c' where you say 'chrc'"),
        ("c . gene 1 3 . + . ID=a", r"c.gff3: no coding sequence \(CDS\) is annotated"),
        ('c . CDS 1 3 . + 0 gene_id"a";', "line 2: attributes 'gene_id.*A GTF\\? Convert it to GFF3"),
    ],
)
def test_wrong_gff3_is_refused(from_gff, line, message):
    with pytest.raises(InputError, match=message):
        from_gff(line)


def test_old_gff_is_refused(write):
    with pytest.raises(InputError, match="GFF version 2, expected 3"):
        read_genome(write(">c\nA\n", "c.fa"), write("##gff-version 2\n", "c.gff"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c\tcds\t0\t3\t+", "coding.tsv: line 2: 5 columns, expected contig, kind, start, end, strand, phase"),
        ("d\tcds\t0\t3\t+\t0", "line 2: 'd' is not in the FASTA"),
        ("c\tcds\t0\t61\t+\t0", "line 2: 0-61, expected 0 <= start < end <= 60"),
        ("c\tcds\tx\t3\t+\t0", "line 2: 'x' is no position"),
        ("c\tcds\t0\t3\t.\t.", "line 2: kind 'cds', strand '.', phase '.'; expected cds with"),
        ("c\tgene\t0\t3\t+\t0", "line 2: kind 'gene'"),
        ("c\tignored\t0\t3\t.\t.", "no coding sequence"),
    ],
)
def test_wrong_table_is_refused(write, row, message):
    header = "contig\tkind\tstart\tend\tstrand\tphase\n"
    with pytest.raises(InputError, match=message):
        read_genome(write(f">c\n{'A' * LENGTH}\n", "c.fa"), write(f"{header}{row}\n", "coding.tsv"))


def test_fasta_without_an_annotation_is_refused(write):
    with pytest.raises(InputError, match=r"a FASTA needs an annotation: name a GFF3 file"):
        read_genome(write(">c\nA\n", "c.fa"))


def test_genbank_with_another_annotation_is_refused(write):
    with pytest.raises(InputError, match=r"a GenBank file brings its own annotation; leave out x.gff3"):
        read_genome(write(genbank([("CDS", "1..6")]), "c.gb"), "x.gff3")


def test_missing_files_are_told(write):
    fasta = write(">c\nA\n", "c.fa")
    with pytest.raises(InputError, match=r"no such annotation. Did you mean 'c.fa'"):
        read_genome(fasta, fasta.with_name("c.gff"))
    with pytest.raises(InputError, match="no such genome"):
        read_genome(fasta.with_name("c.gb"))


def test_genome_without_a_repeat_is_told():
    with pytest.raises(InputError, match="c: no exact inverted repeat of 1000 letters"):
        exclude_inverted_repeat(Genome("c", "ACGGT" * 300, []))


@settings(max_examples=20, deadline=None)
@given(st.integers(1000, 1700), st.integers(0, 700), st.integers(0, 700), st.integers(0, 700), st.integers(0, 9))
def test_repeat_is_found_wherever_it_lies(size, before, between, after, seed):
    letters = np.random.default_rng(seed).choice(list("ACGT"), before + size + between + after)
    whole = "".join(letters)
    first = whole[before : before + size]
    sequence = whole[: before + size + between] + reverse_complement_string(first) + whole[before + size + between :]
    ((start, end),) = exclude_inverted_repeat(Genome("c", sequence, [])).excluded
    # by chance the letters around the two copies may agree as well
    assert start <= before + size + between < before + 2 * size + between <= end
    assert end - start <= size + 16
