import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.store import Column, Layout, Table, create, remove

zarr = pytest.importorskip("zarr")

COLUMNS = [Column("name", "string"), Column("offset", "int64"), Column("length", "int64"), Column("mean", "float32", 3)]
LAYOUT = Layout(rows=5, rows_per_block=2, columns=COLUMNS, positions=["positions"], d_model=3)
NAMES = ["a", "", "ü, b", "c\td", "e" * 300]
LENGTHS = [2, 0, 4, 1, 3]


def contents(table, block):
    """Columns and positions of a block, made from the rows' numbers."""
    rows = table.rows_of(block)
    lengths = np.array([LENGTHS[row] for row in rows])
    columns = {
        "name": [NAMES[row] for row in rows],
        "length": lengths,
        "offset": lengths.cumsum() - lengths,
        "mean": np.array([[row, np.nan, -row] for row in rows], dtype=np.float32),
        "status": ["ok" if row else "symbolic" for row in rows],
    }
    return columns, {"positions": [np.full((LENGTHS[row], 3), row, dtype=np.float32) for row in rows if LENGTHS[row]]}


def written(folder, blocks=range(3)):
    create(folder, LAYOUT, {"made": "here"})
    table = Table(folder)
    for block in blocks:
        if not table.is_done(block):
            table.write(block, *contents(table, block))
    return table


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(tmp_path_factory.mktemp("whole") / "t.zarr")


def test_any_reader_of_zarr_reads_it(whole):
    group = zarr.open(whole.folder)
    assert group["name"][:].tolist() == NAMES
    assert group["status"][:].tolist() == ["symbolic", "ok", "ok", "ok", "ok"]
    np.testing.assert_array_equal(group["mean"][:, 2], [0, -1, -2, -3, -4])
    assert group["mean"].shape == (5, 3)
    # the last row of the last block
    np.testing.assert_array_equal(group["positions/2"][0:3], np.full((3, 3), 4))


def test_columns_and_positions_are_read_row_by_row(whole):
    assert list(whole.column("name")) == NAMES
    assert whole.values("length", 1).tolist() == [4, 1]
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(whole.positions_of(row), np.full((length, 3), row))


def test_the_order_of_the_blocks_makes_no_difference(whole, tmp_path):
    written(tmp_path / "t.zarr", [2, 0, 1])
    assert files(tmp_path / "t.zarr") == files(whole.folder)


def test_parts_made_apart_become_one_by_copying(whole, tmp_path):
    for name, blocks in (("a", [0]), ("b", [1, 2])):
        written(tmp_path / name, blocks)
    merged = files(tmp_path / "a") | files(tmp_path / "b")
    assert merged == files(whole.folder)


def test_a_block_is_done_with_its_last_chunk(tmp_path):
    table = written(tmp_path / "t.zarr", [0])
    assert [table.is_done(block) for block in range(3)] == [True, False, False]
    assert [table.is_marked(block) for block in range(3)] == [True, False, False]
    newest = max((tmp_path / "t.zarr").rglob("c/0*"), key=lambda path: path.stat().st_mtime_ns if path.is_file() else 0)
    assert newest.parent.parent.name == "status"


def test_what_is_missing_cut_off_or_changed_is_written_again(whole, tmp_path):
    table = written(tmp_path / "t.zarr")
    chunks = [name for name in files(whole.folder) if "/c/" in name]
    assert len(chunks) == 5 * 3 + 3
    for number, name in enumerate([*chunks, "positions/0/zarr.json", "positions/1/zarr.json"]):
        block = int(re.search(r"(?:positions|/c)/(\d)", name)[1])
        file = table.folder / name
        good = file.read_bytes()
        file.unlink()
        if number % 4:
            file.write_bytes([b"", good[:-3], bytes([good[0] ^ 1]) + good[1:]][number % 4 - 1])
        assert [table.is_done(other) for other in range(3)] == [other != block for other in range(3)], name
        table.write(block, *contents(table, block))
        assert file.read_bytes() == good
    assert files(table.folder) == files(whole.folder)


class Killed(BaseException):
    """Not caught by what cleans up after errors."""


def test_killed_at_any_write_and_gone_on_with(whole, tmp_path, monkeypatch):
    """Whatever a process leaves that dies between or in the middle of two writes, the table ends as if it had not."""
    put, left = zarr.storage._local._put, [0]

    def dying(path, value, exclusive=False):
        if left[0] == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".0123.partial").write_bytes(value.to_bytes()[:5])
            raise Killed
        left[0] -= 1
        return put(path, value, exclusive)

    writes = 3 * (len(COLUMNS) + 1 + 2)
    for number in range(0, writes, 2):
        folder = tmp_path / f"{number}.zarr"
        create(folder, LAYOUT, {"made": "here"})
        left[0] = number
        with monkeypatch.context() as patch:
            patch.setattr("zarr.storage._local._put", dying)
            with pytest.raises(Killed):
                written(folder)
        written(folder)
        assert files(folder) == files(whole.folder), number


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(code, whole, tmp_path, monkeypatch):
    table = written(tmp_path / "t.zarr", [0])
    with monkeypatch.context() as patch:
        patch.setattr(
            "zarr.storage._local._put", lambda *_, **__: (_ for _ in ()).throw(OSError(code, os.strerror(code)))
        )
        message = r"t.zarr: the disk is full \([\d.]+ MiB free\). Free some space .* --resume goes on from there."
        with pytest.raises(InputError, match=message):
            table.write(1, *contents(table, 1))
    assert [table.is_done(block) for block in range(3)] == [True, False, False]
    written(tmp_path / "t.zarr")
    assert files(tmp_path / "t.zarr") == files(whole.folder)


def test_only_one_makes_it(tmp_path):
    folder = tmp_path / "t.zarr"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(folder, LAYOUT, {"made": "here"}), range(4)))
    assert sorted(made) == [False, False, False, True]
    assert Table(folder).manifest == {"made": "here"}
    assert [path.name for path in tmp_path.iterdir()] == ["t.zarr"]


def test_a_table_without_rows(tmp_path):
    create(tmp_path / "t.zarr", LAYOUT._replace(rows=0), {})
    table = Table(tmp_path / "t.zarr")
    assert (table.n_block, list(table.column("name"))) == (0, [])
    table.finish({"status": {}})
    assert (tmp_path / "t.zarr" / "manifest.json").read_text() == '{\n  "rows": 0,\n  "status": {}\n}\n'


def test_a_table_is_removed_at_once(tmp_path):
    written(tmp_path / "t.zarr")
    remove(tmp_path / "t.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{", "{}", '{"attributes": {}}'])
def test_other_folders_are_no_tables(content, tmp_path):
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(InputError, match=r"no table of embeddings or scores\. Choose another output"):
        Table(tmp_path)


def test_tables_of_a_later_version(tmp_path):
    written(tmp_path / "t.zarr", [])
    facts = tmp_path / "t.zarr" / "zarr.json"
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="a table of format 2, this version reads format 1"):
        Table(tmp_path / "t.zarr")
