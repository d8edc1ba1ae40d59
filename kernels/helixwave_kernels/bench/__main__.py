"""`python -m helixwave_kernels.bench`, see the package."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from helixwave_kernels import OPS
from helixwave_kernels.bench import machine, report
from helixwave_kernels.bench.measure import Row, lengths, measure
from helixwave_kernels.bench.promises import lengths_beside

NAMES = [op.__name__ for op in OPS]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; the exit code is 1 if an implementation of ours disagrees with its reference."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.operators) - set(NAMES):
        parser.error(f"no operator named {', '.join(sorted(unknown))}. Known: {', '.join(NAMES)}.")
    command = _command(sys.argv[1:] if argv is None else argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        if not arguments.report:
            parser.error("torch.cuda.is_available() is false: no GPU can be had here.")
        arguments.report.write_text(report.no_gpu_page(command))
        print(f"No GPU can be had here: {arguments.report} says so.")
        return 0
    torch.set_num_threads(arguments.threads)
    limits = machine.limits(arguments.device)
    rows: list[Row] = []
    for operator in arguments.operators or NAMES:
        measured = sorted(_rows(operator, arguments), key=lambda row: row.length)
        print(report.section(operator, measured, limits, arguments.device), flush=True)
        rows += measured
    if arguments.report:
        arguments.report.write_text(report.page(rows, limits, arguments.device, command))
    if arguments.json:
        figures = {"machine": machine.description(arguments.device), **limits._asdict()}
        figures["rows"] = [row._asdict() for row in rows]
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(row.wrong and row.kind == "ours" for row in rows))


def _rows(operator: str, arguments: argparse.Namespace) -> Iterator[Row]:
    yield from measure(operator, arguments.lengths, arguments.device)
    if arguments.report and arguments.device == "cpu":
        for T, names in lengths_beside(operator, arguments.lengths).items():
            yield from measure(operator, [T], arguments.device, names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helixwave_kernels.bench",
        description="Measure every implementation of the operators beside others' on the same inputs, in one run.",
    )
    parser.add_argument("operators", nargs="*", metavar="OP", help=f"{', '.join(NAMES)}; all if none is given")
    parser.add_argument("--lengths", type=lengths, default=[1024, 4096], help="T, default 1024,4096")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of native code, default 1")
    parser.add_argument("--report", type=Path, help="write a Markdown page with the promises, limits and all tables")
    parser.add_argument("--json", type=Path, help="write the rows")
    return parser


def _command(argv: Sequence[str]) -> str:
    """The call as it can be repeated anywhere: no folder of this machine."""
    parts = [Path(part).name if Path(part).is_absolute() else part for part in argv]
    return shlex.join(["python", "-m", "helixwave_kernels.bench", *parts])


if __name__ == "__main__":
    raise SystemExit(main())
