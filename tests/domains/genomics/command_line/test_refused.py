"""What cannot be done is said in a line, and leaves nothing behind; what is odd but can be done is done."""

import gzip
import tempfile

import pytest
import torch
from helixwave.checkpoint import build_model, save
from helixwave_domains.genomics.fasta import write_fasta

zarr = pytest.importorskip("zarr")

EMBED = ("embed", "fasta", "my.fa")
BED = ("embed", "bed", "peaks.bed", "--reference")
SCORE = ("score", "vcf", "calls.vcf", "--reference", "genome.fa", "--window", "20")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed", "fasta", "none.fa"], "none.fa: no such FASTA file"),
        ([*EMBED, "--pool", "mode"], "pool is 'mode'"),
        ([*EMBED, "--shard", "3/2"], "shard is '3/2', expected I/N with I from 1 to N, such as 1/4"),
        ([*EMBED, "--device", "cuda:99", "--workers", "2"], "--workers 2 are for a CPU, the device is cuda:99"),
        ([*EMBED, "--window", "65"], "window is 65, expected at most 64, which this checkpoint was made for"),
        ([*EMBED, "--overlap", "64"], "overlap is 64, expected 0 to 63, less than the window"),
        ([*EMBED, "--layer", "2"], "layer is 2, expected 0 (the embedding) to 1 (after the last layer), or -2 to -1"),
        ([*EMBED, "-o", "my.fa"], "my.fa: no table of embeddings or scores. Choose another output"),
        ([*EMBED, "-o", "my.fa/o.zarr"], "my.fa is a file, expected a folder. Choose another output"),
        ([*BED, "none.fa"], "none.fa: no such FASTA file"),
        ([*BED, "genome.fa", "--window", "0"], "window 0 with center 0: expected a window of at least 1"),
        ([*SCORE[:4], "none.fa", "-o", "s.tsv"], "none.fa: no such FASTA file"),
        ([*SCORE[:2], "none.vcf", *SCORE[3:], "-o", "s.tsv"], "none.vcf: no such VCF or BCF file"),
        ([*SCORE, "-o", "x.xlsx"], "x.xlsx: expected a name that ends in .vcf, .vcf.gz, .vcf.bgz, .tsv, .parquet"),
        ([*SCORE, "-o", "calls.vcf", "--overwrite"], "calls.vcf: this is an input. Choose another output"),
        ([*SCORE, "-o", "s.tsv", "--score", "likelihood"], "score likelihood needs a causal language model"),
        ([*SCORE, "-o", "s.tsv", "--center", "20"], "window 20 with center 20: expected a window of at least 1"),
        ([*SCORE, "-o", "s.tsv", "--window", "65"], "window is 65, expected at most 64"),
        ([*SCORE, "-o", "s.tsv", "--ref-mismatch", "error"], "genome.fa has"),
    ],
)
def test_options(words, message, here, checkpoints, refused):
    before = sorted(here.rglob("*"))
    assert message in refused(*words, "--checkpoint", checkpoints / "masked")
    assert [path for path in sorted(here.rglob("*")) if path.name != "genome.fa.fai"] == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.fa: the FASTA file is empty"),
        ("\n\n", "x.fa: holds nothing but white space"),
        (">a\n>b\nACGT\n", "x.fa: record 1, 'a', has no sequence"),
        (">p\nMKVLAAGI\n", "x.fa: p: unknown letter 'L' at position 4"),
        ("##fileformat=VCFv4.2\n", "x.fa: not a FASTA, which starts with '>name'"),
    ],
    ids=["empty", "blank", "no sequence", "protein", "VCF"],
)
def test_files_that_are_no_fasta_of_dna(content, message, here, checkpoints, refused):
    (here / "x.fa").write_text(content)
    assert message in refused("embed", "fasta", "x.fa", "--checkpoint", checkpoints / "causal")
    assert not (here / "x.zarr").exists()


