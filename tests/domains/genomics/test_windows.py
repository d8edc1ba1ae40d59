import gzip
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise

import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.bed import BedInterval, read_intervals
from helixwave_domains.genomics.fasta import read_fasta, write_fasta
from helixwave_domains.genomics.variants import Allele, Status, read_alleles
from helixwave_domains.genomics.windows import allele_windows, contig_names, interval_window, tiles
from hypothesis import assume, given, settings
from hypothesis import strategies as st

GENOME = "ACGGTCATTGCA"


def allele(position, ref, alt, contig="c", status=Status.OK):
    return Allele(0, 0, contig, position, ".", ref, alt, 1, status)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """For the indices of real files, whose folder may not be written."""
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    write_fasta(path, [("c", GENOME), ("odd", "ARUGYA"), ("repeat", "GCACACACAT"), ("gap", "ANNNNC")])
    with read_fasta(path) as fasta:
        yield fasta


def fasta_of(folder, **contigs):
    path = folder / "a.fa"
    write_fasta(path, contigs.items())
    return read_fasta(path)


def padded(letters, start, length):
    """Letter by letter, N where there is none."""
    return "".join(letters[i] if 0 <= i < len(letters) else "N" for i in range(start, start + length))


def edited(letters, position, ref, alt):
    """REF at POS replaced by ALT, as a text editor would."""
    assert letters[position - 1 : position - 1 + len(ref)] == ref
    return letters[: position - 1] + alt + letters[position - 1 + len(ref) :]


@st.composite
def changes(draw, letters="ACGT"):
    """A genome and an allele in it, of any kind."""
    genome = draw(st.text(letters, min_size=1, max_size=25))
    position = draw(st.integers(1, len(genome)))
    ref = genome[position - 1 : position - 1 + draw(st.integers(1, 6))]
    alt = draw(st.text(letters, min_size=1, max_size=6).filter(lambda alt: alt != ref))
    return genome, position, ref, alt


@st.composite
def windows(draw):
    window = draw(st.integers(1, 40))
    return {"window": window, "center": draw(st.none() | st.integers(0, window - 1))}


@given(changes(), windows())
@settings(max_examples=100)
def test_windows_are_cut_from_the_two_sequences(tmp_path_factory, change, options):
    """What a text editor makes of the genome holds the same letters where the window is, N beyond its ends."""
    genome, position, ref, alt = change
    fasta = fasta_of(tmp_path_factory.mktemp("fasta"), c=genome)
    found = allele_windows(allele(position, ref, alt), fasta, on_mismatch="error", **options)
    window, center = options["window"], options["center"]
    center = window // 2 if center is None else center
    if found.status is Status.LONGER_THAN_WINDOW:
        assert max(len(ref), len(alt)) > window - center
        return
    assert found.status is Status.OK
    other = edited(genome, position, ref, alt)
    assert found.ref == padded(genome, found.start, window)
    assert found.alt == padded(other, found.start, window)
    assert len(found.ref) == len(found.alt) == window
    # what is before the centre is the same, and what follows the two alleles
    (begin, ref_end), (alt_begin, alt_end) = found.ref_focus, found.alt_focus
    assert begin == alt_begin == center
    assert found.ref[:center] == found.alt[:center]
    rest = window - max(ref_end, alt_end)
    assert found.ref[ref_end : ref_end + rest] == found.alt[alt_end : alt_end + rest]
    assert (ref_end - center) - (alt_end - center) == len(ref) - len(alt)
    if begin < ref_end and begin < alt_end:
        assert found.ref[center] != found.alt[center]
        assert found.ref[ref_end - 1] != found.alt[alt_end - 1]
    # letters of the contig are never taken for padding
    low, high = found.padded
    length = min(len(genome), len(other))
    assert low == sum(i < 0 for i in range(found.start, found.start + window))
    assert high == sum(i >= length for i in range(found.start, found.start + window))


