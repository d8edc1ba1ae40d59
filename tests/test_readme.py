"""What the README and the pages beside it show works."""

import doctest
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("page", ["README.md", "docs/models.md", "docs/operators.md", "docs/variants.md"])
def test_examples_run(page: str) -> None:
    failed, tried = doctest.testfile(str(README.parent / page), module_relative=False, encoding="utf-8")
    assert tried >= 5
    assert failed == 0


def test_linked_files_are_there() -> None:
    targets = [part.partition(")")[0] for part in README.read_text(encoding="utf-8").split("](")[1:]]
    local = [target for target in targets if not target.startswith("http")]
    assert local
    assert [target for target in local if not (README.parent / target).exists()] == []