def test_files_of_odd_forms(here, checkpoints, done):
    """Line ends of Windows, and gzip that is not BGZF."""
    (here / "crlf.fa").write_bytes((here / "my.fa").read_bytes().replace(b"\n", b"\r\n"))
    with gzip.open("packed.fa.gz", "wb") as stream:
        stream.write((here / "my.fa").read_bytes())
    for name in ("my.fa", "crlf.fa", "packed.fa.gz"):
        done("embed", "fasta", name, "--checkpoint", checkpoints / "causal")
    means = [zarr.open(f"{name}.zarr")["mean"][:].tolist() for name in ("my", "crlf", "packed")]
    assert means[0] == means[1] == means[2]


def test_a_vcf_without_records(here, checkpoints, done):
    (here / "none.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    words = ["none.vcf", "--reference", "genome.fa", "--checkpoint", checkpoints / "causal"]
    for name in ("s.vcf", "s.tsv", "s.parquet"):
        done("score", "vcf", *words, "-o", name)
    assert len((here / "s.tsv").read_text().splitlines()) == 1
    assert (here / "s.vcf").read_text().splitlines()[-1] == "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    done("embed", "vcf", *words, "--pool", "none,mean")
    assert zarr.open("none.zarr")["ref_mean"].shape == (0, 8)


def test_scores_that_are_there_already(here, checkpoints, done, refused):
    done(*SCORE, "--checkpoint", checkpoints / "masked", "-o", "s.vcf")
    again = (*SCORE[:2], "s.vcf", *SCORE[3:], "--checkpoint", checkpoints / "masked", "-o")
    message = refused(*again, "t.vcf")
    assert "s.vcf: has INFO HW_STATUS already. Remove it: `bcftools annotate -x INFO/HW_STATUS`" in message
    assert not list(here.glob("t.vcf*"))
    done(*again, "t.tsv")


def test_a_vcf_whose_samples_have_no_names(here, checkpoints, refused):
    """Found out before the alleles are scored."""
    lines = [f"{line}\tGT\t0/1" for line in (here / "calls.vcf").read_text().splitlines() if not line.startswith("#")]
    (here / "samples.vcf").write_text("\n".join(["##fileformat=VCFv4.2", *lines, ""]))
    words = (*SCORE[:2], "samples.vcf", *SCORE[3:], "--checkpoint", checkpoints / "masked", "-o", "t.vcf")
    assert "samples.vcf: no line '#CHROM ...' above the first record of 10 columns" in refused(*words)
    assert not list(here.glob("t.vcf*"))


def test_a_genome_that_has_changed_is_indexed_anew(here, checkpoints, done):
    words = (*BED, "genome.fa", "--checkpoint", checkpoints / "masked")
    done(*words)
    write_fasta("genome.fa", [("chr9", "ACGTACGT" * 4)])
    done(*words, "--overwrite")
    assert zarr.open("peaks.zarr")["status"][:].tolist() == ["unknown_contig"] * 3 + ["ok"]


def test_a_folder_of_others(checkpoints, monkeypatch, refused):
    def forbidden(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", forbidden)
    message = refused(*EMBED, "--checkpoint", checkpoints / "causal", "-o", "theirs.zarr")
    assert "theirs.zarr: no permission to write there. Choose another folder" in message


def test_checkpoints_that_are_none(here, refused):
    assert "nowhere: no such checkpoint. Expected the folder of a run" in refused(*EMBED, "--checkpoint", "nowhere")
    assert "holds no weights" in refused(*EMBED, "--checkpoint", here)
    assert "my.fa is no checkpoint: it begins with b'>" in refused(*EMBED, "--checkpoint", "my.fa")
    with torch.random.fork_rng():
        backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "mlp"}]}
        save(build_model({"model": {"name": "token_model"}, "backbone": backbone, "classes": ["a", "b"]}), here / "t")
    assert "t: holds a TokenModel, expected a language model" in refused(*EMBED, "--checkpoint", "t")
