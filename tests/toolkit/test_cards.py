import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from helixwave.cards import Card, CardFile, card_names, data_folder, read_card, supplied_arrays
from helixwave.errors import InputError

CONTENT = b"ACGT\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CARDS = card_names()


def card(url=None, *, sha256=SHA256):
    file = CardFile("reads.fa", sha256, len(CONTENT), url)
    return Card("tiny", "Tiny", "CC0", "https://example.org", "nobody, 2000", (file,), "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("HELIXWAVE_DATA", str(path))
    return path


@pytest.fixture
def url(tmp_path):
    """Where a server on this machine gives `reads.fa`."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    served = tmp_path / "served"
    served.mkdir()
    (served / "reads.fa").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/reads.fa"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", CARDS)
def test_card_has_its_facts(name):
    card = read_card(name)
    assert all([card.title, card.licence, card.citation, card.files or card.supplied])
    assert card.homepage.startswith("https://")
    assert card.page.startswith("# ")
    assert "**Splits.**" in card.page
    assert "**Known flaws.**" in card.page
    assert len({file.path for file in card.files}) == len(card.files)
    for file in card.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.bytes > 0
        assert file.url is None or file.url.startswith("https://")
    assert card.size == sum(file.bytes for file in card.files)
    for part in card.supplied:
        assert part.path
        assert part.url.startswith("https://")


@pytest.mark.parametrize("name", CARDS)
def test_files_that_ship_are_as_published(name, folder):
    card = read_card(name)
    for file in card.files:
        place = card.locate(file.path)
        assert card.verify()[file.path] == ("ok" if file.url is None else "missing")
        assert place is None if file.url else place.stat().st_size == file.bytes


@pytest.mark.parametrize("name", CARDS)
def test_real_files_are_as_published(name, data_folder, monkeypatch):
    monkeypatch.setenv("HELIXWAVE_DATA", str(data_folder))
    assert set(read_card(name).verify().values()) <= {"ok"}


def test_unknown_card():
    with pytest.raises(InputError, match=r"no data card named 'uci_splce'. Did you mean 'uci_splice'\? Known: "):
        read_card("uci_splce")


def test_data_folder(folder, monkeypatch):
    assert data_folder() == folder
    monkeypatch.setenv("HELIXWAVE_DATA", str(folder / "nowhere"))
    with pytest.raises(InputError, match=r"HELIXWAVE_DATA is .*nowhere: there is no such folder"):
        data_folder()
    monkeypatch.setenv("HELIXWAVE_DATA", "")
    assert data_folder().name == "helixwave"


@pytest.mark.parametrize(("content", "status"), [(CONTENT, "ok"), (b"X" + CONTENT[1:], "differs"), (b"", "differs")])
def test_verify(folder, content, status):
    assert card().verify() == {"reads.fa": "missing"}
    (folder / "tiny").mkdir()
    (folder / "tiny" / "reads.fa").write_bytes(content)
    assert card().verify() == {"reads.fa": status}
    assert card().locate("reads.fa") == folder / "tiny" / "reads.fa"


def test_data_folder_comes_before_what_ships(folder):
    card = read_card("arabidopsis_chloroplast")
    (folder / card.name).mkdir()
    (folder / card.name / "coding.tsv").write_text("other\n")
    assert card.verify() == {"NC_000932.fasta": "ok", "coding.tsv": "differs"}


def test_download_is_checked_and_kept(folder, url):
    (path,) = card(url).fetch()
    assert path == folder / "tiny" / "reads.fa"
    assert path.read_bytes() == CONTENT
    assert card("http://127.0.0.1:9/reads.fa").file("reads.fa") == path


def test_wrong_checksum_leaves_nothing_behind(folder, url):
    with pytest.raises(InputError, match=r"data set tiny: reads\.fa .* did not give it .*helixwave data fetch tiny"):
        card(url, sha256="0" * 64).fetch()
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("there", ["/other.fa", None], ids=["not-found", "offline"])
def test_download_that_fails(folder, url, there):
    address = url.replace("/reads.fa", there) if there else "http://127.0.0.1:9/reads.fa"
    with pytest.raises(
        InputError, match=r"data set tiny: reads\.fa is not in .*tiny and http.* run: helixwave data fetch"
    ):
        card(address).fetch()
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_file_without_an_address(folder):
    with pytest.raises(InputError, match=r"data set tiny: reads\.fa is not in .*tiny. Put it there .*data fetch tiny"):
        card().file("reads.fa")


def damaged_archives(folder):
    """Files by name, none of which is an archive of NumPy that can be read."""
    made = {"empty.npz": b"", "text.npz": b"hello", "no_zip.npz": b"PK\x03\x04 garbage"}
    for name, save in (("whole.npz", np.savez), ("packed.npz", np.savez_compressed)):
        save(folder / name, x=np.arange(1000), y=np.ones(3))
        whole = (folder / name).read_bytes()
        made[f"cut_{name}"] = whole[: len(whole) // 2]
        made[f"changed_{name}"] = whole[:100] + bytes(50) + whole[150:]
    for name, content in made.items():
        (folder / name).write_bytes(content)
    (folder / "folder.npz").mkdir()
    return [*made, "folder.npz"]


def test_supplied_arrays(tmp_path):
    for name in damaged_archives(tmp_path):
        with pytest.raises(InputError, match=rf"{name}: no NumPy archive \(.*See the data card tiny"):
            supplied_arrays(tmp_path / name, ["x"], card="tiny")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match="it holds one array, expected an archive"):
        supplied_arrays(tmp_path / "one.npy", ["x"], card="tiny")
    with pytest.raises(InputError, match=r"it has no z, w\. See the data card tiny"):
        supplied_arrays(tmp_path / "whole.npz", ["x", "z", "w"], card="tiny")
    found = supplied_arrays(tmp_path / "packed.npz", ["x"], card="tiny")
    assert list(found) == ["x"]
    assert (found["x"] == np.arange(1000)).all()
