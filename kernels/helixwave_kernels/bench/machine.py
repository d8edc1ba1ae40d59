"""What this machine is, and the limits that every time is held against."""

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import NamedTuple

import torch

from helixwave_kernels.bench.timing import timed

PEERS = (
    "mambapy",
    "xlstm",
    "mlstm_kernels",
    "flash-linear-attention",
    "transformers",
    "triton",
    "mamba-ssm",
    "causal-conv1d",
)


class Limits(NamedTuple):
    """Bytes a second of a triad that runs from memory, float32 operations a second of a large matrix product."""

    triad: float
    matmul: float


def limits(device: str) -> Limits:
    """The best of five, in the time that the operators are compared in: cpu time, or the GPU's own."""
    size, side = (1 << 28, 8192) if device == "cuda" else (1 << 24, 2048)
    a, b, c = (torch.rand(size, device=device) for _ in range(3))
    triad = min(timed(lambda: torch.add(b, c, alpha=0.5, out=a), device).own for _ in range(5))
    x, y, z = (torch.rand(side, side, device=device) for _ in range(3))
    matmul = min(timed(lambda: torch.mm(x, y, out=z), device).own for _ in range(5))
    return Limits(3 * a.nbytes / triad * 1e3, 2 * side**3 / matmul * 1e3)


def description(device: str) -> dict[str, str]:
    """The machine by its properties, nothing that names it."""
    facts = {"processor": _processor(), "cores": str(_cores()), "threads used": str(torch.get_num_threads())}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts = {
            "device": properties.name,
            "device memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "compute capability": f"{properties.major}.{properties.minor}",
            "CUDA": str(torch.version.cuda),
        } | facts
    elif instructions := _instruction_set():
        facts["native code for"] = instructions
    return facts | {"Python": platform.python_version(), "torch": torch.__version__}


def versions() -> dict[str, str]:
    """The packages measured against that are installed."""
    found = {}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _instruction_set() -> str | None:
    if importlib.util.find_spec("helixwave_kernels.native") is None:
        return None
    native = importlib.import_module("helixwave_kernels.native")
    return str(native.instruction_set()) if hasattr(native, "instruction_set") else None
