"""What others offer for `linear_scan` with real decays, to measure against."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor

# the backward pass of the loop is quadratic in T
LONGEST = {"fla naive recurrent hgrn": 1024}


def peers() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    if find_spec("mambapy"):
        found["mambapy parallel scan"] = _mambapy_pscan
    if find_spec("fla"):
        found["fla naive recurrent hgrn"] = _fla_hgrn
    return found


def gpu_peers() -> dict[str, Callable[..., Any]]:
    return {"fla chunk hgrn": _fla_chunk_hgrn} if find_spec("fla") else {}


def _mambapy_pscan(x: Tensor, decay: Tensor) -> Tensor:
    """The scan of a state of size one per channel."""
    return importlib.import_module("mambapy.pscan").pscan(decay.unsqueeze(-1), x.unsqueeze(-1)).squeeze(-1)


def _fla_hgrn(x: Tensor, decay: Tensor) -> Tensor:
    return importlib.import_module("fla.ops.hgrn.naive").naive_recurrent_hgrn(x, decay.log())[0]


def _fla_chunk_hgrn(x: Tensor, decay: Tensor) -> Tensor:
    return importlib.import_module("fla.ops.hgrn").chunk_hgrn(x, decay.log())[0]
