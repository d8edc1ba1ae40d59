"""What a kill, a full disk or the end of a shard leaves behind, and how a run goes on from there."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.store import Table

zarr = pytest.importorskip("zarr")

PROGRAM = "from helixwave.cli import main; main()"
EMBED = ("embed", "fasta", "many.fa", "--pool", "mean,none", "--block-rows", 4)
SCORE = ("score", "vcf", "many.vcf", "--reference", "genome.fa", "--window", 20, "--block-rows", 8)
BLOCKS = 10


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoints, contig, done):
    """Files of ten blocks, and what uninterrupted runs make of them."""
    folder = tmp_path_factory.mktemp("finished")
    write_fasta(folder / "many.fa", [(f"r{i}", contig[i : 2 * i + 5]) for i in range(4 * BLOCKS)])
    lines = [f"1\t{i}\trs{i}\t{contig[i - 1]}\t{'ACGT'[i % 4]}\t.\t.\t.\n" for i in range(1, 8 * BLOCKS + 1)]
    (folder / "many.vcf").write_text("##fileformat=VCFv4.2\n" + "".join(lines))
    write_fasta(folder / "genome.fa", [("chr1", contig)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done(*EMBED, "--checkpoint", checkpoints / "masked", "-o", "whole.zarr")
        done(*SCORE, "--checkpoint", checkpoints / "masked", "-o", "whole.vcf")
        done(*SCORE, "--checkpoint", checkpoints / "masked", "-o", "whole.tsv", "--keep")
    return folder


@pytest.fixture
def many(here, finished, checkpoints):
    """The same files here, and the end of a command."""
    shutil.copytree(finished, here, dirs_exist_ok=True)
    return "--checkpoint", checkpoints / "masked"


def blocks(folder):
    return sum(path.name.isdecimal() for path in (folder / "status" / "c").glob("*"))


def kill_after(number, folder, *words):
    """Start a command and kill it when so many blocks are there."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder.exists() and blocks(folder) >= number):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


class Killed(BaseException):
    """Not caught by what cleans up after errors."""


@pytest.fixture
def die_at(monkeypatch, run):
    """`die_at(number, *words)` writes no more than so many chunks, as if killed in the middle of the next one."""
    put = zarr.storage._local._put

    def call(number, *words):
        left = [number]

        def dying(path, value, exclusive=False):
            if "c" in path.parts and left[0] == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".0123.partial").write_bytes(value.to_bytes()[:5])
                raise Killed
            left[0] -= "c" in path.parts
            return put(path, value, exclusive)

        with monkeypatch.context() as patch:
            patch.setattr("zarr.storage._local._put", dying)
            with pytest.raises(Killed):
                run(*words)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 4, 9])
