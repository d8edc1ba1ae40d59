"""`helixwave embed`: tables of embeddings of sequences, intervals and alleles."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from helixwave.checkpoint import load
from helixwave_domains.genomics.alphabet import reverse_complement_string
from helixwave_domains.genomics.embed_task import EmbedTask
from helixwave_domains.genomics.embedding import Passage, embed
from helixwave_domains.genomics.fasta import read_fasta, write_fasta
from helixwave_domains.genomics.rows import AlleleRows, allele_passages
from helixwave_domains.genomics.store import Table
from helixwave_domains.genomics.variants import Status
from helixwave_domains.genomics.windows import AlleleWindows

zarr = pytest.importorskip("zarr")
bgzf = pytest.importorskip("Bio.bgzf")


def test_sequences(checkpoints, sequences, done):
    output = done("embed", "fasta", "my.fa", "--checkpoint", checkpoints / "causal", "--pool", "mean")
    assert output.split("\n")[1].split() == ["ok", "4"]
    assert output.endswith("letters that are ambiguity codes and were read as unknown: 2\nmy.zarr\n")
    store = zarr.open("my.zarr")
    assert store["name"][:].tolist() == ["first", "second", "second", "last"]
    (batch,) = embed(sequences, load(checkpoints / "causal"))
    np.testing.assert_array_equal(store["mean"][:], batch.pooled["mean"])
    assert store["unknown"][:].tolist() == [0, 2, 0, 0]
    assert store["length"][:].tolist() == [17, 8, 7, 70]
    assert store["status"][:].tolist() == ["ok"] * 4


def test_options_reach_the_model_and_the_manifest(here, checkpoints, sequences, done):
    words = ["--pool", "max,none", "--layer", -2, "--strand", "-", "--window", 20, "--overlap", 5]
    words += ["--batch-tokens", 40, "--dtype", "bfloat16"]
    done("embed", "fasta", "my.fa", "--checkpoint", checkpoints / "causal", *words, "-o", "o.zarr")
    arguments = {"pool": ["max", "none"], "layer": -2, "strand": "-", "window": 20, "overlap": 5, "batch_tokens": 40}
    (batch,) = embed(sequences, load(checkpoints / "causal"), **arguments, dtype=torch.bfloat16)
    table = Table(here / "o.zarr")
    np.testing.assert_array_equal(list(table.column("max")), batch.pooled["max"])
    for row, states in enumerate(batch.positions):
        np.testing.assert_array_equal(table.positions_of(row), states)
    facts = json.loads((here / "o.zarr" / "manifest.json").read_text())
    assert facts["options"]["embedding"] == {**arguments, "layer": 0, "dtype": "bfloat16", "device": "cpu"}
    assert facts["status"] == {"ok": 4}
    assert facts["unknown_letters"] == 2
    assert facts["inputs"]["fasta"]["size"] == (here / "my.fa").stat().st_size
    assert facts["checkpoint"]["sha256"].keys() == {"config.json", "model.safetensors"}
    assert facts["versions"]["torch"] == torch.__version__


def test_intervals_on_their_strands(checkpoints, contig, done):
    words = ["--reference", "genome.fa", "--checkpoint", checkpoints / "masked", "--window", 10]
    done("embed", "bed", "peaks.bed", *words)
    store = zarr.open("peaks.zarr")
    assert store["status"][:].tolist() == ["ok", "ok", "outside_contig", "unknown_contig"]
    assert store["name"][:].tolist() == ["peak", "edge", "beyond", "nowhere"]
    assert store["contig"][:].tolist() == ["chr1", "1", "chr1", "chr9"]
    assert store["start"][:].tolist() == [15, -3, 290, 0]
    assert store["end"][:].tolist() == [25, 7, 310, 4]
    assert store["padded"][1].tolist() == [3, 0]
    passages = [("peak", reverse_complement_string(contig[15:25])), Passage("edge", "NNN" + contig[:7], (3, 0))]
    (batch,) = embed(passages, load(checkpoints / "masked"))
    np.testing.assert_array_equal(store["mean"][:2], batch.pooled["mean"])
    assert np.isnan(store["mean"][2:]).all()


def test_alleles_with_both_of_their_windows(here, checkpoints, contig, done):
    words = ["--reference", "genome.fa", "--checkpoint", checkpoints / "masked", "--window", 20, "--pool", "mean,none"]
    done("embed", "vcf", "calls.vcf", *words, "--center", 4)
    table = Table(here / "calls.zarr")
    status = list(table.column("status"))
    assert status[:4] == ["alt_equals_ref" if letter == contig[4] else "ok" for letter in "ACGT"]
    assert status[4:] == ["symbolic", "no_alt", "ok", "ref_mismatch", "ok"]
    rows = AlleleRows(here / "calls.vcf", here / "genome.fa", 20, 4, "skip")
    ref, alt = (np.array(list(table.column(f"{role}_mean"))) for role in ("ref", "alt"))
    for i, (allele, windows) in enumerate(rows.alleles()):
        assert (status[i], list(table.column("alt"))[i]) == (windows.status, allele.alt)
        if not windows.status.usable:
            assert np.isnan([ref[i], alt[i]]).all()
            continue
        (batch,) = embed(allele_passages("", windows), load(checkpoints / "masked"), pool=["mean", "none"])
        np.testing.assert_allclose([ref[i], alt[i]], batch.pooled["mean"], atol=1e-6)
        np.testing.assert_allclose(table.positions_of(i, "alt_positions"), batch.positions[1], atol=1e-6)


def test_padding_of_each_window_is_its_own():
    """A deletion at the end of a contig: the window with ALT reaches further, and has more padding."""
    windows = AlleleWindows(Status.OK, "c", 4, "ACGTACNN", "ACCNNNNN", (2, 5), (2, 2), (0, 5))
    assert [passage.padded for passage in allele_passages("", windows)] == [(0, 2), (0, 5)]
    insertion = AlleleWindows(Status.OK, "c", 4, "ACGTACNN", "ACTTGTAC", (2, 2), (2, 4), (0, 2))
    assert [passage.padded for passage in allele_passages("", insertion)] == [(0, 2), (0, 0)]


def test_every_allele_of_real_files_has_a_status(data_folder, real_calls, checkpoints):
    reference = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    model = load(checkpoints / "masked")
    for path, records in real_calls:
        task = EmbedTask(AlleleRows(path, reference, 16, None, "skip"), {}, {})
        columns = task.compute(task.items(), model).columns
        assert len(columns["status"]) == sum(record[4].count(b",") + 1 for record in records), path
        for role in ("ref_mean", "alt_mean"):
            there = ~np.isnan(columns[role]).any(axis=1)
            np.testing.assert_array_equal(there, [status == "ok" for status in columns["status"]])


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_bgzf_and_lower_case_make_no_difference(kind, data_folder, here, checkpoints, done):
    path = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    with read_fasta(path) as fasta:
        letters = "".join(
            fasta.fetch("chr1", start, start + 500).lower() + fasta.fetch("chr1", start + 500, start + 1000)
            for start in range(100_000, 120_000, 1000)
        )
    (here / "plain.fa").write_text(f">x\n{letters}\n>y\n{letters[:500]}\n")
    (here / "upper.fa").write_text(f">x\n{letters.upper()}\n>y\n{letters[:500].upper()}\n")
    with bgzf.BgzfWriter("packed.fa.gz") as stream:
        stream.write((here / "plain.fa").read_text())
    results = []
    for name in ("plain.fa", "upper.fa", "packed.fa.gz"):
        done("embed", "fasta", name, "--checkpoint", checkpoints / kind, "-o", f"{name}.zarr")
        results.append(zarr.open(f"{name}.zarr")["mean"][:])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_bed_on_plain_and_packed_references(data_folder, here, checkpoints, done):
    path = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    with read_fasta(path) as fasta:
        write_fasta(here / "plain.fa", [("1", fasta.fetch("chr1", 0, fasta.lengths["chr1"], upper=False))])
    (here / "i.bed").write_text("".join(f"chr1\t{start}\t{start + 60}\n" for start in range(150_000, 999_000, 40_000)))
    for name, reference in (("packed", path), ("plain", "plain.fa")):
        words = ["--reference", reference, "--checkpoint", checkpoints / "masked", "-o", f"{name}.zarr"]
        done("embed", "bed", "i.bed", *words)
    assert set(zarr.open("plain.zarr")["status"][:].tolist()) == {"ok"}
    np.testing.assert_array_equal(zarr.open("plain.zarr")["mean"][:], zarr.open("packed.zarr")["mean"][:])


def test_memory_does_not_grow_with_the_number_of_records(here, checkpoints, contig, done):
    peaks = []
    for count in (40, 240):
        write_fasta("n.fa", ((f"r{i}", contig[i % 200 : i % 200 + 50]) for i in range(count)))
        tracemalloc.start()
        done("embed", "fasta", "n.fa", "--checkpoint", checkpoints / "masked", "--block-rows", 40, "--overwrite")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
