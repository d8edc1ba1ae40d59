import bz2
import errno
import gzip
import os
import pickle
import shutil
import tempfile

import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics import fasta, sources
from helixwave_domains.genomics.fasta import Record, read_fasta, write_fasta
from helixwave_domains.genomics.sources import hint_for_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BgzfWriter = pytest.importorskip("Bio.bgzf").BgzfWriter
TWO = b">one first of two\nACGTA\nCGT\n>two\nnnrYacgtac\n"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HELIXWAVE_CACHE", str(folder))
    return folder / "fasta"


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="a.fa"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


def write_bgzf(path, content, block=100):
    with BgzfWriter(str(path)) as stream:
        for i in range(0, len(content), block):
            stream.write(content[i : i + block])
            stream.flush()
    return path


def stored(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def older(path, than):
    os.utime(path, ns=(0, than.stat().st_mtime_ns - 10**9))


@pytest.mark.parametrize("pack", ["plain", "gzip", "bgzf"])
def test_every_compression_reads_the_same(tmp_path, pack):
    path = tmp_path / ("a.fa" if pack == "plain" else "a.fa.gz")
    if pack == "bgzf":
        write_bgzf(path, TWO, block=7)
    else:
        path.write_bytes(TWO if pack == "plain" else gzip.compress(TWO))
    with read_fasta(path) as file:
        assert file.lengths == {"one": 8, "two": 10}
        assert list(file) == [Record("one", "first of two", "ACGTACGT"), Record("two", "", "NNRYACGTAC")]
        assert file.fetch("one", 3, 7) == "TACG"
        assert file.fetch("two") == "NNRYACGTAC"
        assert file.fetch("two", upper=False) == "nnrYacgtac"
        assert file.fetch("two", 4, 4) == ""
        assert "one" in file
        assert len(file) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    records=st.lists(st.text("ACGTNacgtn", min_size=1, max_size=60), min_size=1, max_size=4),
    widths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last_end=st.booleans(),
    data=st.data(),
)
def test_a_fetch_is_a_slice_whatever_the_lines(tmp_path, records, widths, end, last_end, data):
    path = tmp_path / "a.fa"
    lines = []
    for number, letters in enumerate(records):
        lines += [f">r{number} text".encode()]
        while letters:
            width = widths[len(lines) % len(widths)]
            lines, letters = lines + [letters[:width].encode()], letters[width:]
    path.write_bytes(end.join(lines) + (end if last_end else b""))
    with read_fasta(path) as file:
        assert [record.sequence for record in file] == [letters.upper() for letters in records]
        for number, letters in enumerate(records):
            start = data.draw(st.integers(0, len(letters)))
            stop = data.draw(st.integers(start, len(letters)))
            assert file.fetch(f"r{number}", start, stop, upper=False) == letters[start:stop]


@given(st.dictionaries(st.text("abc|.", min_size=1, max_size=5), st.text("ACGTRN", min_size=1, max_size=30)))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, sequences):
    path = tmp_path_factory.mktemp("fasta") / "a.fa"
    write_fasta(path, sequences.items(), width=7)
    if sequences:
        assert {record.name: record.sequence for record in read_fasta(path)} == sequences


def test_going_through_the_records_writes_nothing(write, cache):
    path = write(gzip.compress(TWO), "a.fa.gz")
    list(read_fasta(path))
    assert stored(path.parent) == ["a.fa.gz"]
    assert stored(cache) == []


def test_first_fetch_writes_the_index_of_samtools(write):
    path = write(TWO)
    read_fasta(path).fetch("one")
    assert (path.parent / "a.fa.fai").read_text() == "one\t8\t18\t5\t6\ntwo\t10\t33\t10\t11\n"


@pytest.mark.parametrize("pack", ["plain", "bgzf"])
def test_stale_index_is_rebuilt(tmp_path, pack):
    path = tmp_path / "a.fa.gz" if pack == "bgzf" else tmp_path / "a.fa"
    for content in (b">one\nAAAA\n", b">new header\nCCGTT\nCC\n>more\nA\n"):
        write_bgzf(path, content) if pack == "bgzf" else path.write_bytes(content)
        for index in tmp_path.glob("*.[fg]*i"):
            older(index, path)
        file = read_fasta(path)
        assert [file.fetch(name) for name in file.names] == [record.sequence for record in file]
    assert file.fetch("new", 1) == "CGTTCC"


