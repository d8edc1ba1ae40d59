"""The user's own tables of motion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helixwave.errors import InputError
from helixwave_domains.video.labelled_motion import LabelledMotionTable


def frame(n_series: int = 12) -> Any:
    """Series of 3 to 6 steps of six people, with a gap in the first."""
    rows = [
        {
            "series": f"s{i}",
            "time": 0.1 * t,
            "x": i + t,
            "y": -t,
            "label": "ab"[i % 2],
            "who": f"p{i // 2}",
            "note": "n",
        }
        for i in range(n_series)
        for t in range(3 + i % 4)
    ]
    table = pd.DataFrame(rows)
    table.loc[1, "x"] = np.nan
    return table


def written(folder: Path, table: Any, name: str = "motion.csv") -> str:
    path = folder / name
    table.to_parquet(path) if name.endswith("parquet") else table.to_csv(
        path, index=False, sep="\t" if name.endswith("tsv") else ","
    )
    return str(path)


@pytest.mark.parametrize("name", ["motion.csv", "motion.tsv", "motion.parquet"])
def test_series_are_the_rows_of_the_table_in_time(tmp_path: Path, name: str) -> None:
    table = frame()
    shuffled = table.sample(frac=1, random_state=0)
    data = LabelledMotionTable(table=written(tmp_path, shuffled, name), time="time", group="who")
    assert sorted(data.motion.names) == sorted(table["series"].unique())
    for series, of, label in zip(data.motion.series, data.motion.names, data.motion.labels, strict=True):
        rows = table[table["series"] == of]
        np.testing.assert_array_equal(series, rows[["x", "y"]].to_numpy(np.float32))
        assert data.classes[label] == rows["label"].iloc[0]
    facts = data.describe()
    assert facts["missing values"] == f"1 of {2 * len(table)}"
    assert facts["groups in training and test"] == 0
    assert facts["columns without numbers, left out"] == "note"
    assert facts["channels"] == "x, y"
    assert sum(facts[part].startswith("0 series") for part in data.places) == 0


def test_a_folder_has_a_table_for_each_series(tmp_path: Path) -> None:
    table = frame()
    for name, rows in table.groupby("series"):
        written(tmp_path, rows.drop(columns="series"), f"{name}.csv")
    data = LabelledMotionTable(table=str(tmp_path), time="time", channels=["y"])
    assert sorted(data.motion.names) == sorted(table["series"].unique())
    assert data.reads == {"channels": 1}
    place = list(data.motion.names).index("s3")
    np.testing.assert_array_equal(data.motion.series[place][:, 0], -np.arange(6))


def test_a_column_may_say_the_split(tmp_path: Path) -> None:
    table = frame().assign(part=lambda rows: rows["who"].map(lambda who: {"p0": "test", "p1": "val"}.get(who, "train")))
    data = LabelledMotionTable(table=written(tmp_path, table), split="part", time="time")
    assert {part: [data.motion.names[i] for i in places] for part, places in data.places.items()} == {
        "train": [f"s{i}" for i in range(4, 12)],
        "validation": ["s2", "s3"],
        "test": ["s0", "s1"],
    }


def test_uneven_steps_are_counted(tmp_path: Path) -> None:
    table = frame()
    table.loc[2, "time"] = 0.9
    data = LabelledMotionTable(table=written(tmp_path, table), time="time")
    assert data.describe()["series whose steps are not even in time, read as if they were"] == 1


def test_channels_of_vectors_and_mirrors_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, frame())
    data = LabelledMotionTable(table=path, channels=["y", "x"], vectors=[["x", "y"]], mirrored=["x"], mirror=1.0)
    assert data.train.geometry.vectors == [[1, 0]]
    shown, plain = (data.train.example(0, rng)["inputs"] for rng in (np.random.default_rng(0), None))
    mean, deviation = data.preprocessing["mean"][1], data.preprocessing["deviation"][1]
    np.testing.assert_allclose(deviation * shown[:, 1] + mean, -(deviation * plain[:, 1] + mean), atol=1e-5)
    np.testing.assert_allclose(shown[:, 0], plain[:, 0], atol=1e-6)
    with pytest.raises(InputError, match=r"mirrored has 'z', which is no channel"):
        LabelledMotionTable(table=path, mirrored=["z"])
    with pytest.raises(InputError, match=r"vectors has \['x'\], expected two channels"):
        LabelledMotionTable(table=path, vectors=[["x"]])


def changed(row: int, column: str, value: object) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table = table.astype(object)
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(1, "label", "b"), "series 's0': label is 'a' and 'b', expected one for all rows"),
        (changed(1, "who", "p9"), "series 's0': who is 'p0' and 'p9'"),
        (changed(2, "time", 0.1), r"series 's0' has two rows at the time 0.1, expected one"),
        (changed(2, "time", ""), "row 3: time is empty, expected a number"),
        (changed(2, "x", "left"), "row 3: x is 'left', expected a number or nothing"),
        (changed(2, "x", "inf"), "row 3: x is 'inf', expected a number or nothing"),
        (changed(2, "series", ""), "row 3: series is empty"),
        (lambda table: table.assign(label=""), "series 's0': label is empty"),
        (lambda table: table.assign(label="a"), "all series have the label 'a', nothing to learn"),
        (lambda table: table.drop(columns="label"), r"no column 'label'\. .*Known: "),
        (lambda table: table.drop(columns=["x", "y"]), "no column of numbers is left for the channels, found series"),
        (lambda table: table.iloc[:0], "the table has no row"),
    ],
)
def test_tables_that_make_no_sense(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelledMotionTable(table=written(tmp_path, change(frame())), time="time", group="who")


def test_places_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no table \(.csv, .tsv, .parquet\) in the folder"):
        LabelledMotionTable(table=str(tmp_path))
    with pytest.raises(InputError, match=r"is no table .* and no folder"):
        LabelledMotionTable(table=str(tmp_path / "motion.xlsx"))
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"a.parquet: cannot be read as a table"):
        LabelledMotionTable(table=str(tmp_path / "a.parquet"))
    (tmp_path / "b.csv").write_text("x,label\n1,a\n")
    (tmp_path / "c.csv").write_text("y,label\n1,a\n")
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(InputError, match=r"c.csv: the column 'x' is not in all tables of the folder"):
        LabelledMotionTable(table=str(tmp_path))
