"""`helixwave score`: files of scores, and a status for every allele."""

import gzip
import json

import numpy as np
import pytest
from helixwave.checkpoint import load
from helixwave_domains.genomics.rows import AlleleRows
from helixwave_domains.genomics.score_task import ScoreTask
from helixwave_domains.genomics.scoring import score
from helixwave_domains.genomics.store import Table

pytest.importorskip("zarr")


def table_of(path):
    titles, *rows = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(titles, row, strict=True)) for row in rows]


def test_scores_in_every_format(here, checkpoints, done):
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ["calls.vcf", "--reference", "genome.fa", "--checkpoint", checkpoints / "causal", "--window", 30]
    for name in ("s.tsv", "s.vcf", "s.vcf.gz", "s.parquet"):
        output = done("score", "vcf", *words, "--score", "likelihood,distance", "-o", name)
        assert output.endswith(f"{name}\n")
    assert not list(here.glob("*.zarr"))
    rows = table_of(here / "s.tsv")
    windows = [windows for _, windows in AlleleRows(here / "calls.vcf", here / "genome.fa", 30, None, "skip").alleles()]
    (batch,) = score(windows, load(checkpoints / "causal"), scores=["likelihood", "distance"])
    assert [row["status"] for row in rows] == batch.status
    assert [row["id"] for row in rows][:5] == ["rs5"] * 4 + ["rs40"]
    for column, values in batch.scores.items():
        assert [row[column] for row in rows] == ["" if np.isnan(value) else f"{value:.6g}" for value in values]
    found = parquet.read_table(here / "s.parquet").to_pydict()
    assert list(found) == list(rows[0])
    np.testing.assert_array_equal(found["ll_sum"], batch.scores["ll_sum"])
    assert found["position"][-1] == 300
    lines = (here / "s.vcf").read_text().splitlines()
    assert gzip.decompress((here / "s.vcf.gz").read_bytes()).decode().splitlines() == lines
    first = next(line for line in lines if line.startswith("1\t5\t"))
    expected = ",".join("." if np.isnan(value) else f"{value:.6g}" for value in batch.scores["ll_mean"][:4])
    assert f";HW_LL_MEAN={expected};" in first
    assert first.endswith(f";HW_STATUS={','.join(batch.status[:4])}")
    facts = json.loads((here / "s.vcf.manifest.json").read_text())
    assert sum(facts["status"].values()) == len(rows)


SIGNED, UNSIGNED = {"ll_sum", "ll_mean", "log_ratio"}, {"l2", "cosine"}


@pytest.mark.parametrize(("kind", "own"), [("causal", "likelihood"), ("masked", "masked")])
def test_swapped_alleles_have_exactly_the_negated_scores(kind, own, data_folder, here, checkpoints, done):
    """A distance has no direction: it stays what it was."""
    folder = data_folder / "hg38_chr1_1m"
    words = ["--reference", folder / "hg38_1m.fa.gz", "--checkpoint", checkpoints / kind, "--window", 40]
    words += ["--strand", "both", "--score", f"{own},distance", "--ref-mismatch", "swap", "--keep"]
    for name in ("eqtl", "eqtl_flip"):
        done("score", "vcf", folder / f"{name}.vcf", *words, "-o", f"{name}.tsv")
    there, back = (Table(here / f"{name}.tsv.partial.zarr") for name in ("eqtl", "eqtl_flip"))
    assert list(there.column("status")) == ["ok"] * 8
    assert list(back.column("status")) == ["swapped"] * 8
    compared = [name for name in there.columns if name in SIGNED | UNSIGNED]
    assert len(compared) == (4 if kind == "causal" else 3)
    for name in compared:
        values, sign = np.array(list(there.column(name))), -1 if name in SIGNED else 1
        assert (values != 0).all()
        np.testing.assert_array_equal(list(back.column(name)), sign * values)


def test_all_mismatches_are_counted_and_the_first_is_named(data_folder, here, checkpoints, done, refused):
    folder = data_folder / "hg38_chr1_1m"
    words = ["--reference", folder / "hg38_1m.fa.gz", "--checkpoint", checkpoints / "causal", "--window", 40]
    output = done("score", "vcf", folder / "eqtl_flip.vcf", *words, "-o", "skipped.tsv")
    assert ["ref_mismatch", "8"] in [line.split() for line in output.splitlines()]
    message = refused("score", "vcf", folder / "eqtl_flip.vcf", *words, "-o", "e.tsv", "--ref-mismatch", "error")
    place = next(
        line.split() for line in (folder / "eqtl_flip.vcf").read_text().splitlines() if not line.startswith("#")
    )
    assert f"{place[0]}:{place[1]} {place[3]}>{place[4]}: {folder / 'hg38_1m.fa.gz'} has {place[4]} there" in message
    assert "Is the VCF on another assembly?" in message
    assert not list(here.glob("e.tsv*"))


def test_every_record_of_real_files_is_in_the_output(data_folder, real_calls, here, checkpoints, done):
    reference = data_folder / "hg38_chr1_1m" / "hg38_1m.fa.gz"
    model = load(checkpoints / "causal")
    for path, records in real_calls:
        expected = [(int(record[1]), alt.decode().upper()) for record in records for alt in record[4].split(b",")]
        task = ScoreTask(AlleleRows(path, reference, 16, None, "skip"), {}, {})
        assert task.size()[0] == len(expected), path
        columns = task.compute(task.items(), model).columns
        alts = [alt.upper() for alt in columns["alt"]]
        assert list(zip(columns["position"], alts, strict=True)) == expected, path
        for status, likelihood in zip(columns["status"], columns["ll_sum"], strict=True):
            assert np.isnan(likelihood) == (status not in ("ok", "swapped", "kept"))
    # the whole way, for the file of 1,000 harmful and 1,000 common variants, and for one with all kinds of ALT
    for name in ("gpn_example.vcf", "vcf43_spec_example.vcf"):
        words = [data_folder / "vcf_edge" / name, "--reference", reference, "--checkpoint", checkpoints / "causal"]
        done("score", "vcf", *words, "--window", 16, "-o", "scored.vcf", "--overwrite")
        scored = [line for line in (here / "scored.vcf").read_text().splitlines() if not line.startswith("#")]
        with (data_folder / "vcf_edge" / name).open() as stream:
            plain = [line.rstrip().split("\t") for line in stream if line.strip() and not line.startswith("#")]
        assert [line.split("\t")[:5] for line in scored] == [cells[:5] for cells in plain]
        assert all("HW_STATUS=" in line for line in scored)