@pytest.mark.parametrize(
    "index",
    [
        b"other\t8\t18\t5\t6\n",
        b"one\t8\t18\t5\t6\n",
        b"one\t8\t18\n",
        b"one\tx\t18\t5\t6\n",
        b"",
        b"\xff\t8\t18\t5\t6\n",
        b"one\t8\t18\t5\t6\ntwo\t900\t33\t10\t11\n",
        b"one\t8\t18\t5\t6\none\t10\t33\t10\t11\n",
    ],
)
def test_index_of_another_file_is_not_believed(write, index):
    path = write(TWO)
    write(index, "a.fa.fai")
    assert read_fasta(path).fetch("two", 4) == "ACGTAC"


def test_index_of_another_bgzf_is_not_believed(tmp_path):
    path = write_bgzf(tmp_path / "a.fa.gz", TWO)
    (tmp_path / "a.fa.gz.fai").write_bytes(b"other\t8\t18\t5\t6\n")
    assert read_fasta(path).names == ["one", "two"]


def test_damage_behind_an_index_is_found_by_fetch(tmp_path):
    path = write_bgzf(tmp_path / "a.fa.gz", b">a\n" + b"ACGT" * 2000 + b"\n", block=2000)
    file, date, data = read_fasta(path), path.stat().st_mtime_ns, path.read_bytes()
    file.fetch("a")
    # behind the header of the second block, most of which is only for show
    second = data.index(data[:4], 4) + 18
    for where in range(second, second + 20, 4):
        path.write_bytes(data[:where] + b"\xee" * 4 + data[where + 4 :])
        os.utime(path, ns=(date, date))
        file.close()
        with pytest.raises(InputError, match=r"damaged at a:0-8000 .*Copy it again"):
            file.fetch("a")


def test_index_that_is_too_long_is_found_by_fetch(write, monkeypatch):
    file = read_fasta(write(TWO))
    monkeypatch.setattr(file._reader(), "fetch", lambda *_: "ACG")
    with pytest.raises(InputError, match=r"ends before two:0-10. Delete its .fai and .gzi"):
        file.fetch("two")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_file_that_changed_since_is_not_read_with_the_old_index(write, pack):
    file = read_fasta(write(pack(TWO)))
    write(pack(TWO[:-5]))
    with pytest.raises(InputError, match=r"a.fa: changed since it was opened. Run again"):
        file.fetch("two")


def test_index_of_a_file_from_the_future_stays_fresh(write):
    path = write(TWO)
    os.utime(path, (4e9, 4e9))
    read_fasta(path).fetch("one")
    before = (path.parent / "a.fa.fai").stat().st_ino
    assert read_fasta(path).fetch("one") == "ACGTACGT"
    assert (path.parent / "a.fa.fai").stat().st_ino == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_index_goes_to_the_cache_where_writing_beside_fails(write, cache, monkeypatch, number):
    path = write(TWO)
    whole = tempfile.mkstemp

    def only_in_cache(**places):
        if places["dir"] == path.parent:
            raise OSError(number, os.strerror(number))
        return whole(**places)

    monkeypatch.setattr(tempfile, "mkstemp", only_in_cache)
    assert read_fasta(path).fetch("one") == "ACGTACGT"
    assert stored(path.parent) == ["a.fa"]
    assert len(stored(cache)) == 1
    assert read_fasta(path).fetch("two", 0, 3) == "NNR"


def test_gzip_is_copied_once(write, cache):
    path = write(gzip.compress(TWO), "a.fa.gz")
    assert read_fasta(path).fetch("one") == "ACGTACGT"
    copies = {name: (cache / name).stat().st_ino for name in stored(cache)}
    assert len(copies) == 2
    assert read_fasta(path).fetch("two") == "NNRYACGTAC"
    assert {name: (cache / name).stat().st_ino for name in stored(cache)} == copies
    assert stored(path.parent) == ["a.fa.gz"]


def test_changed_gzip_gets_another_copy(write):
    path = write(gzip.compress(b">one\nAAAA\n"), "a.fa.gz")
    assert read_fasta(path).fetch("one") == "AAAA"
    write(gzip.compress(b">one\nCCCCC\n"), "a.fa.gz")
    assert read_fasta(path).fetch("one") == "CCCCC"


