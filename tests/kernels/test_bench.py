import json
import math

import pytest
import torch
from helixwave_kernels import OPS
from helixwave_kernels.bench import contenders, machine, measure, promises, report
from helixwave_kernels.bench.__main__ import main
from helixwave_kernels.bench.contenders import Contender, disagreement, verdict
from helixwave_kernels.bench.machine import Limits
from helixwave_kernels.bench.measure import Row
from helixwave_kernels.bench.promises import Accurate, AsAccurate, Faster, Grows, exponent
from helixwave_kernels.bench.timing import Alone
from helixwave_kernels.linear_scan import linear_scan


def row(name: str, T: int, forward: float, both: float, kind: str = "ours", **rest) -> Row:
    return Row(
        "linear_scan",
        T,
        name,
        kind,
        forward,
        forward,
        both,
        both,
        **{"peak": 10.0, "error": 1e-7, "steady": both, **rest},
    )


ROWS = [
    row("loop", 4096, 100, 1000, "peer", error=2e-6),
    row("chunked", 4096, 20, 100),
    row("chunked", 16384, 80, 450, peak=40.0),
    row("chunked", 65536, 320, 1600, peak=160.0),
    row("scan of something else", 4096, 1, 2, "unlike", error=None),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Small inputs and no limits of the machine: what is tested is not how fast it is."""
    threads = torch.get_num_threads()
    for op in OPS:
        cases = contenders.cases(op.__name__)
        small = {axis: min(size, 2) for axis, size in cases.MEASURED.items()}
        monkeypatch.setattr(cases, "MEASURED", small)
    monkeypatch.setattr(machine, "limits", lambda device: Limits(1e10, 1e11))
    yield
    torch.set_num_threads(threads)


def with_contenders(monkeypatch, *field: Contender) -> None:
    monkeypatch.setattr(measure, "contenders", lambda operator, device: {each.name: each for each in field})
    monkeypatch.setattr(measure, "alone", lambda operator, name, T, device: Alone(peak=1.0))


def ours(name: str = "good", change=lambda y: y) -> Contender:
    def run(x, decay):
        y, state = linear_scan(x, decay)
        return change(y), state

    return Contender(name, "ours", run)


def test_all_contenders_are_measured(tmp_path, capsys):
    page, figures = tmp_path / "page.md", tmp_path / "rows.json"
    assert main(["short_conv", "--lengths", "16,64", "--report", str(page), "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())["rows"]
    assert {(each["length"], each["name"]) for each in rows} >= {
        (T, name) for T in (16, 64) for name in ("torch conv1d", "reference", "chunked")
    }
    assert all(each["forward"] > 0 and each["both"] > 0 and each["error"] < 1e-5 for each in rows)
    text = page.read_text()
    assert text.count("torch conv1d") == 2
    assert "--report page.md" in text, "no folder of this machine is published"
    assert capsys.readouterr().out.strip() in text


def test_disagreement_gets_no_time(monkeypatch):
    with_contenders(monkeypatch, ours(), ours("off", lambda y: 1.001 * y))
    good, off = measure.measure("linear_scan", [16])
    assert good.both > 0
    assert off.both is None
    assert off.wrong
    assert off.note.startswith("disagrees with the reference: ")
    assert off.note.endswith(" is off by 1e-03")
    table = report.operator_table("linear_scan", [good, off], Limits(1, 1))
    assert table.splitlines()[-1].split() == ["|", "16", "|", "off", *["|", "-"] * 10, "|"]


def test_disagreement_at_greater_lengths_gets_no_time(monkeypatch):
    """The reference checks shorter inputs, the outputs of longer ones are compared with each other."""
    with_contenders(monkeypatch, ours(), ours("short", lambda y: torch.cat([y[:, :600], 0 * y[:, 600:]], 1)))
    rows = list(measure.measure("linear_scan", [16, 1024]))
    assert [each.wrong for each in rows] == [False, False, False, True]
    assert rows[-1].note.startswith("disagrees with the others at this length: y is off by ")


def test_failure_of_a_contender_does_not_stop_the_others(monkeypatch, capsys):
    def broken(**arguments):
        raise KeyError("their mistake")

    with_contenders(monkeypatch, Contender("theirs", "peer", broken), ours())
    theirs, good = measure.measure("linear_scan", [16])
    assert theirs.note == "fails with KeyError"
    assert "their mistake" in capsys.readouterr().err
    assert good.both > 0


def test_slow_contenders_are_run_once_and_then_left_out(monkeypatch):
    monkeypatch.setattr(measure, "SLOW", 0)
    monkeypatch.setattr(measure, "SHORT", 0)
    calls = []
    with_contenders(monkeypatch, ours(change=lambda y: calls.append(y) or y))
    short, long = measure.measure("linear_scan", [16, 32])
    # twice for the check, then one forward pass and one with backward
    assert len(calls) == 4
    assert short.both > 0
    assert long.note == "left out: took over 0 s at T = 16"


def test_a_quick_contender_runs_twice_in_a_turn_on_memory_given_back(monkeypatch):
    """The second run finds what the first has freed, and no contender what another has."""
    turns = []
    monkeypatch.setattr(measure, "give_back_memory", lambda: turns.append(0))
    with_contenders(monkeypatch, ours(change=lambda y: turns.__setitem__(-1, turns[-1] + 1) or y if turns else y))
    list(measure.measure("linear_scan", [16]))
    assert len(turns) >= measure.LEAST
    assert set(turns) == {4}


def test_peer_without_state_is_compared_without():
    scan = contenders.find_op("linear_scan").impls["reference"]
    peer = Contender("stateless", "peer", lambda **arguments: scan(**arguments)[0])
    assert verdict(peer, "linear_scan", 32).error < 1e-6
    peer = Contender("detached", "peer", lambda x, decay: scan(x, decay.detach())[0])
    assert verdict(peer, "linear_scan", 32).problem == "disagrees with the reference: lacks gradient of decay"
    assert not verdict(Contender("other", "unlike", lambda **arguments: 1 / 0), "linear_scan", 32).problem


def test_disagreement_names_the_worst():
    expected = {"y": torch.ones(3), "state 0": torch.ones(2)}
    assert disagreement({"y": 2 * torch.ones(3), "state 0": 3 * torch.ones(2)}, expected) == (
        2,
        "disagrees with the reference: state 0 is off by 2e+00",
    )
    assert "y has shape [2], expected [3]" in disagreement({"y": torch.ones(2), "state 0": torch.ones(2)}, expected)[1]


def test_exponent():
    points = [(1024, 1e9), (4096, 3.0), (16384, 24.0), (65536, 192.0)]
    assert exponent(points) == pytest.approx(1.5), "short lengths do not count"
    assert exponent([*points, (262144, None)]) == pytest.approx(1.5)
    assert exponent(points[:2]) is None


def test_promises(monkeypatch):
    promised = [
        Faster("linear_scan", "chunked", "loop", "forward", 4096, 4),
        Faster("linear_scan", "chunked", "loop", "both", 4096, 11),
        Faster("linear_scan", "chunked", "loop", "both", 8192, 1),
        AsAccurate("linear_scan", "chunked", "loop"),
        Accurate("linear_scan", "chunked", 1e-8),
        Grows("linear_scan", "chunked", 4096, 16384, 5),
        Faster("short_conv", "chunked", "loop", "both", 4096, 1),
    ]
    monkeypatch.setattr(promises, "PROMISES", promised)
    outcomes = promises.outcomes(ROWS)
    assert [(each.promised, each.measured, each.met) for each in outcomes] == [
        (">= 4x", "5x", True),
        (">= 11x", "10x", False),
        (">= 1x", "", False),
        (">= 1x", "20x", True),
        ("<= 1e-08", "1e-07", False),
        ("<= 5x", "4.5x", True),
        ("<= 1.2", "1", True),
        ("<= 1.2", "1", True),
    ]
    assert promises.lengths_beside("linear_scan", [4096]) == {8192: {"chunked", "loop"}, 16384: {"chunked"}}
    table = report.promises_table(ROWS)
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == [
        *("met", "**not met**", "-", "met", "**not met**", "met", "met", "met")
    ]


def test_promises_name_operators_and_implementations():
    known = {op.__name__: op.impls for op in OPS}
    assert all(each.impl in known[each.operator] for each in promises.PROMISES)


def test_growth_that_was_not_measured_is_not_promised():
    """One implementation alone, however well it grows, says nothing about the others."""
    outcomes = promises.outcomes([*ROWS, row("native", 4096, 1, 2)])
    assert [each.measured for each in outcomes[-2:]] == ["", ""]


def test_table():
    table = report.operator_table("linear_scan", ROWS, Limits(triad=1e9, matmul=1e6))
    header, _, loop, chunked, *_, other = ([cell.strip() for cell in line.split("|")] for line in table.splitlines())
    assert header[1:3] == ["T", "implementation"]
    moved, operations = contenders.cases("linear_scan").work(T=4096, **contenders.cases("linear_scan").MEASURED)
    shares = [f"{100 * moved / 0.1 / 1e9:.0f}%", f"{100 * operations / 0.1 / 1e6:.0f}%"]
    assert loop[1:-1] == ["4096", "loop", "100", "100", "1000", "1000", "1", "1", *shares, "10", "2e-06"]
    assert chunked[7:9] == ["5", "10"]
    assert other[2] == r"scan of something else \*"
    assert len({len(line) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_work_is_of_the_size_of_the_inputs(op):
    """Every operator says what it has to move: about linear in T, and at least its largest input."""
    cases = contenders.cases(op.__name__)
    if not hasattr(cases, "work"):
        pytest.skip("no count of bytes and operations")
    (moved, operations), (moved_later, operations_later) = (cases.work(T=T, **cases.MEASURED) for T in (4096, 65536))
    inputs = [value for value in contenders.inputs(op.__name__, 64).values() if isinstance(value, torch.Tensor)]
    assert cases.work(T=64, **cases.MEASURED)[0] >= max(value.numel() for value in inputs) * 4
    assert 0 < math.log(moved_later / moved, 16) <= 1.2
    assert 0 < math.log(operations_later / operations, 16) <= 1.2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be had here")
def test_page_without_a_gpu_holds_no_figure(tmp_path, capsys):
    page = tmp_path / "gpu.md"
    assert main(["--device", "cuda", "--report", str(page)]) == 0
    assert "No GPU could be had" in page.read_text()
    assert "|" not in page.read_text()
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])


def test_unknown_operator(capsys):
    with pytest.raises(SystemExit):
        main(["linear_scam"])
    assert "no operator named linear_scam. Known: " in capsys.readouterr().err
