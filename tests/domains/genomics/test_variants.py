import gzip
import io
import random
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics import variants
from helixwave_domains.genomics.fasta import read_fasta
from helixwave_domains.genomics.variants import Allele, Status, alleles_in, count_alleles, read_alleles, vcf_lines
from helixwave_domains.genomics.windows import allele_windows
from hypothesis import given, settings
from hypothesis import strategies as st

pysam = pytest.importorskip("pysam")
BgzfWriter = pytest.importorskip("Bio.bgzf").BgzfWriter

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
# pysam gives a <DEL> its END
DECLARED = (
    '##contig=<ID=chr1,length=100>\n##contig=<ID=chr2>\n##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'
)
TYPED = HEADER.replace("#CHROM", DECLARED + "#CHROM")
RECORDS = (
    "chr1\t3\trs1\tG\tA,T\t9\tPASS\t.\n"
    "chr1\t3\trs1\tG\tA\t.\t.\t.\n"
    "chr1\t9\t.\tc\tcTT,*,<DEL>,N\t.\t.\t.\n"
    "chr2\t7\tx;y\tAT\t.\t.\t.\t.\n"
)


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="a.vcf"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def write_bcf(source, target):
    with pysam.VariantFile(str(source)) as vcf, pysam.VariantFile(str(target), "wb", header=vcf.header) as bcf:
        for record in vcf:
            bcf.write(record)


def test_alleles_of_a_record_keep_their_order(write):
    ok = Status.OK
    assert list(read_alleles(write(HEADER + RECORDS))) == [
        Allele(0, 0, "chr1", 3, "rs1", "G", "A", 1, ok),
        Allele(1, 0, "chr1", 3, "rs1", "G", "T", 2, ok),
        Allele(2, 1, "chr1", 3, "rs1", "G", "A", 1, ok),
        Allele(3, 2, "chr1", 9, ".", "C", "CTT", 1, ok),
        Allele(4, 2, "chr1", 9, ".", "C", "*", 2, Status.SPANNING_DELETION),
        Allele(5, 2, "chr1", 9, ".", "C", "<DEL>", 3, Status.SYMBOLIC),
        Allele(6, 2, "chr1", 9, ".", "C", "N", 4, ok),
        Allele(7, 3, "chr2", 7, "x;y", "AT", ".", 0, Status.NO_ALT),
    ]


@pytest.mark.parametrize("pack", ["gzip", "bgzf", "bcf"])
def test_every_packing_reads_the_same(write, tmp_path, pack):
    plain = write(TYPED + RECORDS)
    packed = tmp_path / ("a.bcf" if pack == "bcf" else "a.vcf.gz")
    if pack == "gzip":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    elif pack == "bgzf":
        with BgzfWriter(str(packed)) as stream:
            stream.write(plain.read_bytes())
    else:
        write_bcf(plain, packed)
    assert list(read_alleles(packed)) == list(read_alleles(plain))
    assert count_alleles(packed) == 8


@pytest.mark.parametrize(
    ("ref", "alt", "status"),
    [
        ("A", "C", "ok"),
        ("a", "g", "ok"),
        ("ACG", "TTT", "ok"),
        ("A", "N", "ok"),
        ("A", "ACGT", "ok"),
        ("ACGT", "A", "ok"),
        ("AC", "GTT", "ok"),
        ("A", ".", "no_alt"),
        ("A", "*", "spanning_deletion"),
        ("A", "<DEL>", "symbolic"),
        ("A", "<INS:ME:ALU>", "symbolic"),
        ("A", "<NON_REF>", "symbolic"),
        ("A", "<*>", "symbolic"),
        ("N", "<DUP>", "symbolic"),
        ("G", "G]17:198982]", "breakend"),
        ("T", "]13:123456]T", "breakend"),
        ("C", "[chr17:198983[C", "breakend"),
        ("T", ".TC", "breakend"),
        ("T", "TC.", "breakend"),
        ("A", "A", "alt_equals_ref"),
        ("a", "A", "alt_equals_ref"),
        ("A", "R", "ambiguous_allele"),
        ("Y", "C", "ambiguous_allele"),
        ("A", "U", "malformed"),
        ("A", "A C", "malformed"),
        ("A", "1", "malformed"),
        ("A", "", "malformed"),
        ("A", "<DEL", "malformed"),
        ("A", "\u00c4", "malformed"),
        ("", "A", "malformed"),
        (".", "A", "malformed"),
        ("<X>", "A", "malformed"),
    ],
)
def test_status_of_letters(write, ref, alt, status):
    path = write(f"{HEADER}1\t5\t.\t{ref}\t{alt}\t.\t.\t.\n")
    assert [allele.status for allele in read_alleles(path)] == [status]


