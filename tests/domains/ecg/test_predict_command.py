"""`helixwave ecg predict` as its user meets it."""

import csv
import json
import sys

import numpy as np
import pytest
from helixwave.cli import main
from helixwave.file_rows import named
from helixwave_domains.ecg.conversion import convert
from helixwave_domains.ecg.formats import Declared, read_recording
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.predictor import Predictor
from helixwave_domains.ecg.score_files import read_challenge_csv

from tests.domains.ecg.recordings import recording_of
from tests.domains.ecg.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ecgs(tmp_path_factory):
    """Three recordings, one of them short of leads, a text file and a broken record."""
    folder = tmp_path_factory.mktemp("ecgs")
    rng = np.random.default_rng(0)
    for name, leads, seconds in (("a", LEADS, 6), ("b", LEADS, 5), ("c", ("I", "II"), 5)):
        convert(recording_of(rng.standard_normal((len(leads), 100 * seconds)), leads, 100.0), folder / f"{name}.hea")
    (folder / "broken.hea").write_text("broken 1 100 500\nbroken.dat 16 200/mV 16 0 0 0 0 I\n")
    (folder / "notes.txt").write_text("nothing here")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`helixwave ecg` with arguments: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("HELIXWAVE_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["helixwave", "ecg", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return call


def rows_of(folder):
    with (folder / "predictions.csv").open() as f:
        return {row["file"].rpartition("/")[2]: row for row in csv.DictReader(f)}


def test_every_file_leaves_a_row(call, model, ecgs, tmp_path):
    code, output, _ = call("predict", ecgs, "-c", model, "--json", "--challenge", "--plot", "svg")
    assert code == 3
    rows = rows_of(tmp_path / "predictions")
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.hea": "ok",
        "b.hea": "ok",
        "broken.hea": "error",
        "c.hea": "error",
    }
    assert "it has no leads V1, V2, V3, V4, V5, V6, only I, II" in rows["c.hea"]["reason"]
    assert "broken.dat" in rows["broken.hea"]["reason"]
    assert "2 predicted, 2 failed" in output
    assert "notes.txt" in output
    predicted = Predictor.load(model).predict(ecgs / "a.hea")
    for name, value in predicted.probabilities.items():
        assert float(rows["a.hea"][name]) == pytest.approx(value, abs=1e-6)
    assert rows["a.hea"]["labels"] == ";".join(predicted.present)
    details = [json.loads(line) for line in (tmp_path / "predictions" / "predictions.jsonl").read_text().splitlines()]
    assert [each["status"] for each in details] == ["ok", "ok", "error", "error"]
    assert [window["start"] for window in details[0]["timeline"]] == [0.0, 1.0]
    assert details[0]["thresholds"] == {"AF": 0.3, "NSR": 0.5, "PVC|VPB": 0.7}
    challenge = read_challenge_csv(tmp_path / "predictions" / "challenge" / "a.csv")
    np.testing.assert_allclose(challenge.probabilities, predicted.values)
    assert (tmp_path / "predictions" / "pages" / "a.svg").stat().st_size > 10_000
    lines = (tmp_path / "predictions" / "timelines" / "a.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["start", "end", "likeliest"]
    assert len(lines) == 3
    assert "predictions/predictions.csv" in output.splitlines()


def test_missing_leads_can_be_zeros(call, model, ecgs, tmp_path):
    code, *_ = call("predict", ecgs / "c.hea", "-c", model, "--missing-leads", "zero", "-o", "out")
    assert code == 0
    assert "no leads V1, V2, V3, V4, V5, V6 in the file" in rows_of(tmp_path / "out")["c.hea"]["notes"]


def test_a_run_goes_on_where_it_was_stopped(call, model, ecgs, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    call("predict", ecgs, "-c", model, "--json", "-o", whole)
    call("predict", ecgs, "-c", model, "--json", "-o", cut)
    table, details = cut / "predictions.csv", cut / "predictions.jsonl"
    # stopped in the middle of a line, after one file had been written to the details alone
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:2]) + lines[2][:30])
    details.write_text("".join(details.read_text().splitlines(keepends=True)[:2]) + '{"file')
    code, *_ = call("predict", ecgs, "-c", model, "--json", "-o", cut, "--resume")
    assert code == 3
    for name in ("predictions.csv", "predictions.jsonl", "manifest.json"):
        assert (cut / name).read_text() == (whole / name).read_text()


