"""Contenders side by side in one process, on one thread: what each of them took, and a page about it."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helixwave_kernels.bench import machine
from helixwave_kernels.bench.report import markdown
from helixwave_kernels.bench.timing import give_back_memory, timed


def best_in_turns(contenders: Mapping[str, Callable[[], Any]], *, turns: int, least: float = 0.0) -> dict[str, float]:
    """Milliseconds of cpu time of the best run of each.

    Args:
        turns: in which contenders run, one after the other.
        least: milliseconds that a contender runs in a turn, again and again; at least once.
    """
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(turns):
        for name, run in contenders.items():
            give_back_memory()
            own = spent = timed(run, "cpu").own
            while spent < least:
                spent += (again := timed(run, "cpu").own)
                own = min(own, again)
            best[name] = min(best[name], own)
    return best


def page(title: str, docstring: str | None, command: str, tables: str, *, setting: str = "") -> str:
    """Markdown: what was measured and how, on which machine, and the tables.

    Args:
        docstring: of the module that measures; its first paragraph is left out.
        command: with which all figures can be had again.
        tables: with what explains them.
        setting: one or more sentences more about what was measured.
    """
    facts = [[name, value] for name, value in machine.description("cpu").items()]
    return "\n".join(
        [
            f"# {title}\n",
            f"{(docstring or '').split(chr(10), 2)[2].strip()}\n",
            f"{setting} Every figure comes from one run of\n\n    {command}\n".lstrip(),
            markdown(["machine", ""], facts),
            tables,
        ]
    )


def parser(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Of `python -m MODULE`, with the option `--report`."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=(docstring or "").split("\n\n")[0])
    made.add_argument("--report", type=_page, help="write a Markdown page")
    return made


def _page(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        # said before anything is measured
        raise argparse.ArgumentTypeError(f"{path}: expected a file in a folder that is there")
    return path


def publish(text: str, report: Path | None) -> None:
    """Print a page, and write it if that is asked for."""
    print(text)
    if report:
        report.write_text(text)
