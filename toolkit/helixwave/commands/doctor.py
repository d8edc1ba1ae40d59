"""`helixwave doctor`: which implementations of the operators run on this machine, and why the others do not."""

import importlib
import importlib.util
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def doctor() -> None:
    """Say which implementations of the operators run on this machine, and why the others do not.

    Example: helixwave doctor
    """
    console = Console(highlight=False)
    for rows in (_machine(), _extras()):
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        console.print()
    console.print(_operators())


def _machine() -> list[tuple[str, str]]:
    import torch
    from helixwave_kernels import native

    why_not = native.reason()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows = [
        ("helixwave", f"{version('helixwave')}, Python {platform.python_version()}, {platform.system()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores"),
        ("native kernels", f"no: {why_not}" if why_not else f"yes, for {native.instruction_set()}"),
        ("GPU", ", ".join(gpus) or f"no: {_why_no_gpu()}"),
        ("triton", _version("triton") or "no: not installed"),
    ]
    return rows + [(name, value) for name, value in sorted(os.environ.items()) if name.startswith("HELIXWAVE_")]


def _why_no_gpu() -> str:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "torch was built for CPUs only"
    return "torch finds no device or no driver for it"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> list[tuple[str, str]]:
    """Each extra that users install, with what of it is missing."""
    needed: dict[str, list[str]] = {}
    for line in requires("helixwave") or []:
        requirement, _, mark = line.partition("; extra == ")
        package = re.split(r"[\s<>=!~\[;]", requirement)[0]
        if mark and mark.strip("\"'") not in {"all", "dev", "bench"}:
            needed.setdefault(mark.strip("\"'"), []).append(package)
    rows = []
    for extra, packages in needed.items():
        missing = ", ".join(package for package in packages if _version(package) is None)
        rows.append((extra, f"no: {missing} not installed, run pip install 'helixwave[{extra}]'" if missing else "yes"))
    return rows


def _operators() -> Table:
    from helixwave_kernels import OPS

    names = list(dict.fromkeys(name for op in OPS for name in op.impls))
    table = Table(box=None, pad_edge=False)
    for column in ("operator", *names):
        table.add_column(column, no_wrap=column == "operator", style="bold" if column == "operator" else None)
    for op in OPS:
        cells = [_cell(op, name) if name in op.impls else "" for name in names]
        table.add_row(*map(escape, (op.__name__, *cells)))
    return table


def _cell(op: Any, implementation: str) -> str:
    """The devices that an implementation runs on, or why it runs on none."""
    import torch
    from torch.utils._pytree import tree_map

    cases = importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")
    refusals = {}
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        inputs = tree_map(
            lambda value, device=device: value.to(device) if isinstance(value, torch.Tensor) else value,
            cases.random_inputs(T=2),
        )
        refusals[device] = op.refusal(implementation, **inputs)
    if runs := [device for device, refusal in refusals.items() if refusal is None]:
        return ", ".join(runs)
    wants_gpu = set(refusals) == {"cpu"} and str(refusals["cpu"]).endswith("is on cpu")
    return "no GPU" if wants_gpu else f"no: {refusals[device]}"
