"""What the README and the pages beside it show works."""

import doctest
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from helixwave.cli import main

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/models.md",
        "docs/operators.md",
        "docs/variants.md",
        "docs/embedding.md",
        "docs/ecg.md",
        "docs/forecasting.md",
    ],
)
def test_examples_run(page: str) -> None:
    failed, tried = doctest.testfile(str(README.parent / page), module_relative=False, encoding="utf-8")
    assert tried >= 5
    assert failed == 0


def test_the_path_of_a_newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of it, in a folder with a FASTA; installed it is already."""
    pytest.importorskip("zarr")
    section = README.read_text(encoding="utf-8").split("\n## A newcomer's path\n")[1].split("\n## ")[0]
    (_, commands), (language, program) = re.findall(r"```(\w*)\n(.*?)```", section, flags=re.DOTALL)
    install, *lines = (shlex.split(line, comments=True) for line in commands.splitlines())
    assert (install, language) == (["pip", "install", ".[genomics]"], "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my.fa").write_text(">one\nACGTTGCANN\nACGT\n>two\ngattaca\n")
    for line in lines:
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as end:
            main()
        assert (line[0], end.value.code or 0) == ("helixwave", 0)
    Path("read.py").write_text(program)
    found = runpy.run_path("read.py")
    assert found["names"].tolist() == ["one", "two"]
    assert found["embeddings"].shape == (2, 32)
    assert np.isfinite(found["embeddings"]).all()


def test_linked_files_are_there() -> None:
    targets = [part.partition(")")[0] for part in README.read_text(encoding="utf-8").split("](")[1:]]
    local = [target for target in targets if not target.startswith("http")]
    assert local
    assert [target for target in local if not (README.parent / target).exists()] == []