def test_results_are_not_replaced_unasked(call, model, ecgs, tmp_path):
    first = ["predict", ecgs / "a.hea", "-c", model, "-o", "out"]
    assert call(*first)[0] == 0
    code, _, errors = call(*first)
    assert (code, "out/predictions.csv is there already" in errors) == (1, True)
    code, _, errors = call(*first, "--resume", "--aggregate", "max")
    assert (code, "was begun with other options or another checkpoint" in errors) == (1, True)
    assert call(*first, "--aggregate", "max", "--overwrite")[0] == 0
    assert len(rows_of(tmp_path / "out")) == 1


@pytest.mark.slow
def test_several_processes_give_the_same(call, model, ecgs, tmp_path):
    call("predict", ecgs, "-c", model, "-o", "one")
    call("predict", ecgs, "-c", model, "-o", "two", "--workers", 2)
    assert (tmp_path / "one" / "predictions.csv").read_text() == (tmp_path / "two" / "predictions.csv").read_text()


def test_no_checkpoint_no_file(call, model, ecgs):
    code, _, errors = call("predict", ecgs, "-c", "nowhere")
    assert (code, "nowhere is no checkpoint: there is no such folder" in errors) == (1, True)
    code, _, errors = call("predict", "missing.hea", "-c", model)
    assert (code, "missing.hea: no such file or folder" in errors) == (1, True)


def test_tables_need_what_they_do_not_say(call, model, ecgs, tmp_path):
    recording = read_recording(ecgs / "b.hea")
    np.save(tmp_path / "plain.npy", recording.signal * 1000)
    code, *_ = call("predict", "plain.npy", "-c", model, "-o", "out", "--leads", ",".join(LEADS), "--rate", 100)
    assert code == 3
    assert "--units" in rows_of(tmp_path / "out")["plain.npy"]["reason"]
    declared = ["--units", "uV", "--rate", "100", "--leads", ",".join(LEADS)]
    code, *_ = call("predict", "plain.npy", "-c", model, "-o", "declared", *declared)
    assert code == 0
    expected = Predictor.load(model).predict(tmp_path / "plain.npy", Declared("uV", 100.0, list(LEADS)))
    row = rows_of(tmp_path / "declared")["plain.npy"]
    assert float(row["AF"]) == pytest.approx(expected.probabilities["AF"], abs=1e-6)


def test_each_file_has_a_name_of_its_own(tmp_path):
    paths = [tmp_path / "x" / "1.hea", tmp_path / "y" / "1.hea", tmp_path / "y" / "2.hea"]
    names = [job.name for job in named(paths)]
    assert names == [f"{tmp_path.name}_x_1.hea", f"{tmp_path.name}_y_1.hea", "2"]
    assert len(set(names)) == 3


def test_info_and_convert(call, ecgs, tmp_path):
    code, output, _ = call("info", ecgs / "c.hea", "--json")
    assert (code, [lead["name"] for lead in json.loads(output)["leads"]]) == (0, ["I", "II"])
    assert call("convert", ecgs / "c.hea", "c.edf")[0] == 0
    assert read_recording(tmp_path / "c.edf").leads == ("I", "II")
    code, _, errors = call("convert", ecgs / "c.hea", "c.edf")
    assert (code, "c.edf is there already" in errors) == (1, True)


@pytest.mark.parametrize("command", ["predict", "info", "convert", "score"])
def test_help_has_an_example(call, command):
    code, output, _ = call(command, "--help")
    assert code == 0
    assert f"Example: helixwave ecg {command}" in output


def test_a_model_that_was_trained_again_does_not_go_on_with_the_rows_of_the_first(call, ecgs, tmp_path):
    asked = ["predict", ecgs / "a.hea", "-c", "model", "-o", "out"]
    tiny_checkpoint(tmp_path / "model", seed=0)
    assert call(*asked)[0] == 0
    tiny_checkpoint(tmp_path / "model", seed=1)
    code, _, errors = call(*asked, "--resume")
    assert (code, "was begun with other options or another checkpoint" in errors) == (1, True)


def test_results_do_not_go_into_a_file(call, model, ecgs, tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    code, _, errors = call("predict", ecgs / "a.hea", "-c", model, "-o", "thesis.txt")
    assert (code, "thesis.txt: a file, expected a folder for the results" in errors) == (1, True)
    assert (tmp_path / "thesis.txt").read_text() == "text"