@given(changes(letters="AC"), windows())
@settings(max_examples=40)
def test_every_spelling_of_a_change_has_the_same_windows(tmp_path_factory, change, options):
    genome, position, ref, alt = change
    assume(len(genome) <= 12)
    fasta = fasta_of(tmp_path_factory.mktemp("fasta"), c=genome)
    target, longer = edited(genome, position, ref, alt), len(alt) - len(ref)
    spellings = [
        (start + 1, genome[start:end], target[start : end + longer])
        for start in range(len(genome))
        for end in range(start + 1, len(genome) + 1)
        if end + longer > start and genome[:start] + target[start : end + longer] + genome[end:] == target
    ]
    assert (position, ref, alt) in spellings
    found = {allele_windows(allele(*spelling), fasta, on_mismatch="error", **options) for spelling in spellings}
    assert len(found) == 1


@given(changes(letters="ACG"), windows())
@settings(max_examples=40)
def test_the_way_back_exchanges_the_windows(tmp_path_factory, change, options):
    """Deleting and putting in again is the identity: the change undone in the changed genome."""
    genome, position, ref, alt = change
    folder = tmp_path_factory.mktemp("fasta")
    there = allele_windows(allele(position, ref, alt), fasta_of(folder, c=genome), on_mismatch="error", **options)
    changed = fasta_of(folder, c=edited(genome, position, ref, alt))
    back = allele_windows(allele(position, alt, ref), changed, on_mismatch="error", **options)
    assert (back.status, back.start, back.ref, back.alt) == (there.status, there.start, there.alt, there.ref)
    assert (back.ref_focus, back.alt_focus) == (there.alt_focus, there.ref_focus)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 8, 12, 13, 40])
