"""Video files, folders of pictures and arrays as clips."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.video import clip as clips
from helixwave_domains.video.clip import open_clip
from helixwave_domains.video.sampling import frames_at
from helixwave_domains.video.video_file import displayed

from tests.domains.video.video_files import av, number_of, write_sound, write_video

SEEN = [1.55, 0.0, 0.35, 9.0, 0.35]


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.mp4", "libx264", True), ("a.mkv", "libx264", False), ("a.avi", "libx264", True), ("a.avi", "mpeg4", False)],
)
def test_every_frame_at_its_time(tmp_path, monkeypatch, name, codec, sound):
    clip = open_clip(write_video(tmp_path / name, codec=codec, sound=sound))
    found = list(clip.frames())
    assert [number_of(frame) for _, frame in found] == list(range(20))
    np.testing.assert_allclose([time for time, _ in found], np.arange(20) / 10, atol=1e-6)
    np.testing.assert_allclose(clip.stamps, np.arange(20) / 10, atol=1e-6)
    assert (clip.n_frame, clip.size, clip.seconds, clip.rate) == (20, (64, 48), pytest.approx(2), pytest.approx(10))
    assert not clip.variable
    assert [number_of(frame) for frame in clip.read(SEEN)] == [15, 0, 3, 19, 3]
    # each frame by itself, which has the file searched for it
    monkeypatch.setattr(clips, "_SEEK", 0.01)
    assert [number_of(frame) for frame in clip.read(clip.stamps)] == list(range(20))


def test_a_clip_can_be_sent_to_a_worker(tmp_path):
    clip = open_clip(write_video(tmp_path / "a.mp4", n=4))
    next(clip.frames())
    sent = pickle.loads(pickle.dumps(clip))  # noqa: S301
    np.testing.assert_array_equal(sent.read([0.1, 0.3]), clip.read([0.1, 0.3]))


def test_variable_rate_is_read_by_its_time_stamps(tmp_path):
    times = [0, 0.1, 0.2, 0.9, 1.0, 1.5, 1.6, 1.7]
    clip = open_clip(write_video(tmp_path / "a.mkv", n=8, times=times))
    assert clip.variable
    np.testing.assert_allclose(clip.stamps, times, atol=1e-3)
    wanted = np.arange(0, 1.75, 0.05) + 0.02
    assert [number_of(frame) for frame in clip.read(wanted)] == frames_at(np.array(times), wanted).tolist()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_frames_stand_upright(tmp_path, rotation):
    """As ITU and FFmpeg have it, counterclockwise."""
    clip = open_clip(write_video(tmp_path / "a.mp4", n=2, rotation=rotation, noise=True))
    assert clip.rotation == rotation
    assert clip.size == ((64, 48) if rotation % 180 == 0 else (48, 64))
    (first,) = clip.read([0.0])
    with av.open(str(tmp_path / "a.mp4")) as container:
        lying = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(first, np.rot90(lying, rotation // 90))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_display_matrices_move_each_pixel(quarters, mirrored):
    turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters) @ np.diag([-1 if mirrored else 1, 1])
    # rows of the matrix are where x and y go
    matrix = np.array([*turn[0], 0, *turn[1], 0, 0, 0, 1]) * 65536
    picture = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    shown = displayed(picture, matrix)
    places = {(y, x): np.array([x, y]) @ turn for y in range(3) for x in range(4)}
    low = np.min(list(places.values()), axis=0)
    for (y, x), place in places.items():
        column, row = place - low
        np.testing.assert_array_equal(shown[row, column], picture[y, x])


def test_streams_are_chosen_by_index(tmp_path):
    path = write_video(tmp_path / "a.mp4", n=3, sizes=[(64, 48), (32, 32)])
    first = open_clip(path)
    assert first.size == (64, 48)
    assert "of 2 video streams the first was read, 0. All: 0 (h264, 64x48" in first.facts.notes[0]
    second = open_clip(path, stream=1)
    assert second.size == (32, 32)
    assert second.facts.notes == ()
    assert [number_of(frame) for _, frame in second.frames()] == [0, 1, 2]
    with pytest.raises(InputError, match=r"7 is no video stream of it. Its video streams: 0 \(h264.*; 1 \(h264"):
        open_clip(path, stream=7)


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone.mp4: no such file or folder"):
        open_clip(tmp_path / "gone.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(InputError, match=r"empty.mp4: .*it is empty"):
        open_clip(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video at all")
    with pytest.raises(InputError, match=r"text.mp4: no video that can be read, or damaged: Invalid data"):
        open_clip(tmp_path / "text.mp4")
    with pytest.raises(InputError, match=r"it has no video stream, only audio \(aac\)"):
        open_clip(write_sound(tmp_path / "song.m4a"))


def test_a_play_list_opens_no_other_file(tmp_path):
    video = write_video(tmp_path / "a.ts", n=5)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list.m3u8: no video"):
        open_clip(tmp_path / "list.m3u8")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_truncated_file_says_how_much_is_left(tmp_path, name):
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_video(tmp_path / name, noise=True, options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = open_clip(path)
    with pytest.raises(
        InputError, match=r"it is damaged: \d+( of 20)? frames can be decoded. Copy it again, or"
    ) as said:
        clip.seconds  # noqa: B018
    left = int(str(said.value).split("damaged: ")[1].split()[0])
    assert 5 <= left <= 12
    spared = open_clip(path, damaged=True)
    assert len(list(spared.frames())) == left
    assert spared.read([0.0, 99.0]).shape == (2, 48, 64, 3)


def test_a_corrupt_packet_is_refused_where_it_is_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", codec="mpeg4", noise=True)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    clip = open_clip(path)
    assert len(clip.read([0.0, 0.5])) == 2
    with pytest.raises(InputError, match=r"it is damaged: \d+ of 20 frames can be decoded"):
        clip.read([1.2])
    # what is decoded from a later key frame on has nothing to do with it
    assert len(clip.read([1.9])) == 1
    assert len(list(open_clip(path, damaged=True).frames())) < 20


def test_folders_of_pictures_in_natural_order(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(12):
        image.fromarray(np.full((4, 6, 3), 8 * number, np.uint8)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    clip = open_clip(tmp_path, rate=5)
    assert [number_of(frame) for _, frame in clip.frames()] == list(range(12))
    assert (clip.n_frame, clip.size, clip.seconds) == (12, (6, 4), pytest.approx(2.4))
    assert [number_of(frame) for frame in clip.read([2.3, 0.41, -1])] == [11, 2, 0]
    with pytest.raises(InputError, match=r"a folder of pictures has no frame rate of its own. Pass --rate"):
        open_clip(tmp_path)
    image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / "f20.png")
    with pytest.raises(InputError, match=r"f20.png: it has 6x5 pixels, the first of the folder 6x4"):
        list(open_clip(tmp_path, rate=5).frames())
    (tmp_path / "f20.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"f20.png: no picture that can be read"):
        list(open_clip(tmp_path, rate=5).frames())
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none of its files is a picture"):
        open_clip(tmp_path / "none", rate=5)


@pytest.mark.parametrize("kind", ["npy", "npz", "zarr"])
@pytest.mark.parametrize("shape", [(7, 4, 5, 3), (7, 4, 5)])
def test_arrays_of_frames(tmp_path, kind, shape):
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, frames)
    elif kind == "npz":
        np.savez(path, frames=frames)
    else:
        zarr = pytest.importorskip("zarr")
        zarr.create_array(path, data=frames)
    clip = open_clip(path, rate=2)
    rgb = frames if len(shape) == 4 else np.stack([frames] * 3, axis=-1)
    np.testing.assert_array_equal(np.stack([frame for _, frame in clip.frames()]), rgb)
    np.testing.assert_array_equal(clip.read([3.2, 1.0]), rgb[[6, 2]])
    assert (clip.n_frame, clip.size, clip.seconds) == (7, (5, 4), 3.5)


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5, 3)))
    with pytest.raises(InputError, match=r"it holds float64 \[3, 4, 5, 3\], expected uint8 \[T, H, W, 3\]"):
        open_clip(tmp_path / "a.npy", rate=2)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"b.npy: no array that can be read"):
        open_clip(tmp_path / "b.npy", rate=2)
    np.savez(tmp_path / "c.npz", pixels=np.zeros(3))
    with pytest.raises(InputError, match=r"it has pixels, expected an array named frames"):
        open_clip(tmp_path / "c.npz", rate=2)
    for name, content in (("empty.npz", b""), ("no_zip.npz", b"PK\x03\x04 garbage"), ("empty.npy", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: no array that can be read"):
            open_clip(tmp_path / name, rate=2)
    np.savez(tmp_path / "d.npz", frames=np.zeros((3, 4, 5), np.uint8), rate=3.0)
    assert open_clip(tmp_path / "d.npz").seconds == 1
    with pytest.raises(InputError, match=r"rate is -1, expected frames a second"):
        open_clip(tmp_path / "d.npz", rate=-1)
    with pytest.raises(InputError, match=r"it has no streams to choose from. Leave out stream 0"):
        open_clip(tmp_path / "d.npz", stream=0)


@pytest.fixture
def stand_in(monkeypatch):
    """A torchcodec that decodes with PyAV."""

    class VideoDecoder:
        def __init__(self, source, *, stream_index, dimension_order):
            assert dimension_order == "NHWC"
            with av.open(source) as container:
                stream = container.streams[stream_index]
                self.frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]

        def __len__(self):
            return len(self.frames)

        def get_frame_at(self, index):
            time, pixels = self.frames[index]
            if number_of(pixels) == 19:
                raise RuntimeError("the last frame is bad")
            return SimpleNamespace(data=pixels, pts_seconds=time)

    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = VideoDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)


def test_torchcodec_reads_the_same(tmp_path, stand_in):
    path = write_video(tmp_path / "a.mp4", sizes=[(64, 48), (32, 32)])
    one, other = (open_clip(path, stream=1, backend=backend) for backend in ("pyav", "torchcodec"))
    assert one.facts == other.facts
    np.testing.assert_array_equal(one.stamps, other.stamps)
    np.testing.assert_array_equal(one.read([0.0, 1.31, 0.5]), other.read([0.0, 1.31, 0.5]))
    with pytest.raises(InputError, match=r"torchcodec cannot decode it: the last frame is bad"):
        other.read([1.95])


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_torchcodec_that_cannot_be_imported(tmp_path, monkeypatch, error):
    class Broken(ModuleType):
        def __getattr__(self, name):
            raise error("libnvrtc.so.13: cannot open shared object file\nand a hundred lines more")

    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", Broken("torchcodec.decoders"))
    path = write_video(tmp_path / "a.mp4", n=2)
    with pytest.raises(InputError, match=r"torchcodec cannot be imported \(libnvrtc.so.13: [^\n]*\). Leave out"):
        open_clip(path, backend="torchcodec")


# counts and sizes of the streams, as OpenCV and FFmpeg's own counting have them too
REAL = {
    ("bikes.mp4", None): (250, (640, 272)),
    ("carphone_pristine.mp4", None): (120, (176, 144)),
    ("exercise.avi", None): (393, (384, 288)),
    ("nasa_13013.mp4", None): (325, (320, 180)),
    ("nasa_13013.mp4", 0): (325, (320, 180)),
    ("nasa_13013.mp4", 3): (390, (480, 270)),
}


@pytest.mark.parametrize(("name", "stream"), REAL)
def test_real_videos(data_folder, name, stream):
    clip = open_clip(data_folder / "clips" / name, stream=stream)
    assert (clip.n_frame, clip.size) == REAL[name, stream]
    np.testing.assert_allclose([time for time, _ in clip.footage.decoded(0.0)], clip.stamps, atol=1e-3)
    middle = clip.stamps[clip.n_frame // 2]
    width, height = clip.size
    assert clip.read([middle]).shape == (1, height, width, 3)
    assert bool(clip.facts.notes) == (name == "nasa_13013.mp4" and stream is None)
