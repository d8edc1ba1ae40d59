import errno
import os
import subprocess
import sys

import pytest
from helixwave.errors import InputError
from helixwave.files import atomic_write


def refuse(number):
    def raise_it(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return raise_it


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old\n")
    return path


def assert_untouched(path):
    assert path.read_text() == "old\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("mode", "content"), [("w", "a\r\nnaïve\n"), ("wb", b"\x00\xff\r\n")])
def test_new_content_takes_the_place_of_the_old(old, mode, content):
    with atomic_write(old, mode) as f:
        f.write(content)
        f.flush()
        assert old.read_text() == "old\n"
    assert old.read_bytes() == (content if mode == "wb" else content.encode())
    assert list(old.parent.iterdir()) == [old]


def test_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_write(str(path)) as f:
        f.write("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_interrupted_writing_leaves_the_old_content(old, error):
    def write() -> None:
        with atomic_write(old) as f:
            f.write("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert_untouched(old)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
def test_full_disk(old, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refuse(number))
    message = r"table\.csv: the disk is full \(\d+\.\d MiB free\). Free some space"
    with pytest.raises(InputError, match=message), atomic_write(old) as f:
        f.write("new")
    assert_untouched(old)


def test_other_errors_stay_what_they_are(old, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as error, atomic_write(old) as f:
        f.write("new")
    assert not isinstance(error.value, InputError)
    assert_untouched(old)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_disk_that_is_really_full(old):
    program = """
import resource, signal, sys
from helixwave.errors import InputError
from helixwave.files import atomic_write

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with atomic_write(sys.argv[1], "wb") as f:
        f.write(bytes(100_000))
except InputError as error:
    print(error)
"""
    command = [sys.executable, "-B", "-c", program, str(old)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{old}: the disk is full")
    assert_untouched(old)


def test_folder_without_permission(old):
    old.parent.chmod(0o500)
    try:
        if os.access(old.parent, os.W_OK):
            pytest.skip("this user may write everywhere, no folder refuses it")
        with pytest.raises(InputError, match=r"no permission to write there. Choose another folder"), atomic_write(old):
            pass
    finally:
        old.parent.chmod(0o700)
    assert_untouched(old)


def test_refused_replacement(old, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse(errno.EACCES))
    with pytest.raises(InputError, match=r"table\.csv: no permission to write there"), atomic_write(old) as f:
        f.write("new")
    assert_untouched(old)


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002], ids=oct)
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "file"):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