def test_embed_killed_and_resumed(number, here, many, done, refused):
    kill_after(number, here / "killed.zarr", *EMBED, *many, "-o", "killed.zarr")
    assert number <= blocks(here / "killed.zarr") < BLOCKS
    assert "killed.zarr: is there already" in refused(*EMBED, *many, "-o", "killed.zarr")
    done(*EMBED, *many, "-o", "killed.zarr", "--resume")
    assert files(here / "killed.zarr") == files(here / "whole.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 5, 9])
def test_score_killed_and_resumed(number, here, many, done):
    kill_after(number, here / "killed.vcf.partial.zarr", *SCORE, *many, "-o", "killed.vcf")
    assert not (here / "killed.vcf").exists()
    done(*SCORE, *many, "-o", "killed.vcf", "--resume")
    assert (here / "killed.vcf").read_bytes() == (here / "whole.vcf").read_bytes()


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(here, many, done):
    words = (*EMBED, *many, "-o", "killed.zarr", "--workers", 2)
    kill_after(1, here / "killed.zarr", *words)
    kill_after(5, here / "killed.zarr", *words, "--resume")
    done(*EMBED, *many, "-o", "killed.zarr", "--resume")
    assert files(here / "killed.zarr") == files(here / "whole.zarr")


def test_embed_stopped_in_the_middle_of_a_chunk(here, many, die_at, done):
    of_a_block = len(Table(here / "whole.zarr").columns) + 1
    for number in (0, of_a_block - 1, 44, BLOCKS * of_a_block - 1):
        die_at(number, *EMBED, *many, "-o", "killed.zarr")
        assert blocks(here / "killed.zarr") == number // of_a_block
        done(*EMBED, *many, "-o", "killed.zarr", "--resume")
        assert files(here / "killed.zarr") == files(here / "whole.zarr"), number
        shutil.rmtree("killed.zarr")


def test_score_stopped_in_the_middle_of_a_chunk(here, many, die_at, done):
    of_a_block = len(Table(here / "whole.tsv.partial.zarr").columns)
    for number in (0, of_a_block, 64, BLOCKS * of_a_block - 1):
        die_at(number, *SCORE, *many, "-o", "killed.vcf")
        assert blocks(here / "killed.vcf.partial.zarr") == number // of_a_block
        assert not (here / "killed.vcf").exists()
        done(*SCORE, *many, "-o", "killed.vcf", "--resume")
        assert (here / "killed.vcf").read_bytes() == (here / "whole.vcf").read_bytes(), number
        assert not list(here.glob("killed.vcf.partial*"))
        (here / "killed.vcf").unlink()


def test_killed_again_and_again(here, many, die_at, done):
    """A little further each time, over what the last run left half written."""
    die_at(3, *EMBED, *many, "-o", "killed.zarr")
    for number in (4, 17, 9):
        die_at(number, *EMBED, *many, "-o", "killed.zarr", "--resume")
    done(*EMBED, *many, "-o", "killed.zarr", "--resume")
    assert files(here / "killed.zarr") == files(here / "whole.zarr")


def test_what_is_complete_is_left_as_it_is(here, many, done, refused):
    chunk = here / "whole.zarr" / "status" / "c" / "0"
    before = chunk.stat().st_mtime_ns
    done(*EMBED, *many, "-o", "whole.zarr", "--resume")
    assert chunk.stat().st_mtime_ns == before
    assert "whole.vcf: is complete" in done(*SCORE, *many, "-o", "whole.vcf", "--resume")
    assert "whole.vcf: is there already" in refused(*SCORE, *many, "-o", "whole.vcf")


def test_killed_while_the_output_is_written(here, many, monkeypatch, ended, done):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for place in ("score_files.annotate_vcf", "store.remove"):
        with monkeypatch.context() as patch:
            patch.setattr(f"helixwave_domains.genomics.{place}", stop)
            code, _ = ended(*SCORE, *many, "-o", "killed.vcf", "--resume")
        assert code == 130
        assert (here / "killed.vcf.partial.zarr").exists()
    done(*SCORE, *many, "-o", "killed.vcf", "--resume")
    assert (here / "killed.vcf").read_bytes() == (here / "whole.vcf").read_bytes()
    assert not (here / "killed.vcf.partial.zarr").exists()


def test_shards_in_any_order_write_what_one_run_does(here, many, done, refused):
    outputs = [done(*EMBED, *many, "-o", "parts.zarr", "--shard", f"{number}/3") for number in (3, 1, 2)]
    assert "shard 3/3: 16 rows are done, 24 of 40 are missing" in outputs[0]
    assert "shard 1/3: 12 rows are done, 12 of 40 are missing" in outputs[1]
    assert files(here / "parts.zarr") == files(here / "whole.zarr")
    again = (*EMBED, *many, "-o", "parts.zarr", "--shard", "2/3")
    assert "shard 2/3 has been begun already. Use --resume" in refused(*again)
    done(*again, "--resume")


def test_shards_of_machines_without_a_common_disk(here, many, done):
    """Their files in one folder are the whole: nothing is computed or rewritten but the manifest."""
    for number in (1, 2):
        done(*EMBED, *many, "-o", f"part{number}.zarr", "--shard", f"{number}/2")
    for path in list((here / "part2.zarr").rglob("*")):
        target = here / "part1.zarr" / path.relative_to(here / "part2.zarr")
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    before = {path: path.stat().st_ino for path in (here / "part1.zarr").rglob("c/*")}
    done(*EMBED, *many, "-o", "part1.zarr", "--resume")
    assert before == {path: path.stat().st_ino for path in (here / "part1.zarr").rglob("c/*")}
    assert files(here / "part1.zarr") == files(here / "whole.zarr")


def test_shards_of_scores(here, many, done):
    assert "40 of 80 are missing" in done(*SCORE, *many, "-o", "parts.vcf", "--shard", "1/2")
    output = done(*SCORE, *many, "-o", "parts.vcf", "--shard", "2/2")
    assert "all rows are there. To write parts.vcf: the same command with --resume and without --shard" in output
    done(*SCORE, *many, "-o", "parts.vcf", "--resume")
    assert (here / "parts.vcf").read_bytes() == (here / "whole.vcf").read_bytes()


def test_where_the_inputs_lie_does_not_matter(here, many, die_at, done):
    die_at(40, *SCORE, *many, "-o", "killed.vcf")
    (here / "many.vcf").rename("moved.vcf")
    done(*SCORE[:2], "moved.vcf", *SCORE[3:], *many, "-o", "killed.vcf", "--resume")
    lines = [(here / f"{name}.vcf").read_text().splitlines() for name in ("killed", "whole")]
    command = "##helixwave_command=helixwave score vcf many.vcf"
    assert [line for line in lines[0] if not line.startswith(command)] == [
        line for line in lines[1] if not line.startswith(command)
    ]


@pytest.mark.parametrize(("command", "name"), [(EMBED, "full.zarr"), (SCORE, "full.vcf")], ids=["embed", "score"])
def test_a_full_disk_stops_a_run_that_can_be_gone_on_with(command, name, here, many, monkeypatch, done, refused):
    put, left = zarr.storage._local._put, [65]

    def full(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        message = refused(*command, *many, "-o", name)
    assert re.search(rf"{name}.*: the disk is full \([\d.]+ MiB free\)", message)
    assert "--resume goes on from there" in message
    folder = here / (name if name.endswith(".zarr") else f"{name}.partial.zarr")
    assert 0 < blocks(folder) < BLOCKS
    done(*command, *many, "-o", name, "--resume")
    if folder.exists():
        assert files(folder) == files(here / "whole.zarr")
    else:
        assert (here / name).read_bytes() == (here / "whole.vcf").read_bytes()


def test_what_is_there_is_not_mixed_with_something_else(here, many, checkpoints, done, refused):
    again = (*EMBED, "-o", "whole.zarr", "--resume")
    message = "whole.zarr: was begun with options.embedding.strand +, this run has both"
    assert message in refused(*again, *many, "--strand", "both")
    assert "was begun with checkpoint.sha256" in refused(*again, "--checkpoint", checkpoints / "causal", "--window", 50)
    shutil.copy("many.fa", "other.fa")
    other = ("embed", "fasta", "other.fa", *again[3:])
    done(*other, *many)
    write_fasta("many.fa", [("r", "ACGT")] * 40)
    assert "was begun with inputs.fasta.size" in refused(*again, *many)
    assert "was begun with rows_per_block 4, this run has 8" in refused(*other, *many, "--block-rows", 8)


def test_what_is_there_is_replaced_when_asked_for(here, many, done, refused):
    there = (*EMBED, *many, "-o", "whole.zarr")
    write_fasta("many.fa", [("r", "ACGT")] * 40)
    done(*there, "--overwrite")
    assert list(Table(here / "whole.zarr").column("name")) == ["r"] * 40
    assert "--overwrite would take what other shards" in refused(*there, "--overwrite", "--shard", "1/2")
    assert "Choose one of them" in refused(*there, "--overwrite", "--resume")
    (here / "precious").mkdir()
    assert "precious: no table of embeddings or scores" in refused(*EMBED, *many, "-o", "precious", "--overwrite")