def test_the_base_at_pos_has_index_half_the_window(genome, window):
    for position, base in enumerate(GENOME, start=1):
        other = "T" if base == "A" else "A"
        found = allele_windows(allele(position, base, other), genome, window=window, on_mismatch="error")
        assert found.start == position - 1 - window // 2
        assert found.ref == padded(GENOME, found.start, window)
        assert found.ref[window // 2] == base
        assert found.alt[window // 2] == other
        assert found.ref_focus == found.alt_focus == (window // 2, window // 2 + 1)


@pytest.mark.parametrize(
    ("position", "ref", "alt", "start", "windows", "foci", "padding"),
    [
        (3, "G", "T", -2, ("NNACGGTC", "NNACTGTC"), ((4, 5), (4, 5)), (2, 0)),
        (1, "A", "T", -4, ("NNNNACGG", "NNNNTCGG"), ((4, 5), (4, 5)), (4, 0)),
        (12, "A", "T", 7, ("TTGCANNN", "TTGCTNNN"), ((4, 5), (4, 5)), (0, 3)),
        # the window that begins one before the contig
        (4, "G", "T", -1, ("NACGGTCA", "NACGTTCA"), ((4, 5), (4, 5)), (1, 0)),
        # deletion: the reference goes on behind it
        (5, "TCA", "T", 1, ("CGGTCATT", "CGGTTTGC"), ((4, 6), (4, 4)), (0, 0)),
        (5, "T", "TAA", 1, ("CGGTCATT", "CGGTAACA"), ((4, 4), (4, 6)), (0, 0)),
        (5, "TCA", "GG", 0, ("ACGGTCAT", "ACGGGGTT"), ((4, 7), (4, 6)), (0, 0)),
        # only what differs counts
        (5, "TCA", "TGA", 1, ("CGGTCATT", "CGGTGATT"), ((4, 5), (4, 5)), (0, 0)),
        # the first and last letters, where there is no base before the deletion
        (1, "ACG", "G", -4, ("NNNNACGG", "NNNNGGTC"), ((4, 6), (4, 4)), (4, 0)),
        (10, "GCA", "G", 6, ("ATTGCANN", "ATTGNNNN"), ((4, 6), (4, 4)), (0, 4)),
        (12, "A", "AGG", 8, ("TGCANNNN", "TGCAGGNN"), ((4, 4), (4, 6)), (0, 4)),
        (1, "A", "TTA", -4, ("NNNNACGG", "NNNNTTAC"), ((4, 4), (4, 6)), (4, 0)),
    ],
)
def test_windows_by_hand(genome, position, ref, alt, start, windows, foci, padding):
    found = allele_windows(allele(position, ref, alt), genome, window=8, on_mismatch="error")
    assert (found.status, found.contig, found.start) == (Status.OK, "c", start)
    assert (found.ref, found.alt) == windows
    assert (found.ref_focus, found.alt_focus) == foci
    assert found.padded == padding


def test_an_indel_in_a_repeat_begins_at_its_left_end(genome):
    first = allele_windows(allele(1, "GCA", "G", "repeat"), genome, window=6, on_mismatch="error")
    last = allele_windows(allele(7, "ACA", "A", "repeat"), genome, window=6, on_mismatch="error")
    assert first == last
    assert (first.start, first.ref_focus) == (-2, (3, 5))
    # N is not known to be the same as its neighbour
    assert allele_windows(allele(3, "NN", "N", "gap"), genome, window=6, on_mismatch="error").start == 2 - 3


@pytest.mark.parametrize("center", [0, 2, 7])
def test_center_is_where_the_alleles_begin_to_differ(genome, center):
    found = allele_windows(allele(5, "T", "A"), genome, window=8, center=center, on_mismatch="error")
    assert found.start == 4 - center
    assert found.ref == padded(GENOME, 4 - center, 8)
    assert found.alt == padded(edited(GENOME, 5, "T", "A"), 4 - center, 8)


@pytest.mark.parametrize(
    ("ref", "alt", "status"),
    [
        ("T", "TAAAA", "ok"),
        ("T", "TAAAAA", "longer_than_window"),
        ("TCATT", "T", "ok"),
        ("TCATTG", "T", "longer_than_window"),
        ("TCAT", "GGGG", "ok"),
        ("TCATT", "GGGGG", "longer_than_window"),
    ],
)
def test_an_allele_that_does_not_fit_behind_the_center(genome, ref, alt, status):
    found = allele_windows(allele(5, ref, alt), genome, window=8, on_mismatch="error")
    assert found.status == status
    assert bool(found.ref) == found.status.usable


@pytest.mark.parametrize("status", [status for status in Status if not status.usable])
def test_an_allele_without_letters_keeps_its_status(genome, status):
    found = allele_windows(allele(5, "T", "*", status=status), genome, window=8, on_mismatch="error")
    assert found.status is status
    assert found.ref == found.alt == ""


@pytest.mark.parametrize(
    ("contig", "position", "ref", "status"),
    [
        ("d", 1, "A", "unknown_contig"),
        ("c", 0, "A", "outside_contig"),
        ("c", 13, "A", "outside_contig"),
        ("c", 12, "AC", "outside_contig"),
        ("c", 10**17, "A", "outside_contig"),
        ("c", 12, "A", "ok"),
    ],
)
@pytest.mark.parametrize("on_mismatch", ["error", "skip", "swap", "keep"])
def test_a_place_that_is_not_there(genome, contig, position, ref, status, on_mismatch):
    found = allele_windows(allele(position, ref, "T", contig), genome, window=8, on_mismatch=on_mismatch)
    assert found.status == status


def test_error_policy_says_what_stands_there(genome):
    with pytest.raises(InputError) as error:
        allele_windows(allele(5, "G", "T"), genome, window=8, on_mismatch="error")
    assert str(error.value) == (
        f"c:5 G>T: {genome.path} has T there. Is the VCF on another assembly? "
        "Use its own, or choose 'skip', 'swap' or 'keep' for such alleles."
    )


@pytest.mark.parametrize(
    ("ref", "alt", "policy", "status"),
    [
        ("G", "T", "skip", "ref_mismatch"),
        ("G", "T", "swap", "swapped"),
        ("G", "A", "swap", "ref_mismatch"),
        ("G", "T", "keep", "kept"),
        ("G", "A", "keep", "kept"),
        ("TAA", "TCA", "swap", "swapped"),
        ("GA", "T", "swap", "swapped"),
        ("GA", "TCAT", "swap", "swapped"),
        ("T", "A", "skip", "ok"),
        ("T", "A", "swap", "ok"),
        ("T", "A", "keep", "ok"),
    ],
)
def test_policies(genome, ref, alt, policy, status):
    found = allele_windows(allele(5, ref, alt), genome, window=10, on_mismatch=policy)
    assert found.status == status
    if status == "swapped":
        right = allele_windows(allele(5, alt, ref), genome, window=10, on_mismatch="error")
        assert (found.ref, found.alt, found.start) == (right.ref, right.alt, right.start)
    if status == "kept":
        other = GENOME[:4] + ref + GENOME[4 + len(ref) :]
        assert found.ref == padded(other, found.start, 10)
        assert found.alt == padded(edited(other, 5, ref, alt), found.start, 10)


def test_kept_ref_stands_whole_in_the_window(genome):
    """What REF and ALT share differs from the genome here."""
    found = allele_windows(allele(5, "GGGC", "GGG"), genome, window=12, on_mismatch="keep")
    assert (found.ref, found.ref_focus) == ("CGGGGGCTGCAN", (6, 7))
    assert (found.alt, found.alt_focus) == ("CGGGGGTGCANN", (6, 6))


@pytest.mark.parametrize(
    ("position", "ref", "status"),
    [(2, "A", "ok"), (2, "G", "ref_mismatch"), (3, "T", "ok"), (5, "C", "ok"), (5, "T", "ref_mismatch")],
)
def test_ref_over_an_ambiguity_code_is_its_first_base(genome, position, ref, status):
    found = allele_windows(allele(position, ref, "N", "odd"), genome, window=3, on_mismatch="skip")
    assert found.status == status
    if found.status.usable:
        assert found.ref[1] == ref


def test_alleles_of_a_site_share_their_reference(genome):
    def key(position, ref, alt):
        return allele_windows(allele(position, ref, alt), genome, window=8, on_mismatch="keep").reference_key

    assert key(5, "T", "A") == key(5, "T", "G") == key(5, "TC", "AC")
    assert len({key(5, "T", "A"), key(6, "C", "A"), key(5, "G", "A")}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window 0 with center 0: expected a window of at least 1 and 0 <= center < window"),
        ({"window": 4, "center": 4}, "window 4 with center 4"),
        ({"window": 4, "center": -1}, "window 4 with center -1"),
        ({"window": 4, "on_mismatch": "swop"}, "on_mismatch is 'swop'. Did you mean 'swap'"),
    ],
)
def test_wrong_options_are_refused(genome, options, message):
    with pytest.raises(InputError, match=message):
        allele_windows(allele(5, "G", "T"), genome, **{"on_mismatch": "skip", **options})


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        ("chr1", "1", "chr1"),
        ("1", "chr1", "1"),
        ("Chr1", "1", "Chr1"),
        ("1", "Chr1", "1"),
        ("chrM", "MT", "chrM"),
        ("MT", "chrM", "MT"),
        ("M", "chrMT", "M"),
        ("chrX", "X", "chrX"),
        ("chr1", "chr1", "chr1"),
        ("chr1", "2", None),
        ("chr1", "", None),
        ("chr1", "chr", None),
    ],
)
def test_names_of_contigs(tmp_path, there, asked, found):
    fasta = fasta_of(tmp_path, **{there: "ACGT", "other": "ACGT"})
    assert contig_names(fasta, [asked]) == {asked: found}


