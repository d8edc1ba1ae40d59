"""What the speed of scoring is compared with gives the same scores, and the page says what was measured."""

from pathlib import Path

import pytest
from helixwave_domains.genomics import scoring_speed
from helixwave_domains.genomics.scoring_speed import CASES, Row, main, page


def test_both_give_the_same_scores_and_the_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {name: backbone | {"d_model": 16, "n_layer": 2} for name, backbone in CASES.items()}
    for name, value in {"CASES": small, "WINDOW": 16, "SITES": 2, "TURNS": 1}.items():
        monkeypatch.setattr(scoring_speed, name, value)
    main(["--report", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert text in capsys.readouterr().out
    rows = [
        line.split("|")[1:-1] for line in text.splitlines() if line.startswith(tuple(f"| {name}" for name in small))
    ]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [(name, n) for name in small for n in ("3", "1")]
    for row in rows:
        assert float(row[-1]) < 1e-5
        assert min(float(row[2]), float(row[3])) > 0


def test_the_page_says_what_is_not_met() -> None:
    rows = [Row("m", 3, 18.0, 10.0, 0.0), Row("m", 3, 17.9, 10.0, 0.0), Row("m", 1, 11.0, 10.0, 0.0)]
    lines = [line.split("|")[5:7] for line in page(rows, "command").splitlines() if line.startswith("| m ")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells == [["1.8x", "met"], ["1.79x", "**not met**"], ["1.1x", ""]]
