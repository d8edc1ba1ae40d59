import errno
import gzip
import itertools
import os
import sys
import tracemalloc

import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.annotate import InfoField, annotate_vcf
from helixwave_domains.genomics.sources import is_bgzf
from helixwave_domains.genomics.variants import count_alleles, read_alleles

pysam = pytest.importorskip("pysam")
pytest.importorskip("Bio")

FIELDS = [
    InfoField("HW_score", "Float", 'log p(alt) - log p(ref), "sum"'),
    InfoField("HW_status", "String", "what became of the allele"),
]
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADER = f"##fileformat=VCFv4.2\n##contig=<ID=1,length=100>\n{COLUMNS}\n"
OURS = (
    '##INFO=<ID=HW_score,Number=A,Type=Float,Description="log p(alt) - log p(ref), \\"sum\\"">\n'
    '##INFO=<ID=HW_status,Number=A,Type=String,Description="what became of the allele">\n'
    "##helixwave_command=helixwave score a.vcf\n"
)


@pytest.fixture
def annotate(tmp_path):
    def annotated(content, rows, name="b.vcf"):
        source = tmp_path / "a.vcf"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        annotate_vcf(source, tmp_path / name, FIELDS, rows, command="helixwave score\na.vcf")
        return (tmp_path / name).read_bytes()

    return annotated


def numbered(count):
    return [(i + 0.5, "ok") for i in range(count)]


def without_ours(line):
    """A line as it was before its INFO was added to."""
    cells = line.split(b"\t")
    if line.startswith(b"#") or len(cells) < 8:
        return line
    end = cells[7][len(cells[7].rstrip(b"\r\n")) :]
    kept = [entry for entry in cells[7].rstrip(b"\r\n").split(b";") if not entry.startswith(b"HW_")]
    return b"\t".join([*cells[:7], (b";".join(kept) or b".") + end, *cells[8:]])


def test_values_stand_in_the_order_of_the_alts(annotate):
    records = "1\t3\trs1\tG\tA,T\t9\tPASS\tDP=3;DB\tGT\t0|1\n1\t4\t.\tG\t.\t.\t.\t.\tGT\t0|1\n"
    header = HEADER.replace("INFO\n", "INFO\tFORMAT\tNA1\n")
    rows = [(0.1234567, "ok"), (None, "longer_than_window"), (float("nan"), "no_alt")]
    assert annotate(header + records, rows).decode() == (
        header.replace("#CHROM", OURS + "#CHROM")
        + "1\t3\trs1\tG\tA,T\t9\tPASS\tDP=3;DB;HW_score=0.123457,.;HW_status=ok,longer_than_window\tGT\t0|1\n"
        + "1\t4\t.\tG\t.\t.\t.\tHW_score=.;HW_status=no_alt\tGT\t0|1\n"
    )


def test_an_independent_reader_gets_the_values(annotate, tmp_path):
    annotate(HEADER + "1\t3\t.\tG\tA,T\t.\t.\t.\n", [(-1.5, "ok"), (None, "swapped")])
    with pysam.VariantFile(str(tmp_path / "b.vcf")) as file:
        (record,) = file
        assert record.info["HW_score"] == (-1.5, None)
        assert record.info["HW_status"] == ("ok", "swapped")
        assert file.header.info["HW_score"].number == "A"


@pytest.mark.parametrize("ending", [".vcf.gz", ".vcf.bgz", ".VCF.GZ"])
def test_bgzf_by_its_ending(annotate, tmp_path, ending):
    content = HEADER + "".join(f"1\t{i}\t.\tG\tA\t.\t.\t.\n" for i in range(1, 3000))
    plain = annotate(content, numbered(2999))
    assert gzip.decompress(annotate(content, numbered(2999), f"c{ending}")) == plain
    assert is_bgzf(tmp_path / f"c{ending}")
    assert count_alleles(tmp_path / f"c{ending}") == 2999


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("columns", [5, 7, 8])
def test_what_a_vcf_must_have_is_added(annotate, end, last, columns):
    """No header, fewer columns, no end of the last line."""
    line = "\t".join(["1", "3", ".", "G", "A", "9", "PASS", "X=1"][:columns])
    values = ["HW_score=0.5;HW_status=ok", "HW_score=1.5;HW_status=ok"]
    full = "".join(line + "\t." * (7 - columns) + ("\t" if columns < 8 else ";") + value + "\n" for value in values)
    expected = f"##fileformat=VCFv4.2\n{OURS}{COLUMNS}\n{full}".replace("\n", end)
    assert annotate((line + end + line + end * last).encode(), numbered(2)).decode() == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("##fileformat=VCFv4.3\n", "##fileformat=VCFv4.3\n" + OURS + COLUMNS + "\n"),
        (COLUMNS + "\n", "##fileformat=VCFv4.2\n" + OURS + COLUMNS + "\n"),
        ("##source=x\n\n", "##fileformat=VCFv4.2\n##source=x\n\n" + OURS + COLUMNS + "\n"),
    ],
)
def test_half_a_header_is_completed(annotate, header, expected):
    record = "1\t3\t.\tG\tA\t.\t.\t.\n"
    assert annotate(header + record, numbered(1)).decode().startswith(expected + "1\t3")
    # the same without a record, where that is still a VCF
    if not header.startswith("##source"):
        assert annotate(header.rstrip("\n"), []).decode() == expected