@pytest.mark.parametrize(
    ("line", "alleles"),
    [
        ("1", 1),
        ("1\t5", 1),
        ("1\t5\t.\tA", 1),
        ("1 5 . A C . . .", 1),
        ("\t5\t.\tA\tC", 1),
        ("1\tfive\t.\tA\tC,G", 2),
        ("1\t-5\t.\tA\tC", 1),
        ("1\t5.0\t.\tA\tC", 1),
        ("1\t\t.\tA\tC", 1),
        ("1\t\u0663\t.\tA\tC", 1),
        ("1\t9999999999999999999999\t.\tA\tC", 1),
        ("\t\t\t\t\t", 1),
        (">1 a FASTA's header", 1),
    ],
)
def test_malformed_line_is_a_row_and_stops_nothing(write, line, alleles):
    good = "1\t5\t.\tA\tC\t.\t.\t.\n"
    found = list(read_alleles(write(f"{HEADER}{good}{line}\n{good}")))
    assert [allele.status for allele in found] == [Status.OK, *[Status.MALFORMED] * alleles, Status.OK]
    assert [allele.row for allele in found] == list(range(alleles + 2))
    assert [allele.record for allele in found] == [0, *[1] * alleles, 2]
    # in a table of 64-bit numbers
    assert all(0 <= allele.position < 2**63 for allele in found)


@pytest.mark.parametrize(
    "header", ["", "##fileformat=VCFv4.2\n", "#CHROM\tPOS\tID\tREF\tALT\n", "\n##source=x\n", HEADER]
)
@pytest.mark.parametrize("columns", [5, 7, 8])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_header_and_last_columns_may_be_missing(write, header, columns, end):
    line = "\t".join(["1", "5", "rs", "A", "C,CT", ".", ".", "."][:columns])
    text = f"{header}{line}\n\n{line}".replace("\n", end)
    found = list(read_alleles(write(b"\xef\xbb\xbf" + text.encode())))
    assert [(a.record, a.contig, a.position, a.ref, a.alt, a.status) for a in found] == [
        (record, "1", 5, "A", alt, "ok") for record in (0, 1) for alt in ("C", "CT")
    ]


def test_position_zero_is_a_position(write):
    assert next(read_alleles(write(HEADER + "1\t0\t.\tN\tN[2:5[\n"))).position == 0


