import pytest
from helixwave import training_speed
from helixwave.training_speed import Row, main, page


def test_measures_what_is_installed_and_writes_the_page(tmp_path, monkeypatch, capsys):
    only_ours = {name: make for name, make in training_speed.contenders("mlstm").items() if name == "helixwave"}
    monkeypatch.setattr(training_speed, "contenders", lambda family: only_ours)
    monkeypatch.setattr(training_speed, "D", 16)
    report = tmp_path / "page.md"
    main(["--lengths", "8,4", "--report", str(report)])
    lines = [line for line in report.read_text().splitlines() if line.startswith(("| mamba ", "| mlstm "))]
    assert [line.split("|")[2].strip() for line in lines] == ["4", "8", "4", "8"]
    assert all(float(line.split("|")[4]) > 0 for line in lines)
    assert report.read_text() in capsys.readouterr().out


def test_ratios_are_to_ours_at_the_same_length():
    rows = [Row("mamba", 8, "theirs", 30.0), Row("mamba", 8, "helixwave", 2.0), Row("mamba", 16, "helixwave", 4.0)]
    assert "| mamba    |  8 | theirs    |        30 | 15x" in page(rows, "command")


def test_contenders_start_with_the_others():
    for family in ("mamba", "mlstm"):
        assert list(training_speed.contenders(family))[-1] == "helixwave"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "mlsm"], "no family mlsm, expected some of mamba, mlstm"),
        (["--lengths", "many"], "argument --lengths: invalid lengths value: 'many'"),
        (["--report", "nowhere/page.md"], "nowhere/page.md: expected a file in a folder that is there"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(training_speed, "measure", None)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err
