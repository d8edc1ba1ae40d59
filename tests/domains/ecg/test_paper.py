"""The ECG page: true scale, every lead at its place and time, nothing over anything else."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.paper import ecg_page, save_page
from helixwave_domains.ecg.paper_layout import LAYOUTS, SINGLE, lay_out, layout_of
from helixwave_domains.ecg.paper_text import fitted, printable, width, wrapped
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.saliency import Saliency

RATE = 100.0
LABELS = [(f"a diagnosis with a rather long name, number {i}", 0.9 / (i + 1)) for i in range(12)]


def recording(leads=LEADS, seconds=10.0, height=1.0, **facts) -> Recording:
    """A spike each second in every lead, of a size of its own."""
    t = np.arange(round(seconds * RATE)) / RATE
    beat = np.exp(-(((t % 1 - 0.5) / 0.02) ** 2))
    signal = np.stack([beat * height * (1 + number / 24) for number in range(len(leads))]).astype(np.float32)
    return Recording(
        tuple(leads),
        RATE,
        len(t),
        held(signal),
        Path("one.hea"),
        "WFDB",
        tuple(leads),
        ("mV",) * len(leads),
        facts=facts,
    )


def texts(figure) -> list:
    return [text for text in figure.axes[0].texts if text.get_text()]


def words(figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def traces(figure) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lines of many points, in millimetres, from above and from the left."""
    found = [line.get_data() for line in figure.axes[0].lines if len(line.get_xdata()) > 100]
    return [(np.asarray(x), np.asarray(y)) for x, y in found]


def band(leads=LEADS, at=3.0, seconds=10.0) -> Saliency:
    t = np.arange(round(seconds * RATE)) / RATE
    values = np.exp(-(((t - at) / 0.2) ** 2))[:, None].repeat(len(leads), 1)
    return Saliency(values.astype(np.float32), list(leads), RATE, 0.0, "a diagnosis")


FOUR, ODD = ("I", "II", "V1", "V2"), ("V2", "CM5")


@pytest.mark.parametrize(
    ("layout", "leads", "height"),
    [
        *[pytest.param(layout, LEADS, 6.0, marks=pytest.mark.slow) for layout in [*LAYOUTS, SINGLE][1:]],
        *[(next(iter(LAYOUTS)), LEADS, 6.0), ("3x4", LEADS, 0.8), ("6x2", FOUR, -1.5)],
        *[(None, FOUR, 30.0), (None, ODD, 0.1)],
    ],
)
def test_no_text_overlaps_another_or_leaves_the_page(layout, leads, height):
    made = recording(leads, height=height, age=70.0, sex="Female")
    flags = [f"V{i}: mains hum of 50 Hz" for i in range(1, 30)]
    figure = ecg_page(made, layout=layout, labels=LABELS, present=[LABELS[0][0]], flags=flags, saliency=band(leads))
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for name, box in boxes:
        assert box.x0 > 0, name
        assert box.y0 > 0, name
        assert box.x1 < figure.bbox.x1, name
        assert box.y1 < figure.bbox.y1, name
    for (one, box), (other, its) in combinations(boxes, 2):
        assert not box.overlaps(its), (one, other)


@pytest.mark.parametrize("layout", ["6x2", "6x2+1", "3x4", "12x1"])
def test_every_lead_has_a_name_and_a_trace(layout):
    figure = ecg_page(recording(), layout=layout)
    named = [word for word in words(figure) if word in LEADS]
    expected = [lead for row in LAYOUTS[layout].rows for lead in row]
    assert named == expected
    assert set(named) == set(LEADS)
    assert len(traces(figure)) == len(expected)