def test_a_name_that_may_mean_two_contigs_is_refused(tmp_path):
    fasta = fasta_of(tmp_path, chrM="ACGT", MT="ACG", chr1="A")
    assert contig_names(fasta, ["MT", "chrM", "1"]) == {"MT": "MT", "chrM": "chrM", "1": "chr1"}
    with pytest.raises(InputError, match=r"a.fa: 'M' may mean 'chrM' or 'MT'. Use the FASTA's own names"):
        contig_names(fasta, ["M"])


@pytest.mark.parametrize(
    ("line", "window", "start", "letters", "padding"),
    [
        ("c\t3\t6\tx\t0\t+", None, 3, "GTC", (0, 0)),
        ("c\t3\t6\tx\t0\t-", None, 3, "GAC", (0, 0)),
        ("c\t4\t5", 4, 2, "GGTC", (0, 0)),
        ("c\t4\t5", 5, 2, "GGTCA", (0, 0)),
        ("c\t2\t8", 2, 4, "TC", (0, 0)),
        ("c\t2\t8\tx\t0\t-", 2, 4, "GA", (0, 0)),
        ("c\t0\t1", 6, -3, "NNNACG", (3, 0)),
        ("c\t0\t1\tx\t0\t-", 6, -3, "CGTNNN", (3, 0)),
        ("c\t11\t12", 5, 9, "GCANN", (0, 2)),
        ("c\t0\t12", 20, -4, "NNNN" + GENOME + "NNNN", (4, 4)),
    ],
)
def test_windows_of_intervals(genome, tmp_path, line, window, start, letters, padding):
    (tmp_path / "a.bed").write_text(f"track name=x\n{line}\n")
    (interval,) = read_intervals(tmp_path / "a.bed")
    found = interval_window(interval, genome, window=window)
    assert (found.status, found.contig, found.start, found.letters, found.padded) == (
        "ok",
        "c",
        start,
        letters,
        padding,
    )


