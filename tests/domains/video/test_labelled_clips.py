"""The user's folder of clips by class: splits, what is left out, and what the model is given."""

from collections import Counter

import numpy as np
import pytest
from helixwave.data import make_loader
from helixwave.errors import InputError
from helixwave.recipe import Batches, load_recipe
from helixwave.run_folder import RunFolder
from helixwave.start import read_model
from helixwave.train import run
from helixwave_domains.video import video_file
from helixwave_domains.video.clip import Opening, open_clip
from helixwave_domains.video.clip_baselines import ClipStatisticsLogisticRegression, clip_statistics
from helixwave_domains.video.clip_cache import ClipCache
from helixwave_domains.video.labelled_clips import LabelledClips
from helixwave_domains.video.preprocessing import Preprocessing

from tests.domains.video.clip_folders import write_clips
from tests.domains.video.video_files import write_video

SMALL = {"n_frame": 3, "size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve clips of each class, and two files that are of no use."""
    folder = write_clips(tmp_path_factory.mktemp("clips") / "all", count=12)
    (folder / "up" / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("nothing here")
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return LabelledClips(folder=str(folder), **SMALL)


def names(split):
    return [clip.name for clip in split.clips]


def test_classes_on_all_sides(data):
    assert data.classes == ["down", "up"]
    found = [name for split in (data.train, data.validation, data.test) for name in names(split)]
    assert len(found) == len(set(found)) == 24
    for split, least in ((data.train, 8), (data.validation, 1), (data.test, 2)):
        assert min(Counter(split.targets.tolist()).values()) >= least
        assert [data.classes[target] for target in split.targets] == [clip.label for clip in split.clips]


def test_what_cannot_be_read_is_named(data, tmp_path, folder):
    facts = data.describe()
    assert facts["files that could not be used, left out"] == 2
    assert "no video that can be read" in facts["left out: up/broken.mp4"]
    assert facts["left out: notes.txt"] == "it is no clip"
    assert "12 up" not in str(facts)


def test_inputs_are_read_as_a_checkpoint_says(data, folder):
    settings = Preprocessing(**data.preprocessing)
    for i in (0, 3):
        clip = open_clip(folder / data.test.clips[i].name)
        wanted = settings.scaled(clip.read(settings.times(0, clip.seconds)))
        np.testing.assert_array_equal(data.test.example(i, None)["inputs"], wanted)
    drawn = data.train.example(0, np.random.default_rng(1))["inputs"]
    np.testing.assert_array_equal(drawn, data.train.example(0, np.random.default_rng(1))["inputs"])
    assert drawn.shape == (data.train.length(0), 3, 16, 16)


def test_pieces_of_one_recording_stay_together(folder, tmp_path):
    table = tmp_path / "groups.csv"
    clips = [f"{label}/{number}.mp4" for label in ("down", "up") for number in range(12)]
    owner = {name: f"g{int(name.split('/')[1][:-4]) // 3}{name[0]}" for name in clips}
    table.write_text("clip,group\n" + "".join(f"{name},{group}\n" for name, group in owner.items()))
    data = LabelledClips(folder=str(folder), groups=str(table), check=False, **SMALL)
    sides = [{owner[name] for name in names(split)} for split in (data.train, data.validation, data.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 8
    table.write_text("clip,group\ndown/0.mp4,a\n")
    with pytest.raises(InputError, match=r"gives no group for 23 clips, such as down/1.mp4"):
        LabelledClips(folder=str(folder), groups=str(table), **SMALL)
    table.write_text("clip,owner\ndown/0.mp4,a\n")
    with pytest.raises(InputError, match=r"it has no column group, expected clip and group"):
        LabelledClips(folder=str(folder), groups=str(table), **SMALL)


def test_dense_windows_cover_each_clip(folder):
    data = LabelledClips(folder=str(folder), sampling="dense", rate=10, check=False, flip=True, **SMALL)
    assert data.test.groups.tolist() == np.repeat(range(len(data.test.clips)), 3).tolist()
    batches = list(make_loader(data.test, Batches(size=5), seed=0))
    assert all(batch["inputs"].shape[1:] == (3, 3, 16, 16) for batch in batches)
    plain = LabelledClips(folder=str(folder), sampling="dense", rate=10, check=False, **SMALL)
    draws = [np.random.default_rng(seed) for seed in range(8) for _ in range(2)]
    pairs = [(data.train.example(0, a), plain.train.example(0, b)) for a, b in zip(*[iter(draws)] * 2, strict=True)]
    mirrored = [np.array_equal(one["inputs"], other["inputs"][..., ::-1]) for one, other in pairs]
    same = [np.array_equal(one["inputs"], other["inputs"]) for one, other in pairs]
    assert any(mirrored)
    assert any(same)
    assert all(np.logical_or(mirrored, same))


def test_folders_may_say_the_split(tmp_path):
    for part in ("train", "val", "test"):
        write_clips(tmp_path / part, count=2)
    data = LabelledClips(folder=str(tmp_path), **SMALL)
    assert all(name.startswith("val/") for name in names(data.validation))
    assert data.classes == ["down", "up"]


def test_a_damaged_clip(tmp_path):
    folder = write_clips(tmp_path / "all", count=4)
    path = write_video(folder / "up" / "bad.mp4", codec="mpeg4", noise=True)
    with video_file._av(path).open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes(size)
    path.write_bytes(content)
    assert "19 of 20 frames can be decoded" in LabelledClips(folder=str(folder), **SMALL).left_out["up/bad.mp4"]
    assert not LabelledClips(folder=str(folder), check=False, **SMALL).left_out
    spared = LabelledClips(folder=str(folder), damaged=True, cache=str(tmp_path / "cache"), **SMALL)
    assert not spared.left_out


@pytest.mark.parametrize("channels", [1, 3])
def test_cached_frames_are_the_same(tmp_path, monkeypatch, channels):
    path = write_video(tmp_path / "a.mp4", n=20, noise=True, rotation=90)
    settings = Preprocessing(n_frame=5, size=24, channels=channels)
    cache = ClipCache(tmp_path / "cache", settings, Opening())
    clip, small = open_clip(path), cache.open(path)
    np.testing.assert_array_equal(clip.stamps, small.stamps)
    assert (small.size, small.seconds) == ((24, 24), clip.seconds)
    times = [1.93, 0.0, 0.41]
    np.testing.assert_array_equal(settings.scaled(clip.read(times)), settings.scaled(small.read(times)))
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [".zarr"]

    def decoded(self, start):
        raise AssertionError("decoded again")

    monkeypatch.setattr(video_file.VideoFile, "decoded", decoded)
    np.testing.assert_array_equal(cache.open(path).read(times), small.read(times))
    write_video(path, n=18)
    with pytest.raises(AssertionError, match=r"decoded again"):
        cache.open(path)
    assert len(list((tmp_path / "cache").iterdir())) == 1, "nothing half written is left"


def test_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"gone: no such folder. Expected one with a folder of clips for each class"):
        LabelledClips(folder=str(tmp_path / "gone"))
    write_video(tmp_path / "a.mp4", n=2)
    with pytest.raises(InputError, match=r"none of its 1 clips is in a folder of a class"):
        LabelledClips(folder=str(tmp_path))
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"none of its 1 clips can be read. The first: .*a.mp4: no video"):
        LabelledClips(folder=str(tmp_path))
    write_video(tmp_path / "up" / "b.mp4", n=2)
    with pytest.raises(InputError, match=r"all clips are of the class 'up', nothing to learn"):
        LabelledClips(folder=str(tmp_path))
    with pytest.raises(InputError, match=r"preprocessing.size is 0"):
        LabelledClips(folder=str(tmp_path), size=0)


def test_statistics_of_clips():
    frames = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)
    cells = np.array(
        [[[[f[c, i : i + 2, j : j + 2].mean() for j in (0, 2)] for i in (0, 2)] for c in (0, 1)] for f in frames]
    )
    changes = np.mean([abs(cells[t + 1] - cells[t]) for t in range(4)], axis=0)
    wanted = np.concatenate([cells.mean(0).ravel(), cells.std(0).ravel(), changes.ravel()])
    np.testing.assert_allclose(clip_statistics(frames, 2), wanted, atol=1e-6)
    assert clip_statistics(frames[:1], 2).shape == (24,)


def test_baseline_tells_bright_from_dark(data):
    outputs, target = ClipStatisticsLogisticRegression().predict(data)
    assert target.tolist() == data.test.targets.tolist()
    assert (outputs.argmax(1) == target).all()


def test_the_report_shows_the_clips_furthest_from_right(data, tmp_path, monkeypatch):
    of_true = np.linspace(0.9, 0.2, len(data.test.clips), dtype=np.float32)
    sides = np.stack([of_true, 1 - of_true], axis=1)
    probabilities = np.where(data.test.targets[:, None] == 0, sides, sides[:, ::-1])
    monkeypatch.setattr(data, "predicted", lambda model: probabilities)
    (picture,) = data.export(None, tmp_path)
    said = [strip.get_suptitle() for strip in picture.figure.subfigs]
    shown = min(len(of_true), 6)
    assert [line.partition(":")[0] for line in said] == names(data.test)[::-1][:shown]
    wrong = data.classes[1 - data.test.targets[-1]]
    assert said[0].endswith(f": {wrong} (0.80), is {data.classes[data.test.targets[-1]]}")
    drawn = [axes.images[0].get_array() for axes in picture.figure.axes if axes.images]
    assert len(drawn) == 3 * shown
    clip = data.test.clips[-1]
    settings = Preprocessing(**data.preprocessing)
    first = data.test.opened(clip.path).read(settings.times(0.0, clip.seconds))
    np.testing.assert_allclose(drawn[0], settings.resized(first)[0], atol=1)


def test_a_run_goes_on_without_what_is_damaged(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("helixwave.report.as_svg", lambda figure: "")
    tiny = ["data.n_frame=3", "data.size=16", "backbone.d_model=8", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    dense = ["data.sampling=dense", "data.rate=10", "data.aggregate=max", "batches.workers=0", "baseline=null"]
    recipe = load_recipe("video/finetune", [f"data.folder={folder}", *tiny, *dense])
    place = RunFolder(tmp_path / "run")
    place.create(recipe)
    run(recipe, place)
    assert "up/broken.mp4" in (place.path / "left_out.tsv").read_text()
    rows = (place.path / "test_predictions.tsv").read_text().splitlines()
    assert len(rows) > 4
    assert rows[0].split("\t") == ["clip", "true", "predicted", "p down", "p up"]
    model = read_model(str(place.path))
    assert model.config["preprocessing"]["n_frame"] == 3
    again = load_recipe("video/finetune", [f"start={place.path}", f"data.folder={folder}", "~model", "~backbone"])
    assert (again.config["data"]["size"], again.config["data"]["sampling"]) == (16, "dense")
    assert again.config["model"]["name"] == "lrcn"
