"""Contenders take turns, and the best run of each counts."""

import pytest
from helixwave import side_by_side
from helixwave.side_by_side import best_in_turns, publish
from helixwave_kernels.bench.timing import Times


def test_the_best_of_all_turns(monkeypatch):
    took, order = {"slow": iter([9.0, 7.0]), "quick": iter([4.0, 2.0, 3.0, 1.5, 1.7])}, []

    def timed(run, device):
        assert device == "cpu"
        order.append(run())
        return Times(0.0, next(took[order[-1]]))

    monkeypatch.setattr(side_by_side, "timed", timed)
    contenders = {"slow": lambda: "slow", "quick": lambda: "quick"}
    assert best_in_turns(contenders, turns=2, least=6.0) == {"slow": 7.0, "quick": 1.5}
    assert order == ["slow", "quick", "quick", "slow", "quick", "quick", "quick"]


@pytest.mark.parametrize("write", [False, True])
def test_a_page_is_printed_and_written_if_that_is_asked_for(write, tmp_path, capsys):
    publish("# Text", tmp_path / "page.md" if write else None)
    assert capsys.readouterr().out == "# Text\n"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["# Text"] * write