@given(st.integers(0, 11), st.integers(1, 12), st.none() | st.integers(1, 40))
def test_the_strand_of_an_interval_is_the_reverse_complement(genome, start, length, window):
    end = min(start + length, 12)
    plus, minus = (
        interval_window(BedInterval("c", start, end, strand=strand), genome, window=window) for strand in "+-"
    )
    assert plus.letters == padded(GENOME, plus.start, window or end - start)
    assert minus.letters == reverse_complement_string(plus.letters)


@pytest.mark.parametrize(
    ("line", "status"),
    [("d\t0\t1", "unknown_contig"), ("c\t11\t13", "outside_contig"), ("c\t90\t91", "outside_contig")],
)
def test_interval_that_is_not_there(genome, line, status):
    contig, start, end = line.split()
    found = interval_window(BedInterval(contig, int(start), int(end)), genome, window=4)
    assert (found.status, found.letters) == (status, "")


def test_columns_of_a_bed(tmp_path):
    (tmp_path / "a.bed").write_text("#x\nc 0 1\nchr2\t5\t9\tpeak one\t3.5\t-\t0\t0\n")
    first, second = read_intervals(tmp_path / "a.bed")
    assert (first.name, first.score, first.strand) == ("", "", ".")
    assert (second.contig, second.name, second.score, second.strand) == ("chr2", "peak one", "3.5", "-")
    assert second.place.endswith("a.bed: line 3")


def test_line_that_is_no_interval_is_refused(tmp_path):
    (tmp_path / "a.bed").write_text("c\t0\n")
    with pytest.raises(InputError, match=r"a.bed: line 1: 2 columns, expected at least 3: chrom, start and end"):
        list(read_intervals(tmp_path / "a.bed"))