@pytest.mark.parametrize(("speed", "gain"), [(25.0, 10.0), (50.0, 5.0), (12.5, 20.0)])
def test_a_second_and_a_millivolt_have_their_size_on_paper(speed, gain, tmp_path):
    figure = ecg_page(recording(), layout="12x1", speed=speed, gain=gain)
    inverse = figure.dpi_scale_trans.inverted()
    for number, (x, y) in enumerate(traces(figure)):
        inches = inverse.transform(figure.axes[0].transData.transform(np.column_stack([x, y])))
        across, up = 25.4 * np.ptp(inches, axis=0)
        assert across == pytest.approx(9.99 * speed, rel=1e-6)
        assert up == pytest.approx((1 + number / 24) * gain, rel=1e-3)
    pulses = [np.asarray(line.get_data()) for line in figure.axes[0].lines if len(line.get_xdata()) == 6]
    assert len(pulses) == 12
    assert {(round(p[0][3] - p[0][2], 6), round(np.ptp(p[1]), 6)) for p in pulses} == {(0.2 * speed, gain)}
    save_page(figure, tmp_path / "page.pdf")
    box = (tmp_path / "page.pdf").read_bytes().split(b"/MediaBox [")[1].split(b"]")[0].split()
    millimetres = np.asarray(box[2:], float) / 72 * 25.4
    np.testing.assert_allclose(millimetres, figure.get_size_inches() * 25.4, rtol=1e-4)
    grid = figure.axes[0].collections
    assert {round(float(np.diff([s[0][0] for s in c.get_segments()[:3]])[0]), 6) for c in grid} == {1.0, 5.0}


def test_columns_follow_one_another_in_time():
    made = recording()
    ramp = np.broadcast_to(np.arange(made.n_sample, dtype=np.float32) / 1e3, (12, made.n_sample))
    page = lay_out(replace(made, load=held(ramp)), layout_of(made, "3x4"), 0.0, 10.0)
    for row in page.rows[:3]:
        joined = np.concatenate([segment.trace for segment in row.segments])
        np.testing.assert_allclose(joined, ramp[0] - np.median(ramp[0]), atol=1e-6)
    assert [segment.start for segment in page.rows[0].segments] == [0, 2.5, 5, 7.5]


def test_missing_leads_leave_a_named_space_and_derived_ones_say_so():
    found = words(ecg_page(recording(("I", "II", "V1")), layout="6x2"))
    assert "V2: not recorded" in found
    assert "aVF (derived)" in found
    assert "III (derived)" in found
    assert "V1" in found
    assert "III: not recorded" in words(ecg_page(recording(("II", "V1")), layout="6x2"))


def test_derived_leads_obey_einthoven():
    made = recording(("I", "II"))
    page = lay_out(made, layout_of(made, "6x2"), 0.0, 10.0)
    by_lead = {segment.lead: segment.trace for row in page.rows for segment in row.segments}
    one, two = (made.signal[i, : round(5 * RATE)] for i in (0, 1))
    expected = two - one
    np.testing.assert_allclose(np.ptp(by_lead["III"] - expected), 0, atol=1e-5)


def test_a_gap_is_a_gap_and_a_lead_without_signal_says_so():
    made = recording(("II", "V1", "V2"))
    signal = made.signal.copy()
    signal[0, 200:400] = np.nan
    signal[1] = np.nan
    figure = ecg_page(replace(made, load=held(signal)))
    assert "V1: no signal" in words(figure)
    (gap, whole) = (y for _, y in traces(figure))
    assert np.isnan(gap).sum() == 200
    assert not np.isnan(whole).any()


def test_a_short_recording_says_where_it_ended():
    assert "V4: ended before" in words(ecg_page(recording(seconds=6.0), layout="3x4"))


def test_the_offset_of_the_baseline_is_removed_and_said():
    made = recording()
    figure = ecg_page(replace(made, load=held(made.signal - 5)))
    assert any("offset of the baseline removed, up to 5.0 mV" in word for word in words(figure))
    for (_, y), (_, plain) in zip(traces(figure), traces(ecg_page(made)), strict=True):
        np.testing.assert_allclose(y, plain, atol=1e-4)
    assert not any("offset" in word for word in words(ecg_page(made)))


