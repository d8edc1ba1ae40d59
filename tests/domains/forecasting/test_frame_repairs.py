"""Each flaw of a frame is refused with its row, or repaired as its option says and counted."""

import numpy as np
import pytest
from helixwave.errors import InputError

pytest.importorskip("pandas")
from helixwave_domains.forecasting.frame_options import Columns, Repairs
from helixwave_domains.forecasting.frame_repairs import FrameRepair
from helixwave_domains.forecasting.frame_rows import read_frame

nan = np.nan


@pytest.fixture
def repair(tmp_path):
    """Makes a repair of lines `TIME VALUE ...` below a header, `t a` by default."""

    def repair(lines, columns=None, header="t a", **options):
        path = tmp_path / "x.csv"
        path.write_text("\n".join(line.replace(" ", ",") for line in [header, *lines.split("\n")]) + "\n")
        return FrameRepair(read_frame(path, columns or Columns("t")), Repairs(**options))

    return repair


@pytest.fixture
def refused(repair, tmp_path):
    def refused(*arguments, horizon=0, **options):
        with pytest.raises(InputError) as error:
            repair(*arguments, **options).panel(horizon)
        assert "\n" not in str(error.value)
        return str(error.value).replace(f"{tmp_path}/", "")

    return refused


def values(panel):
    return [series.values[:, 0].tolist() for series in panel.series]


def test_nothing_to_repair(repair):
    made = repair("2024-01-01 1\n2024-02-01 2\n2024-03-01 4")
    panel = made.panel(1)
    assert (values(panel), made.done, made.notes) == ([[1, 2, 4]], {}, [])
    assert (panel.targets, panel.exogenous, str(panel.frequency)) == (("a",), [], "MS")
    assert panel.to_come(panel.series[0], 2).astype("datetime64[D]").astype(str).tolist() == [
        "2024-04-01",
        "2024-05-01",
    ]


def test_unsorted(repair, refused):
    lines = "2 20\n1 10\n3 30"
    assert refused(lines) == (
        "x.csv, line 3: 1 comes after 2, expected times in ascending order. Add --sort, or --id COLUMN if there are "
        "several series"
    )
    made = repair(lines, sort=True)
    assert (values(made.panel(1)), made.done) == ([[10, 20, 30]], {"rows sorted": 2})


@pytest.mark.parametrize(
    ("how", "expected"), [("first", [1, 2, 5]), ("last", [1, 4, 5]), ("mean", [1, 3, 5]), ("error", None)]
)
def test_duplicates(repair, refused, how, expected):
    lines = "1 1\n2 2\n2 NA\n2 4\n3 5"
    if expected is None:
        message = (
            "x.csv, line 4: 2 stands in line 3 too, expected each time once. Add --duplicates first, last or mean, or"
        )
        assert refused(lines).startswith(message)
        return
    made = repair(lines, duplicates=how)
    assert (values(made.panel(1)), made.done) == ([expected], {"rows of a time that was there already": 2})


def test_gaps(repair, refused):
    lines = "2024-01-01 1\n2024-01-02 2\n2024-01-05 5\n2024-01-06 6"
    assert refused(lines) == (
        "x.csv, line 4: between 2024-01-02 and 2024-01-05 there is no row for 2 steps of D (gap 1 of 1). Add --gaps "
        "fill with --missing interpolate or keep, or --freq with --resample"
    )
    assert "x.csv: a at 2024-01-03 is missing (2 are, of 6). Add" in refused(lines, gaps="fill")
    made = repair(lines, gaps="fill", missing="interpolate")
    assert values(made.panel(1)) == [[1, 2, 3, 4, 5, 6]]
    assert made.done == {"steps added with missing values": 2, "missing values interpolated": 2}


def test_missing(repair, refused):
    lines = "1 NA\n2 2\n3 NA\n4 NA\n5 8\n6 NA"
    assert refused(lines) == (
        "x.csv, line 2: a at 1 is missing (4 are, of 6). Add --missing interpolate, or keep if the model takes missing "
        "values"
    )
    made = repair(lines, missing="interpolate")
    assert (values(made.panel(1)), made.done) == ([[2, 2, 4, 6, 8, 8]], {"missing values interpolated": 4})
    made = repair(lines, missing="keep")
    np.testing.assert_array_equal(made.panel(1).series[0].values[:, 0], [nan, 2, nan, nan, 8, nan])
    assert made.done == {"missing values kept": 4}


@pytest.mark.parametrize(("how", "expected"), [("mean", [2, 4, 7]), ("sum", [4, 4, 7]), ("last", [3, 4, 7])])
def test_mixed_frequencies(repair, refused, how, expected):
    lines = "2024-01-01T00:10 1\n2024-01-01T12:00 3\n2024-01-02T06:00 4\n2024-01-02T08:00 NA\n2024-01-03T00:00 7"
    assert refused(lines) == (
        "x.csv, line 3: 2024-01-01 12:00 lies between two steps of 2h, 2024-01-01 10:10 and 2024-01-01 12:10. Add "
        "--freq and --resample mean, sum or last"
    )
    made = repair(lines, frequency="D", resample=how)
    panel = made.panel(1)
    assert (values(panel), made.done) == ([expected], {"rows made into steps of D": 5})
    assert panel.series[0].times.astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-01",
        "2024-01-02",
        "2024-01-03",
    ]
    assert made.notes == ["the last step, 2024-01-03, has 1 rows where most have 2"]


