"""What a user can get wrong ends in one clear line, a non-zero exit code, and nothing half-written."""

import errno
import os
import sys
from pathlib import Path

import pytest
from helixwave.checkpoint import build_model, save
from helixwave.cli import main

CLASSIFY = ["train", "genomics/classify", "trainer.max_epochs=1", "backbone.d_model=8", "baseline=null"]
GOOD = "".join(f">s{i}\n{'ACGT' * 3}{'ACGT'[i % 4] * (i // 4 + 1)}\n" for i in range(40))
LABELS = "name\tlabel\n" + "".join(f"s{i}\t{'ab'[i % 2]}\n" for i in range(40))


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["helixwave", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        error = capsys.readouterr().err
        assert stop.value.code == 1
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        return error

    return run


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("fasta", "labels", "message"),
    [
        ("", LABELS, "my.fa: the FASTA file is empty"),
        (GOOD + ">s3\nACGT\n", LABELS, "'s3'"),
        (GOOD, LABELS + "s99\ta\n", "'s99' is not in"),
        (GOOD.replace(">s0\nACGTACGTACGTA\n", ">s0\n"), LABELS, "'s0'"),
        (GOOD.replace("ACGTACGTACGTA\n", "ACGT*CGT\n"), LABELS, "unknown letter '*' at position 5"),
        (GOOD, LABELS.replace("s0\ta\n", ""), "have no label"),
        (GOOD, "name\tlabel\n", "the table holds no row"),
    ],
    ids=["empty", "duplicate", "missing sequence", "no letters", "unknown letter", "missing label", "no labels"],
)
def test_training_files(fasta: str, labels: str, message: str, fails, tmp_path: Path) -> None:
    given = [f"data.fasta={write(tmp_path / 'my.fa', fasta)}", f"data.table={write(tmp_path / 'my.tsv', labels)}"]
    error = fails(*CLASSIFY, *given, "--run", "out")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(fails, tmp_path: Path) -> None:
    write(tmp_path / "genome.fa", ">a\nACGT\n")
    assert "genome.fa" in fails("train", "genomics/annotate", "data.genome=genom.fa", "data.annotation=x.gff3")


def test_misspelt_key(fails, tmp_path: Path) -> None:
    error = fails("train", "genomics/annotate", "trainer.max_epoch=3")
    assert "unknown key 'max_epoch'. Did you mean 'max_epochs'?" in error
    assert not list(tmp_path.iterdir())


def test_data_folder_that_is_not_there(fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIXWAVE_DATA", str(tmp_path / "nowhere"))
    assert "nowhere: there is no such folder" in fails("train", "genomics/splice", "--run", "out")


def test_data_that_cannot_be_had(fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setenv("HELIXWAVE_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", offline)
    error = fails("train", "genomics/splice", "--run", "out")
    for part in ("uci_splice", "spliceData.txt", "helixwave data fetch uci_splice", "no network"):
        assert part in error


def test_full_disk_while_training(fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third synchronised file, the training state, does not fit: what was there before stays whole."""
    given = [f"data.fasta={write(tmp_path / 'my.fa', GOOD)}", f"data.table={write(tmp_path / 'my.tsv', LABELS)}"]
    sync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    error = fails(*CLASSIFY, *given, "--run", "out")
    assert "the disk is full" in error
    assert "Free some space" in error
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    assert not (tmp_path / "out" / "report.html").exists()


def test_full_disk_while_predicting(fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "mlp"}]}
    save(build_model({"model": {"name": "sequence_classifier"}, "backbone": backbone, "classes": ["a", "b"]}), tmp_path)
    fasta = write(tmp_path / "my.fa", GOOD)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "my.tsv: the disk is full" in fails("predict", str(tmp_path), fasta, "-o", "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("arguments", [["nowhere"], ["."]], ids=["no folder", "no checkpoint"])
def test_predict_without_a_checkpoint(arguments: list[str], fails, tmp_path: Path) -> None:
    assert "is no checkpoint" in fails("predict", *arguments, write(tmp_path / "my.fa", GOOD))