def test_a_trace_that_leaves_its_row_is_marked():
    tall = ecg_page(recording(height=30.0))
    assert any("trace leaves its row" in word for word in words(tall))
    marks = [line for line in tall.axes[0].lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert sum(len(line.get_xdata()) for line in marks) >= 12
    assert not any("leaves" in word for word in words(ecg_page(recording())))


def test_rows_grow_with_their_traces():
    low, high = (lay_out(recording(height=height), LAYOUTS["3x4"], 0.0, 10.0).rows for height in (0.5, 3.0))
    assert all(row.height == 30 for row in low)
    assert all(row.up >= 35 for row in high)
    assert all(row.up % 5 == 0 == row.down % 5 for row in high)


def test_layouts_suit_the_leads():
    assert layout_of(recording()) == LAYOUTS["3x4"]
    assert layout_of(recording(("I", "II", *LEADS[6:]))) == LAYOUTS["3x4"]
    assert layout_of(recording(("II", "CM5"))).leads == ("II", "CM5")
    assert any("not drawn: CM5" in word for word in words(ecg_page(recording(("II", "CM5")), layout="6x2")))


def test_the_page_with_the_most_saliency_is_drawn():
    long = recording(seconds=120.0)
    figure = ecg_page(long, saliency=band(at=83.0, seconds=120.0))
    (said,) = [word for word in words(figure) if word.startswith("this page")]
    assert "where the model looked most, 0:01:1" in said or "where the model looked most, 0:01:2" in said
    assert "of 0:02:00.0" in said
    assert any("this page: 0:00:00.0 to 0:00:10.0" in word for word in words(ecg_page(long)))
    assert any("0:01:50.5 to 0:02:00.0" in word for word in words(ecg_page(long, start=110.5)))


def test_a_band_is_darkest_where_the_model_looked():
    figure = ecg_page(recording(("II",)), saliency=band(("II",), at=3.0))
    image = next(image for image in figure.axes[0].images if image.get_array().shape[1] > 100)
    left, right, *_ = image.get_extent()
    alpha = image.get_array()[0, :, 3]
    seconds = (alpha.argmax() + 0.5) / len(alpha) * (right - left) / 25
    assert seconds == pytest.approx(3.0, abs=0.05)
    assert alpha.min() == 0
    # no band where the model did not read the lead
    assert len(ecg_page(recording(("V1",)), saliency=band(("II",))).axes[0].images) == 1


def test_labels_are_listed_by_probability():
    figure = ecg_page(recording(), labels=[("low", 0.002), ("high", 0.998), ("middle", 0.5)], present=["high"])
    found = words(figure)
    assert [word for word in found if word in {"low", "high", "middle"}] == ["high", "middle", "low"]
    assert {">99 %", "50 %", "<1 %"} <= set(found)
    bold = [text.get_text() for text in texts(figure) if text.get_weight() == "bold"]
    assert "high" in bold
    assert "middle" not in bold
    assert "and 4 more, none above 10 %" in words(ecg_page(recording(), labels=LABELS))


def test_facts_stand_above(tmp_path):
    found = words(ecg_page(recording(age=70.0, sex="Female"), title="A title of $x$"))
    assert found[1] == "Female  ·  70 years  ·  12 leads  ·  100 Hz  ·  10.0 s  ·  WFDB"
    assert found[0] == r"A title of \$x\$"
    assert words(ecg_page(recording(age=np.nan, sex="Unknown")))[1].startswith("12 leads")


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_page_is_the_same_file(kind, tmp_path):
    for name in ("a", "b"):
        save_page(ecg_page(recording(seconds=3.0), layout="12x1"), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "3x5"}, "no layout named '3x5'. Did you mean '3x4'?"),
        ({"start": 10.0}, "a page from second 10 on, but it has 10 seconds"),
        ({"start": -1.0}, "a page from second -1 on"),
        ({"speed": 0.0}, "speed is 0 mm/s, expected 5 to 200 mm/s"),
        ({"gain": 1000.0}, "gain is 1000 mm/mV, expected 1 to 100 mm/mV"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(InputError) as error:
        ecg_page(recording(), **options)
    assert message in str(error.value)


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"written as \.png, \.pdf or \.svg, not as \.jpg"):
        save_page(ecg_page(recording(("II",))), tmp_path / "page.jpg")
    assert not list(tmp_path.iterdir())


def test_text_is_shortened_to_its_room():
    assert fitted("short", 50) == "short"
    assert width(fitted("x" * 500, 50)) <= 50
    assert fitted("x" * 500, 50).endswith("…")
    assert printable("心 a\n\tb") == "□ a b"
    lines = wrapped([f"part {i}" for i in range(100)], 40, most=2)
    assert len(lines) == 2
    assert all(width(line) <= 41 for line in lines)
    shown = sum("part" in piece for line in lines for piece in line.split("·"))
    assert lines[-1].endswith("more")
    assert int(lines[-1].split()[-2]) + shown == 100


def test_real_records_are_drawn(data_folder):
    raw = np.fromfile(data_folder / "cinc2021_sample" / "JS20000.mat", "<i2", offset=24).reshape(-1, 12).T / 1000
    made = replace(recording(), rate=500.0, n_sample=raw.shape[1], load=held(raw.astype(np.float32)))
    boxes = [text.get_window_extent() for text in texts(ecg_page(made, labels=LABELS))]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
