"""`helixwave video` as its user meets it."""

import csv
import json
import sys

import numpy as np
import pytest
import torch
from helixwave.checkpoint import load
from helixwave.cli import main
from helixwave_domains.video.clip import open_clip
from helixwave_domains.video.embedding_memory import measure
from helixwave_domains.video.preprocessing import Preprocessing
from helixwave_domains.video.sampling import window_starts

from tests.domains.video.tiny_clip_model import tiny_checkpoint
from tests.domains.video.video_files import write_sound, write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two clips, one with nothing to see, one that is cut off, and a text."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", n=25, noise=True)
    write_video(folder / "b.mkv", n=5, sizes=[(64, 48), (32, 32)])
    cut = write_video(folder / "cut.mkv", noise=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write_sound(folder / "song.mp4")
    (folder / "notes.txt").write_text("nothing here")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`helixwave video` with arguments: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("HELIXWAVE_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["helixwave", "video", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return call


def rows_of(path):
    with path.open() as f:
        return {row["file"].rpartition("/")[2]: row for row in csv.DictReader(f)}


def read_by_hand(model, path):
    """Inputs of all windows of a clip, by the definition."""
    settings, clip = Preprocessing(**model.config["preprocessing"]), open_clip(path)
    for start in window_starts(clip.seconds, settings.n_frame / settings.rate, settings.n_frame / settings.rate):
        times = [start + i / settings.rate for i in range(settings.n_frame)]
        yield start, settings.scaled(clip.read([time for time in times if time < clip.seconds - 1e-6]))


def test_info(call, videos):
    code, output, _ = call("info", videos, "--json", "--decode")
    assert code == 3
    found = {line["file"].rpartition("/")[2]: line for line in map(json.loads, output.splitlines())}
    assert "no video stream, only audio (aac)" in found["song.mp4"]["error"]
    assert "it is damaged" in found["cut.mkv"]["error"]
    a = found["a.mp4"]
    assert (a["frames"], a["frames_declared"], a["frames_decoded"]) == (25, 25, 25)
    assert (a["width"], a["height"], a["seconds"], a["variable_rate"]) == (64, 48, 2.5, False)
    assert [stream["width"] for stream in found["b.mkv"]["streams"]] == [64, 32]
    code, output, _ = call("info", videos / "b.mkv", "--stream", 1)
    assert code == 0
    assert "32 x 32 pixels" in output
    assert call("info", videos / "b.mkv", "--stream", 5)[0] == 3


def test_every_file_leaves_a_row(call, model, videos, tmp_path):
    code, output, _ = call("predict", videos, "-c", model, "--json")
    assert code == 3
    assert "2 predicted, 2 failed" in output
    assert "notes.txt" in output
    rows = rows_of(tmp_path / "predictions" / "predictions.csv")
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.mp4": "ok",
        "b.mkv": "ok",
        "cut.mkv": "error",
        "song.mp4": "error",
    }
    assert "of 2 video streams the first was read" in rows["b.mkv"]["notes"]
    network = load(model)
    with torch.inference_mode():
        outputs = [network(torch.from_numpy(inputs[None])) for _, inputs in read_by_hand(network, videos / "a.mp4")]
    wanted = (torch.cat(outputs).double() / 0.05).softmax(1).mean(0)
    for name, value in zip(network.classes, wanted.tolist(), strict=True):
        assert float(rows["a.mp4"][name]) == pytest.approx(value, abs=2e-5)
    details = [json.loads(line) for line in (tmp_path / "predictions" / "predictions.jsonl").read_text().splitlines()]
    assert [window["start"] for window in details[0]["timeline"]] == [0.0, 0.8, 1.6, 1.7]
    assert (tmp_path / "predictions" / "timelines" / "a.tsv").read_text().count("\n") == 5


def test_an_interrupted_run_goes_on(call, model, videos, tmp_path):
    table = tmp_path / "predictions" / "predictions.csv"
    arguments = ("predict", videos / "a.mp4", videos / "b.mkv", "-c", model)
    assert call(*arguments)[0] == 0
    whole = table.read_bytes()
    assert "is there already" in call(*arguments)[2]
    table.write_bytes(whole[: len(whole) - 9])
    assert call(*arguments, "--resume")[0] == 0
    assert table.read_bytes() == whole
    assert "begun with other options" in call(*arguments, "--resume", "--stride", "1")[2]
    code, _, _ = call("predict", videos / "cut.mkv", "-c", model, "--damaged", "--overwrite", "--aggregate", "max")
    assert code == 0
    assert list(rows_of(table)) == ["cut.mkv"]


@pytest.mark.parametrize("name", ["vectors.npz", "vectors.zarr", "folder"])
def test_vectors_of_windows(call, model, videos, tmp_path, name):
    code, output, _ = call("embed", videos, "-c", model, "--out", name)
    assert code == 3
    assert "2 embedded, 2 failed" in output
    assert {path.name for path in tmp_path.iterdir()} == {name}
    if name == "folder":
        with np.load(tmp_path / name / "a.npz") as archive:
            found = dict(archive)
        assert rows_of(tmp_path / name / "embeddings.csv")["a.mp4"]["windows"] == "4"
    else:
        found = read_archive(tmp_path / name)
        assert found["status"].tolist() == ["ok", "ok", "error", "error"]
        assert "damaged" in str(found["reason"][2])
        assert found["clip"].tolist() == [0, 0, 0, 0, 1]
        found = {key: found[key][found["clip"] == 0] for key in ("vectors", "start", "stop")}
        assert "is there already" in call("embed", videos, "-c", model, "--out", name)[2]
    network = load(model)
    for i, (start, inputs) in enumerate(read_by_hand(network, videos / "a.mp4")):
        with torch.inference_mode():
            wanted = network.embed(torch.from_numpy(inputs[None]))[0]
        np.testing.assert_allclose(found["vectors"][i], wanted, atol=1e-5)
        assert found["start"][i] == pytest.approx(start)
    assert found["stop"][-1] == pytest.approx(2.5)


def read_archive(path):
    if path.suffix == ".npz":
        return dict(np.load(path, allow_pickle=False))
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="r")
    return {name: np.asarray(group[name][:]) for name in group}