def test_lines_that_cannot_be_read_stay(annotate):
    odd = b"1\t3\n\n# a remark\n1\tfive\t.\tG\tA,C\t.\t.\t;;\n\xe4\xff\t4\t\xe9\tG\tA\t.\t.\tX=\xe4\n"
    rows = [(None, "malformed"), (None, "malformed"), (None, "malformed"), (1.0, "ok")]
    lines = annotate(HEADER.encode() + odd, rows).splitlines(keepends=True)
    assert lines[-5:] == [
        b"1\t3\n",
        b"\n",
        b"# a remark\n",
        b"1\tfive\t.\tG\tA,C\t.\t.\tHW_score=.,.;HW_status=malformed,malformed\n",
        b"\xe4\xff\t4\t\xe9\tG\tA\t.\t.\tX=\xe4;HW_score=1;HW_status=ok\n",
    ]


def test_bcf_becomes_the_vcf_that_it_stands_for(annotate, tmp_path):
    typed = HEADER.replace("#CHROM", '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n#CHROM')
    plain = annotate(typed + "1\t3\trs1\tG\tA,T\t9\tPASS\tDP=3\n", numbered(2))
    with (
        pysam.VariantFile(str(tmp_path / "a.vcf")) as vcf,
        pysam.VariantFile(str(tmp_path / "a.bcf"), "wb", header=vcf.header) as bcf,
    ):
        for record in vcf:
            bcf.write(record)
    annotate_vcf(tmp_path / "a.bcf", tmp_path / "c.vcf", FIELDS, numbered(2), command="helixwave score a.vcf")
    # htslib declares PASS in every header
    passed = b'##FILTER=<ID=PASS,Description="All filters passed">\n'
    assert (tmp_path / "c.vcf").read_bytes().replace(passed, b"") == plain


@pytest.mark.parametrize(
    ("content", "rows", "message"),
    [
        (HEADER + "1\t3\t.\tG\tA,T\t.\t.\t.\n", numbered(1), "has not as many alleles as there are results"),
        (HEADER + "1\t3\t.\tG\tA,T\t.\t.\t.\n", numbered(3), "has not as many alleles as there are results"),
        (HEADER, numbered(1), "has not as many alleles as there are results"),
        (HEADER.replace("#CHROM", OURS + "#CHROM"), [], "has INFO HW_score already. Remove it: `bcftools annotate -x"),
        (HEADER + "1\t3\t.\tG\tA\t.\t.\tX;HW_status=ok\n", numbered(1), "has INFO HW_status already"),
        ("1\t3\t.\tG\tA\t.\t.\t.\tGT\t0/1\n", numbered(1), "no line '#CHROM ...' above the first record of 10 columns"),
        (">1\nACGT\n", [], "no VCF"),
    ],
)
def test_nothing_is_written_where_it_does_not_fit(annotate, tmp_path, content, rows, message):
    (tmp_path / "b.vcf").write_text("before")
    with pytest.raises(InputError, match=message):
        annotate(content, rows)
    assert (tmp_path / "b.vcf").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vcf", "b.vcf"]


@pytest.mark.parametrize("name", ["b.vcf", "b.vcf.gz"])
def test_full_disk_leaves_nothing(annotate, tmp_path, monkeypatch, name):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=rf"{name}: the disk is full"):
        annotate(HEADER, [], name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcf"]


def test_bgzf_says_what_to_install(annotate, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio.bgzf", None)
    with pytest.raises(InputError, match=r"writing BGZF needs Biopython: pip install 'helixwave\[genomics\]'"):
        annotate(HEADER, [], "b.vcf.gz")


def test_memory_does_not_grow_with_the_file(tmp_path):
    source = tmp_path / "a.vcf"
    with source.open("w") as stream:
        stream.write(HEADER)
        stream.writelines(f"1\t{i + 1}\t.\tG\tA\t.\t.\tDP=1\n" for i in range(10_000))
    tracemalloc.start()
    rows = itertools.repeat((0.5, "ok"), 10_000)
    annotate_vcf(source, tmp_path / "b.vcf", FIELDS, rows, command="x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18
    assert count_alleles(tmp_path / "b.vcf") == 10_000


def test_every_real_line_is_as_it_was_but_for_info(data_folder, tmp_path):
    files = [*data_folder.glob("vcf_edge/*.vcf*"), *data_folder.glob("hg38_chr1_1m/*.vcf")]
    assert len(files) == 14
    for path in files:
        alleles = list(read_alleles(path))
        annotate_vcf(path, tmp_path / "b.vcf", FIELDS, numbered(len(alleles)), command="helixwave score a.vcf")
        assert list(read_alleles(tmp_path / "b.vcf")) == alleles
        before = [line.rstrip(b"\n").split(b"\t") for line in body(path)]
        filled = [b"\t".join(cells + [b"."] * (8 - len(cells))) + b"\n" for cells in before]
        assert [without_ours(line) for line in body(tmp_path / "b.vcf")] == filled
        with pysam.VariantFile(str(tmp_path / "b.vcf")) as file:
            scores = [score for record in file for score in record.info["HW_score"]]
        assert scores == pytest.approx([row[0] for row in numbered(len(alleles))], rel=1e-5)


def body(path):
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        return [line for line in stream if not line.startswith(b"#")]