def test_frequency_that_is_named(repair, refused):
    lines = "2024-01-01T06:00 1\n2024-01-01T07:00 2\n2024-01-01T09:00 4"
    assert "line 3: 2024-01-01 07:00 lies between two steps of 3h, 2024-01-01 06:00 and 2024-01-01 09:00" in refused(
        lines, frequency="3h"
    )
    assert refused(lines, resample="mean") == "--resample makes steps of a length. Add --freq, as in --freq D"
    assert refused(lines, frequency="2") == "x.csv: --freq 2 is a number, and times are not"
    assert refused("1 1\n2 2", frequency="h") == "x.csv: --freq h is a time, and times are whole numbers"


def test_short_and_empty(repair, refused):
    assert refused("1 5") == "x.csv, line 2: the only row of its series, expected at least two"
    assert refused("1 1\n2 2", horizon=2) == (
        "x.csv: the series has 2 steps, expected more than the 2 that are to be forecast. Take a shorter --horizon"
    )
    empty = refused("1 NA 1\n2 NA 2", header="t a b", columns=Columns("t", targets=("a", "b")))
    assert empty == "x.csv: a has no value. Name others with --target"
    made = repair("1 3 1\n2 3 2", header="t a b")
    assert (len(made.panel(1)), made.notes) == (1, ["a is constant"])


SENSORS = "u 1 10\nu 2 20\nu 3 30\nv 2 5\nv 3 6\nw 1 7\nw 2 9"
LONG = {"columns": Columns("t", id="s"), "header": "s t a"}


def test_series_that_end_early(repair, refused):
    assert refused(SENSORS, **LONG) == (
        "x.csv, line 8 (series 'w'): its series ends at 2, 1 step before the last one. Add --ends own (forecasts "
        "from there) or --ends missing"
    )
    own = repair(SENSORS, **LONG, ends="own").panel(1)
    assert values(own) == [[10, 20, 30], [5, 6], [7, 9]]
    assert [own.to_come(series, 1).tolist() for series in own.series] == [[4], [4], [3]]
    made = repair(SENSORS, **LONG, ends="missing", missing="interpolate")
    assert values(made.panel(1)) == [[10, 20, 30], [5, 6], [7, 9, 9]]
    assert made.done == {"steps added with missing values": 1, "missing values interpolated": 1}
    assert "the longest series has 3 steps, expected more than the 3 that" in refused(
        SENSORS, **LONG, ends="own", horizon=3
    )


def test_exogenous_variables_of_steps_to_come(repair, refused):
    lines, columns = "1 1 10\n2 2 20\n3 NA 30\n4 NA 40", {"columns": Columns("t", exogenous=("x",)), "header": "t a x"}
    (series,) = repair(lines, **columns).panel(1).series
    assert (series.values.ravel().tolist(), series.exogenous.ravel().tolist()) == ([1, 2], [10, 20, 30])
    longer = "1 1 10\n2 2 20\n3 3 30\n4 4 40\n5 NA 50"
    assert refused(longer, **columns, horizon=2) == (
        "x.csv, line 6: 1 of the 2 steps to be forecast have a row with x. Add rows for all, with empty targets"
    )
    assert refused(lines.replace("30", "NA"), **columns, horizon=1).startswith(
        "x.csv, line 4: x at 3 is missing (1 are, of 3)"
    )
    assert refused("1 NA 10\n2 2 20\n3 NA 30\n4 NA 40".replace("2 2", "2 NA"), **columns).endswith(
        "its series has 0 rows with a target, expected at least two"
    )


def test_static_columns(repair, refused):
    columns = {"columns": Columns("t", id="s", static=("k",)), "header": "s t a k"}
    panel = repair("u 1 1 5\nu 2 2 5\nv 1 3 6\nv 2 4 6", **columns).panel(1)
    assert [series.exogenous.ravel().tolist() for series in panel.series] == [[5, 5, 5], [6, 6, 6]]
    assert (panel.exogenous, panel.targets) == (["k"], ("a",))
    assert refused("u 1 1 5\nu 2 2 7", **columns) == (
        "x.csv, line 3 (series 'u'): k is 7 and was 5 before, expected one number in all rows of a series. Take "
        "--exog for others"
    )
    assert "line 3 (series 'u'): k is missing, expected one number" in refused("u 1 1 5\nu 2 2 NA", **columns)


def test_several_flaws_at_once(repair):
    made = repair(
        "5 5\n1 1\n1 3\n4 NA", sort=True, duplicates="mean", gaps="fill", missing="interpolate", frequency="1"
    )
    assert values(made.panel(1)) == [[2, 2.75, 3.5, 4.25, 5]]
    assert made.done == {
        "rows sorted": 4,
        "rows of a time that was there already": 1,
        "steps added with missing values": 2,
        "missing values interpolated": 3,
    }