def test_vectors_of_frames_without_a_checkpoint(call, videos, tmp_path):
    embed = ("embed", videos / "a.mp4", "--features", "small")
    assert call(*embed, "--stride", "0.5", "--out", "one.npz")[0] == 0
    assert call(*embed, "--stride", "0.5", "--out", "two.npz")[0] == 0
    one, two = (read_archive(tmp_path / name) for name in ("one.npz", "two.npz"))
    np.testing.assert_allclose(one["start"], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(one["vectors"], two["vectors"])
    assert len(np.unique(one["vectors"], axis=0)) == 5
    assert "no frame net named 'smal'" in call("embed", videos, "--features", "smal", "--out", "x")[2]
    assert "Leave out --window" in call(*embed, "--window", "2", "--out", "x")[2]
    assert "pass either --checkpoint or --features" in call("embed", videos, "--out", "x")[2]


def test_what_is_wrong_is_said_in_one_line(call, model, videos, tmp_path):
    for arguments, message in [
        (("predict", "gone.mp4", "-c", model), "gone.mp4: no such file or folder"),
        (("predict", videos, "-c", tmp_path), "is no checkpoint"),
        (("predict", videos, "-c", model, "--window", "0"), "window is 0.0, expected seconds"),
        (("predict", videos, "-c", model, "--device", "abacus"), "device 'abacus' cannot be used"),
        (("embed", videos / "song.mp4", "-c", model, "--out", "x.npz"), "none of the 1 clips has vectors"),
    ]:
        code, _, errors = call(*arguments)
        assert (code, errors.count("\n")) == (1, 1)
        assert message in errors
    (tmp_path / "empty").mkdir()
    assert "none of its 0 files is a video, a picture or an array" in call("info", tmp_path / "empty")[2]


@pytest.mark.slow
def test_two_hours_in_less_than_a_gigabyte(tmp_path):
    found = measure(tmp_path / "long.mkv", hours=2)
    assert (found.frames, found.windows) == (72_000, 1800)
    assert found.peak < 1000