@given(st.integers(1, 400), st.integers(1, 60), st.data(), st.booleans())
def test_tiles_keep_every_position_once(length, window, data, causal):
    overlap = data.draw(st.integers(0, window - 1))
    pieces = tiles(length, window, overlap, causal=causal)
    assert [i for tile in pieces for i in range(tile.keep_start, tile.keep_end)] == list(range(length))
    for before, after in pairwise(pieces):
        assert before.end - after.start >= overlap
        # what is kept has its share of the context on either side
        assert after.keep_start - after.start >= (overlap if causal else overlap // 2)
        assert before.end - before.keep_end == (0 if causal else before.end - (after.start + before.end) // 2)
    for tile in pieces:
        assert 0 <= tile.start <= tile.keep_start < tile.keep_end <= tile.end <= length
        assert tile.end - tile.start == min(window, length)


@pytest.mark.parametrize(("length", "window", "overlap"), [(0, 4, 1), (9, 4, 4), (9, 4, -1), (9, 0, 0)])
def test_wrong_tiles_are_refused(length, window, overlap):
    with pytest.raises(InputError, match=f"a sequence of {length} in windows of {window} with overlap {overlap}"):
        tiles(length, window, overlap)


def windows_of(path, fasta, **options):
    return [allele_windows(allele, fasta, window=64, **options) for allele in read_alleles(path)]


def test_swapped_real_file(data_folder):
    folder = data_folder / "hg38_chr1_1m"
    with read_fasta(folder / "hg38_1m.fa.gz") as fasta:
        right = windows_of(folder / "eqtl.vcf", fasta, on_mismatch="error")
        assert Counter(w.status for w in windows_of(folder / "eqtl_flip.vcf", fasta, on_mismatch="skip")) == {
            "ref_mismatch": 8
        }
        swapped = windows_of(folder / "eqtl_flip.vcf", fasta, on_mismatch="swap")
        kept = windows_of(folder / "eqtl_flip.vcf", fasta, on_mismatch="keep")
        assert [(w.status, w.ref, w.alt) for w in swapped] == [("swapped", w.ref, w.alt) for w in right]
        # so that a score of the one is the negated score of the other
        assert [(w.status, w.ref, w.alt) for w in kept] == [("kept", w.alt, w.ref) for w in right]
        with pytest.raises(InputError, match=r"chr1:14677 A>G: .* has G there. Is the VCF on another assembly"):
            windows_of(folder / "eqtl_flip.vcf", fasta, on_mismatch="error")


def test_bgzf_gives_the_windows_of_a_plain_copy(data_folder, tmp_path):
    folder = data_folder / "hg38_chr1_1m"
    (tmp_path / "plain.fa").write_bytes(gzip.decompress((folder / "hg38_1m.fa.gz").read_bytes()))
    (interval, *_) = read_intervals(folder / "seqs.bed")
    found = []
    for path in (folder / "hg38_1m.fa.gz", tmp_path / "plain.fa"):
        with read_fasta(path) as fasta:
            pair = windows_of(folder / "eqtl.vcf", fasta, on_mismatch="error")
            found.append((pair, interval_window(interval, fasta, window=1001)))
    assert found[0] == found[1]


def test_every_real_record_ends_in_a_status(data_folder):
    files = [*data_folder.glob("vcf_edge/*.vcf*"), *data_folder.glob("hg38_chr1_1m/*.vcf")]
    assert len(files) == 14
    with read_fasta(data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz") as fasta:
        counts = {path.name: Counter(w.status for w in windows_of(path, fasta, on_mismatch="swap")) for path in files}
    assert counts["gpn_example.vcf"] == {"unknown_contig": 1791, "outside_contig": 209}
    assert counts["cyvcf2_test.vcf.gz"] == {"ok": 113, "longer_than_window": 2}
    assert counts["vcf43_spec_example.vcf"] == {"unknown_contig": 6, "no_alt": 1}


def test_kipoi_genome_with_its_variants(data_folder):
    with read_fasta(data_folder / "vcf_edge" / "sample.5kb.fa") as fasta:
        for name in ("test.vcf.gz", "test_with_multiple_variants.vcf.gz"):
            for record in read_alleles(data_folder / "vcf_edge" / name):
                found = allele_windows(record, fasta, window=41, on_mismatch="skip")
                assert found.status in ("ok", "ref_mismatch", "no_alt")
                if found.status.usable:
                    genome = fasta.fetch("chr1")
                    other = edited(genome, record.position, record.ref, record.alt)
                    assert found.ref == padded(genome, found.start, 41)
                    assert found.alt == padded(other, found.start, 41)


def test_names_without_chr_find_the_contigs_with(data_folder, tmp_path):
    """The first variants of a VCF with contig `1`, in a genome that has their reference bases in `chr1`."""
    records = list(islice(read_alleles(data_folder / "vcf_edge" / "gpn_example.vcf"), 5))
    letters = bytearray(b"N" * 2_000_000)
    for record in records:
        letters[record.position - 1] = ord(record.ref)
    with fasta_of(tmp_path, chr1=letters.decode()) as fasta:
        found = [allele_windows(record, fasta, window=9, on_mismatch="error") for record in records]
    assert [(w.contig, w.ref, w.alt) for w in found] == [
        ("chr1", f"NNNN{record.ref}NNNN", f"NNNN{record.alt}NNNN") for record in records
    ]


GROWTH = """
import resource, sys
from helixwave_domains.genomics.fasta import read_fasta
from helixwave_domains.genomics.variants import Allele, Status
from helixwave_domains.genomics.windows import allele_windows
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
fasta = read_fasta(sys.argv[1])
for position in (1, 125_000_001, 250_000_000):
    base = fasta.fetch("chr1", position - 1, position)
    found = allele_windows(Allele(0, 0, "chr1", position, ".", base, "N", 1, Status.OK), fasta,
                           window=2**17, on_mismatch="error")
    assert len(found.ref) == len(found.alt) == 2**17
print(peak() - before)
"""


@pytest.mark.slow
def test_a_contig_of_250_megabases_in_bounded_memory(tmp_path):
    with (tmp_path / "a.fa").open("wb") as stream:
        stream.write(b">chr1\n")
        for _ in range(2_500):
            stream.write((b"ACGTTGCAAC" * 10 + b"\n") * 1_000)
    run = subprocess.run([sys.executable, "-c", GROWTH, str(tmp_path / "a.fa")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # in KiB
    assert int(run.stdout) < 2**14
