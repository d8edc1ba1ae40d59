"""Files become columns of numbers, times and names; what cannot is refused with its line."""

import gzip

import numpy as np
import pytest
from helixwave.errors import InputError

pytest.importorskip("pandas")
from helixwave_domains.forecasting.frame_options import Cells, Columns
from helixwave_domains.forecasting.frame_rows import read_frame
from helixwave_domains.forecasting.frames import read_table

PLAIN = "t,a,b\n2024-01-01,1.5,2\n2024-01-02,-3,4e2\n2024-01-03,,6\n"
VALUES = [[1.5, 2], [-3, 400], [np.nan, 6]]


@pytest.fixture
def write(tmp_path):
    def write(content, name="x.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path, columns=None, cells=None):
    with pytest.raises(InputError) as error:
        read_frame(path, columns or Columns("t"), cells)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        (PLAIN, Cells()),
        ("\ufeff" + PLAIN, Cells()),
        (PLAIN.replace("\n", "\r\n"), Cells()),
        ("\n" + PLAIN.replace("\n2024-01-03", "\n\n2024-01-03"), Cells()),
        (PLAIN.replace(",", ";").replace("1.5", "1,5"), Cells(decimal=",")),
        (PLAIN.replace(",", "\t").replace("2024-01-03\t\t", "2024-01-03\tNA\t"), Cells()),
        (PLAIN.replace(",", ", "), Cells()),
        (gzip.compress(PLAIN.encode()), Cells()),
        (PLAIN.replace("1.5", "off"), Cells(not_a_number="missing")),
    ],
    ids=["plain", "bom", "crlf", "blank lines", "comma", "tab", "spaces", "gzip", "text"],
)
def test_csv(write, content, cells):
    frame = read_frame(write(content), Columns("t"), cells)
    (rows,) = frame.series
    expected = np.asarray(VALUES)
    expected[0, 0] = np.nan if frame.table.made_missing else 1.5
    np.testing.assert_array_equal(rows.values, expected)
    np.testing.assert_array_equal(rows.times, np.arange("2024-01-01", "2024-01-04", dtype="datetime64[D]"))
    assert (rows.name, frame.columns.targets) == ("x", ("a", "b"))