def test_failed_copy_leaves_nothing(write, cache, monkeypatch):
    file = read_fasta(write(gzip.compress(TWO), "a.fa.gz"))

    def fail_half_way(_):
        yield "one", "", b"ACGT"
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(fasta, "_raw_records", fail_half_way)
    with pytest.raises(InputError, match="the disk is full"):
        file.fetch("one")
    assert stored(cache) == []


def test_full_disk_is_refused_before_the_copy(write, cache, monkeypatch):
    path = write(gzip.compress(TWO), "a.fa.gz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InputError, match=r"plain copy of 0 MiB in .*where 0 MiB are free. Compress it with bgzip"):
        read_fasta(path).fetch("one")
    assert stored(cache) == []


def test_bgzf_without_biopython_is_copied(tmp_path, monkeypatch, cache):
    path = write_bgzf(tmp_path / "a.fa.gz", TWO)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert read_fasta(path).fetch("one") == "ACGTACGT"
    assert len(stored(cache)) == 2


@pytest.mark.parametrize("name", ["plain.fa.gz", "a b (1).fa", "x.zip", "no_ending"])
def test_the_name_of_a_plain_file_does_not_matter(write, name):
    assert read_fasta(write(TWO, name)).fetch("one", 1, 3) == "CG"


def test_bgzf_may_have_any_name(tmp_path):
    assert read_fasta(write_bgzf(tmp_path / "a.fa.bgzipped", TWO)).fetch("one", 1, 3) == "CG"


def test_stored_bgzf_of_samtools_gives_the_windows_of_its_plain_text(data_folder, tmp_path, cache):
    source = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    plain = tmp_path / "plain.fa"
    plain.write_bytes(gzip.decompress(source.read_bytes()))
    with read_fasta(source) as packed, read_fasta(plain) as unpacked:
        assert packed.lengths == unpacked.lengths == {"chr1": 1_000_000}
        for start in [0, 9_990, 65_279, 65_280, 487_599, 999_000]:
            assert packed.fetch("chr1", start, start + 1000) == unpacked.fetch("chr1", start, start + 1000)
    assert stored(cache) == []


def test_own_block_index_reads_as_that_of_samtools(data_folder, tmp_path):
    source = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    copy = tmp_path / "copy.fa.gz"
    copy.write_bytes(source.read_bytes())
    read_fasta(copy).fetch("chr1", 5, 10)
    for ending in (".gzi", ".fai"):
        assert (tmp_path / f"copy.fa.gz{ending}").read_bytes() == source.with_name(source.name + ending).read_bytes()


def test_soft_masked_file_reads_in_upper_case(data_folder):
    (record,) = read_fasta(data_folder / "genbank_misc" / "NC_001802lc.fna")
    assert record.sequence.startswith("GGTCTCTCTGG")


def test_windows_header_is_read(write):
    file = read_fasta(write(b">caf\xe9 au \x80\nACGT\n>b\xa0c \xe9\nGG\n"))
    assert [(record.name, record.description) for record in file] == [("café", "au €"), ("b\xa0c", "é")]
    assert file.fetch("café", 1, 3) == "CG"
    assert file.fetch("b\xa0c") == "GG"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf>one\nACGT\nAC\n",
        b"\n\n>one\nACGT\nAC\n",
        b">one\nACGT\nAC\n\n\n",
        b">one\r\nACGT\r\nAC\r\n\r\n",
        b">one\r\nACGT\nAC",
        b">one\nACG\n\nTAC",
        b">one\n\nACGTAC",
        b">one\nACG  \nTAC  ",
        b">one\nA\nCGTAC",
    ],
)
def test_odd_lines_are_fine(write, content):
    file = read_fasta(write(content))
    assert [record.sequence for record in file] == ["ACGTAC"]
    assert [file.fetch("one", i, i + 2) for i in range(0, 6, 2)] == ["AC", "GT", "AC"]


def test_file_survives_being_sent_to_a_worker(write):
    file = read_fasta(write(TWO))
    file.fetch("one")
    assert pickle.loads(pickle.dumps(file)).fetch("one", 2, 4) == "GT"  # noqa: S301