def test_allele_is_named_in_a_few_letters(write):
    path = write(f"{HEADER}chr7\t55019017\t.\tC\tT\nchr7\t1\t.\t{'ACGT' * 5}\tA\n")
    assert [str(allele) for allele in read_alleles(path)] == ["chr7:55019017 C>T", "chr7:1 ACGTACGTACGT... (20)>A"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b">chr1\nACGT\n", "no VCF: there is no header .* and the first record, '>chr1', is not CHROM"),
        (b"##gff-version 3\nc\tx\tCDS\t1\t9\t.\t+\t0\tID=1\n", "no VCF"),
        (b"chrom\tpos\tid\tref\talt\n1\t5\t.\tA\tC\n", "no VCF"),
        (bytes(range(4)) * 9, "no VCF"),
        ("##fileformat=VCFv4.2\n".encode("utf-16"), "no VCF"),
        (b"##source=x\n\n", "neither '##fileformat=VCF...' nor a record"),
        (
            b"##fileformat=VCFv4.2\r#CHROM\tPOS\r1\t5\t.\tA\tC\r",
            r"old Macintosh line ends. Convert them: `tr '\\r' '\\n'`",
        ),
        (b"", "the VCF or BCF file is empty"),
        (gzip.compress(b"##fileformat=VCFv4.2\n" + RECORDS.encode() * 99)[:-40], "damaged or cut-off gzip"),
    ],
    ids=["FASTA", "GFF", "table", "binary", "UTF-16", "nothing", "Macintosh", "empty", "cut off"],
)
def test_what_is_no_vcf_is_refused(write, content, message):
    path = write(content)
    with pytest.raises(InputError, match=message) as error:
        list(read_alleles(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        list(vcf_lines(path))


def test_missing_file_offers_the_nearest(write):
    path = write(HEADER, "calls.vcf")
    with pytest.raises(InputError, match=r"no such VCF or BCF file. Did you mean 'calls.vcf'"):
        read_alleles(path.with_name("call.vcf"))


def test_header_alone_has_no_alleles(write):
    assert count_alleles(write(HEADER)) == 0


def test_cut_off_bcf_is_refused(write, tmp_path):
    write_bcf(write(TYPED + RECORDS), tmp_path / "a.bcf")
    content = gzip.decompress((tmp_path / "a.bcf").read_bytes())
    with BgzfWriter(str(tmp_path / "cut.bcf")) as stream:
        stream.write(content[:-20])
    with pytest.raises(InputError, match=r"cut.bcf: damaged BCF \(.*Copy or download it again"):
        list(read_alleles(tmp_path / "cut.bcf"))


def test_bcf_says_what_to_install(write, tmp_path, monkeypatch):
    write_bcf(write(TYPED + RECORDS), tmp_path / "a.bcf")
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(InputError, match=r"reading BCF needs pysam: pip install 'helixwave\[genomics\]'"):
        list(read_alleles(tmp_path / "a.bcf"))


def test_every_status_is_explained():
    page = Path(__file__).parents[3] / "docs" / "variants.md"
    rows = page.read_text(encoding="utf-8").partition("## Statuses")[2]
    for explained in (
        re.findall(r"^    (\w+)  ", variants.__doc__, re.MULTILINE),
        re.findall(r"^\| `(\w+)`", rows, re.M),
    ):
        assert explained == list(map(str, Status))


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"\t")), max_size=8))
@settings(max_examples=100)
def test_any_bytes_have_rows(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("vcf") / "a.vcf"
    path.write_bytes(HEADER.encode() + b"\n".join(lines))
    found = list(read_alleles(path))
    records = [line for line in lines if line.strip(b"\r ") and not line.startswith(b"#")]
    assert count_alleles(path) == len(found) == sum(map(alleles_in, records))
    assert [allele.row for allele in found] == list(range(len(found)))
    assert {allele.record for allele in found} == set(range(len(records)))


def test_mangled_lines_end_in_a_status(write):
    """200 lines with bytes changed, lost and added: each has its rows, and windows or a reason why not."""
    draw = random.Random(0)
    fasta = read_fasta(write(">chr1\n" + "ACGTTGCA" * 20 + "\n", "a.fa"))
    lines = [
        mangled(draw, f"chr1\t{draw.randint(1, 170)}\trs{i}\tG\tA,GTT\t9\tPASS\tDP=3".encode()) for i in range(200)
    ]
    path = write(HEADER.encode() + b"\n".join(lines) + b"\n")
    found = list(read_alleles(path))
    assert Counter(allele.record for allele in found) == {i: alleles_in(line) for i, line in enumerate(lines)}
    ended = Counter(allele_windows(allele, fasta, window=8, on_mismatch="skip").status for allele in found)
    assert sum(ended.values()) == len(found)
    assert ended.keys() >= {"ok", "ref_mismatch", "malformed", "unknown_contig", "outside_contig"}


def mangled(draw, line):
    letters = list(line)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(1, len(letters))
        change = draw.choice(["change", "lose", "add", "separate"])
        new = [draw.choice([9, 44, 46, *range(128, 256)])] if change == "separate" else [draw.randrange(11, 256)]
        letters[place : place + (change != "add")] = [] if change == "lose" else new
    return bytes(letters)


def test_every_record_of_the_real_files_has_a_status(data_folder):
    counted = {}
    for path in [*data_folder.glob("vcf_edge/*.vcf*"), *data_folder.glob("hg38_chr1_1m/*.vcf")]:
        found = list(read_alleles(path))
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            records = [line.split() for line in stream if not line.startswith(b"#")]
        assert [(a.record, a.contig, a.position, a.ref, a.alt) for a in found] == [
            (record, cells[0].decode(), int(cells[1]), cells[3].decode(), alt)
            for record, cells in enumerate(records)
            for alt in cells[4].decode().split(",")
        ]
        counted[path.name] = Counter(str(allele.status) for allele in found)
    assert counted["gpn_example.vcf"] == {"ok": 2000}
    assert counted["chr22_ENST00000319363.vcf.gz"] == {"ok": 9212}
    assert counted["vcf43_spec_example.vcf"] == {"ok": 6, "no_alt": 1}
    assert counted["test_with_multiple_variants.vcf.gz"] == {"ok": 6, "no_alt": 2}
    assert counted["eqtl.vcf"] == counted["eqtl_flip.vcf"] == {"ok": 8}
    assert len(counted) == 14


def test_real_file_as_bcf(data_folder, tmp_path):
    source = data_folder / "vcf_edge" / "cyvcf2_test.vcf.gz"
    write_bcf(source, tmp_path / "a.bcf")
    assert list(read_alleles(tmp_path / "a.bcf")) == list(read_alleles(source))


def write_records(path, records):
    with path.open("w") as stream:
        stream.write(HEADER)
        stream.writelines(f"chr1\t{i % 900 + 1}\trs{i}\tA\tC,G\t.\t.\tDP=1\n" for i in range(records))
    return path


def peak_of_reading(path):
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_alleles(path)) == count_alleles(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path):
    peak_of_reading(write_records(tmp_path / "warm.vcf", 10))
    assert peak_of_reading(write_records(tmp_path / "a.vcf", 10_000)) < 2 * io.DEFAULT_BUFFER_SIZE + 2**16


GROWTH = """
import resource, sys
from helixwave_domains.genomics.variants import count_alleles, read_alleles
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = next(read_alleles(sys.argv[1]))
before = peak()
print(sum(1 for _ in read_alleles(sys.argv[1])), count_alleles(sys.argv[1]), peak() - before)
"""


@pytest.mark.slow
def test_a_million_records_in_bounded_memory(tmp_path):
    path = write_records(tmp_path / "a.vcf", 1_000_000)
    run = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True)
    read, counted, growth = map(int, run.stdout.split())
    assert read == counted == 2_000_000
    # in KiB
    assert growth < 2**12