def test_parquet(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    times = np.arange("2024-01-01", "2024-01-04", dtype="datetime64[D]").astype("datetime64[ms]")
    columns = {"t": times, "a": [1.5, -3, None], "b": np.asarray([2, 400, 6], dtype=np.int32)}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    frame = read_frame(tmp_path / "x.parquet", Columns("t"))
    np.testing.assert_array_equal(frame.series[0].values, VALUES)
    np.testing.assert_array_equal(frame.series[0].times, times)
    assert frame.where(frame.series[0], 1).endswith("x.parquet, row 2")


def test_long_frame(write):
    path = write("name,x,y,t,extra\n007,1,10,5,u\nNA,2,20,1,v\n007,3,30,6,w\n")
    frame = read_frame(path, Columns("t", id="name", targets=("y",), exogenous=("x",)))
    assert [rows.name for rows in frame.series] == ["007", "NA"]
    assert [rows.values.ravel().tolist() for rows in frame.series] == [[10, 30], [20]]
    assert [rows.exogenous.ravel().tolist() for rows in frame.series] == [[1, 3], [2]]
    assert [rows.times.tolist() for rows in frame.series] == [[5, 6], [1]]
    assert frame.where(frame.series[0], 1).endswith("x.csv, line 4 (series '007')")


def test_latin_1_is_said(write):
    table = read_table(write("t,W/m²\n1,2\n".encode("latin-1")), Cells())
    assert table.columns_of_numbers(["t"]) == ["W/m²"]
    assert table.notes == ["line 1 is not UTF-8: the file was read as Latin-1"]


def test_columns_that_are_not_forecast_are_said(write):
    frame = read_frame(write(",t,a,kind\n0,1,2,u\n1,2,3,7\n2,3,4,v\n"), Columns("t"))
    assert frame.columns.targets == ("a",)
    assert frame.table.notes == [
        "column '' has no name and is not forecast",
        "column 'kind' does not hold numbers and is not forecast",
    ]


@pytest.mark.parametrize(
    ("cells", "time_format", "expected"),
    [
        (["2024-01-31T22:00Z", "2024-02-01T01:00+02:00"], None, ["2024-01-31T22:00", "2024-01-31T23:00"]),
        (["1/31/2024 1:00", "2/1/2024 12:30"], None, ["2024-01-31T01:00", "2024-02-01T12:30"]),
        (["31.01.2024", "01.02.2024"], "%d.%m.%Y", ["2024-01-31", "2024-02-01"]),
        (["20240131", "20240201"], "%Y%m%d", ["2024-01-31", "2024-02-01"]),
        (["2024-01-31", "2024-01-31 06:00"], None, ["2024-01-31", "2024-01-31T06:00"]),
        (["20240131", "20240201"], None, ["2024-01-31", "2024-02-01"]),
    ],
)
def test_times(write, cells, time_format, expected):
    table = read_table(write(f"t,a\n{cells[0]},1\n{cells[1]},2\n"), Cells(time_format=time_format), ["t"])
    np.testing.assert_array_equal(table.times("t"), np.asarray(expected, dtype="datetime64[us]"))
    said = {
        "2024-01-31T22:00Z": ["times of column 't' have a zone and are written in UTC"],
        "20240131": ["times of column 't' are read as dates, such as 2024-01-31"],
    }
    assert table.notes == ([] if time_format else said.get(cells[0], []))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.csv: is empty. Expected a header and a row for each step"),
        ("t,a\n", "x.csv: has no rows. Expected one for each step"),
        (b"PK\x03\x04sheet", "x.csv: is no text in UTF-8 and no Parquet. Save it as CSV in UTF-8"),
        ("t,a\n1,2\n".encode("utf-16"), "x.csv: is no text in UTF-8 and no Parquet. Save it as CSV in UTF-8"),
        (b"\x1f\x8b\x08", "x.csv: damaged gzip file ("),
        (b"PAR1 or not", "x.csv: damaged Parquet file ("),
        ("t,a,a\n1,2,3\n", "x.csv: the header has 'a' twice. Expected each name once"),
        ("t,a\n1,2\n2,3,4\n", "x.csv: line 3 has 3 cells, the header has 2. Expected as many in each row"),
        ("t,a\n1,2,3\n", "x.csv: rows have more cells, the header has 2. Expected as many in each row"),
        ("when,a\n1,2\n", "x.csv: no column 't'. Known: a, when."),
        ("t,a\n1,2\n,3\n", "x.csv, line 3: t is empty. Expected one in each row"),
        (
            "t,a\n1,2\n2,x\n3,4\n",
            "x.csv, line 3: a is 'x', expected a number. Correct it, or add --not-a-number missing",
        ),
        ("t,a\n1,2\n2,inf\n3,4\n", "x.csv, line 3: a is 'inf', expected a number. Correct it, or"),
        ('t,a\n1,"2\n"\n2,x\n3,4\n', "x.csv, line 4: a is 'x', expected a number."),
        ('t,a\n1,2\n2,"2,5"\n', "x.csv, line 3: a is '2,5', expected a number. Add --decimal comma"),
        ("t;a\n1;\n2;2,5\n", "x.csv, line 3: a is '2,5', expected a number. Add --decimal comma"),
        (
            't,a\n1,"1,234.5"\n',
            "line 2: a is '1,234.5', expected a number. Write numbers without separators of thousands",
        ),
        ("t,a\n1,u\n", "x.csv, line 2: a is 'u', expected a number. Correct it, or add --not-a-number missing"),
        ("t\n1\n", "x.csv: no column is left to forecast. Columns: t"),
        (
            "t,a\n2024-01-01,1\n2024-13-01,2\n",
            "line 3: t is '2024-13-01', expected a time such as '2024-01-01'. Correct",
        ),
        (
            "t,a\nsoon,1\n",
            "line 2: t is 'soon', expected a time such as 2024-01-31 23:00 or a whole number. Correct it, or",
        ),
        ("t,a\n1.5,1\n", "line 2: t is '1.5', expected a time such as 2024-01-31 23:00 or a whole number."),
    ],
)
def test_refused(write, content, message):
    assert message in refused(write(content))


def test_thousands_are_no_fractions(write):
    message = "line 2: a is '1.234', expected a number. Write numbers without separators of thousands"
    assert message in refused(write("t;a\n1;1.234\n2;1,5\n"), Columns("t", targets=("a",)), Cells(decimal=","))


def test_only_likely_names_of_many(write):
    header = ",".join(["t", *(f"sensor{i}" for i in range(300))])
    message = refused(write(f"{header}\n{','.join(['1'] * 301)}\n"), Columns("t", targets=("sensr7",)))
    assert message.startswith("x.csv: no column 'sensr7'. Did you mean 'sensor7'? Known: ")
    assert message.count(",") < 30


def test_refused_columns(write, tmp_path):
    assert refused(tmp_path / "no.csv") == "no.csv: no such file. Expected CSV, gzip CSV or Parquet"
    path = write("t,a,s\n1,2,u\n2,3,\n")
    assert refused(path, Columns("t", id="s")) == "x.csv, line 3: s is empty. Expected one in each row"
    assert refused(path, Columns("t", targets=("a", "a"))).startswith("column 'a' was named twice. A column is one of")
    assert "expected a time such as %Y." in refused(write(PLAIN), Columns("t"), Cells(time_format="%Y"))