def test_handle_of_another_process_is_not_used(write, monkeypatch):
    file = read_fasta(write(TWO))
    first = file._reader()
    assert file._reader() is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert file._reader() is not first
    first.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the FASTA file is empty"),
        (b" \n\n", "nothing but white space"),
        (b"@read1\nACGT\n+\nIIII\n", "not a FASTA, which starts with '>name'. It starts with '@read1': a FASTQ?"),
        (b"LOCUS       X\n", "a GenBank file?"),
        (b"##fileformat=VCFv4.2\n", "a VCF file?"),
        (b"ACGT\n>one\nAC\n", "It starts with 'ACGT'. Is the header line missing?"),
        (b"\x00\x01\x02BAM", "This is a binary file"),
        (b">one\n>two\nACGT\n", "record 'one' has no sequence"),
        (b">one\nACGT\n>two\n\n", "record 'two' has no sequence"),
        (b">one\nACGT\n>one more\nA\n", "line 3 names a second record 'one'"),
        (b">one\nACGT\n> \nA\n", "line 3 is a record without a name"),
        (b">one\rACGT\r", "line 1 has old Macintosh line ends"),
        (gzip.compress(TWO, mtime=0)[:-12], "damaged or cut-off gzip .*Copy or download it again"),
        (gzip.compress(TWO, mtime=0)[:20] + b"\xff" * 20, "damaged or cut-off gzip"),
        (bz2.compress(TWO), "compressed with bzip2. Decompress it"),
    ],
)
def test_wrong_file_is_refused_in_one_line(write, content, message):
    with pytest.raises(InputError, match=message) as error:
        read_fasta(write(content))
    assert "\n" not in str(error.value)
    assert str(error.value).count("a.fa:") == 1


def test_cut_off_bgzf_is_refused(tmp_path):
    path = write_bgzf(tmp_path / "a.fa.gz", TWO)
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="cut-off BGZF, its end block is missing"):
        read_fasta(path)


def test_missing_file_offers_the_nearest(write):
    path = write(TWO, "genome.fa")
    with pytest.raises(InputError, match=r"no such FASTA file. Did you mean 'genome.fa'\?"):
        read_fasta(path.with_name("genome.fasta"))


def test_missing_file_in_a_folder_of_many_stays_one_short_line(write):
    for number in range(40):
        path = write(TWO, f"genome{number}.fa")
    with pytest.raises(InputError, match=r"Did you mean .* and 28 more\.$"):
        read_fasta(path.with_name("genome7.fasta"))


def test_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist either"):
        read_fasta(tmp_path / "nowhere" / "a.fa")
    with pytest.raises(InputError, match="Its folder is empty"):
        read_fasta(tmp_path / "a.fa")


def test_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="this is a folder, expected a FASTA file"):
        read_fasta(tmp_path)


def test_unreadable_file_is_refused(write, monkeypatch):
    path = write(TWO)

    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(sources, "_first_bytes", refuse)
    with pytest.raises(InputError, match="no permission to read this FASTA file"):
        read_fasta(path)


def test_unknown_letter_is_found_by_both_ways_of_reading(write):
    file = read_fasta(write(b">one\nACGT\nAC*T\n"))
    for read in (lambda: list(file), lambda: file.fetch("one", 5, 8)):
        with pytest.raises(InputError, match=r"a.fa: one: unknown letter '\*' at position 7"):
            read()
    assert file.fetch("one", 0, 6) == "ACGTAC"


def test_binary_junk_in_a_record_is_refused(write):
    file = read_fasta(write(b">one\nAC\xff\xfe\n"))
    with pytest.raises(InputError, match="one: unknown letter 'ÿ' at position 3"):
        list(file)
    with pytest.raises(InputError, match="one:0-4 holds bytes that are no letters"):
        file.fetch("one")


def test_missing_record_offers_the_nearest(write):
    with pytest.raises(InputError, match=r"no record named 'tow'. Did you mean 'two'\? Known: one, two"):
        read_fasta(write(TWO)).fetch("tow")


@pytest.mark.parametrize(("asked", "there"), [("1", "chr1"), ("chr1", "1"), ("MT", "chrM"), ("chrM", "MT")])
def test_other_convention_of_chromosome_names_is_recognised(asked, there):
    expected = f"The file says {there!r} where you say {asked!r}: use the same names in both."
    assert hint_for_record(asked, ["x", there]) == expected


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 9), (5, 4), (9, None)])
def test_range_outside_a_record_is_refused(write, start, end):
    with pytest.raises(InputError, match=r"expected 0 <= start <= end <= 8, its length. Is this the right assembly"):
        read_fasta(write(TWO)).fetch("one", start, end)
