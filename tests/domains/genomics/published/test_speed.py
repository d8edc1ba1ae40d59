"""What our speed is compared with computes the same, and the page says what was measured."""

from pathlib import Path

import pytest
from helixwave_domains.genomics import speed
from helixwave_domains.genomics.published import plain
from helixwave_domains.genomics.speed import CASES, Case, Row, main, page


def test_both_compute_the_same_and_the_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        Case(case.name, case.backbone | {"d_model": 16, "n_layer": 2}, case.published, 9, case.batches[:1], case.wanted)
        for case in CASES
    ]
    monkeypatch.setattr(speed, "CASES", small)
    monkeypatch.setattr(speed, "LEAST", 1.0)
    assert [case.published for case in small] == [plain.caduceus, plain.hyenadna, plain.hyenadna]
    for case in small:
        (row,) = speed.measure(case)
        assert row.difference < 1e-6
        assert min(row.published, row.ours) > 0
    main(["--report", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert text in capsys.readouterr().out
    assert all(f"| {case.name}" in text for case in small)


def test_the_page_says_what_is_not_met() -> None:
    rows = [Row(CASES[0], 1, 200.0, 10.0, 1e-6), Row(CASES[0], 8, 190.0, 10.0, 1e-6)]
    lines = [line.split("|")[6:9] for line in page(rows, "command").splitlines() if line.startswith("| Caduceus")]
    assert [[cell.strip() for cell in line] for line in lines] == [["20x", "20x", "met"], ["19x", "20x", "**not met**"]]
