"""What others offer for `mlstm`, to measure against."""

import importlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import Tensor

# the parallel form holds several T x T matrices for each head
LONGEST = {"xlstm chunkwise": 16384, "xlstm parallel": 2048}


def peers() -> dict[str, Callable[..., Any]]:
    if not find_spec("xlstm"):
        return {}
    return {"xlstm chunkwise": xlstm_chunkwise, "xlstm parallel": _xlstm_parallel}


def unlike() -> dict[str, Callable[..., Any]]:
    """Its backward pass leaves out what goes through the normaliser, so that its gradients are others."""
    return {"mlstm_kernels chunkwise": _mlstm_kernels} if find_spec("mlstm_kernels") else {}


def xlstm_chunkwise(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """The package's chunkwise form with its own length of a chunk, 64."""
    form = importlib.import_module("xlstm.blocks.mlstm.backends").chunkwise_simple
    return _heads_first(partial(form, chunk_size=min(64, q.shape[1])), q, k, v, i, f)


def _xlstm_parallel(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """What its blocks use."""
    form = importlib.import_module("xlstm.blocks.mlstm.backends").parallel_stabilized_simple
    return _heads_first(form, q, k, v, i.unsqueeze(-1), f.unsqueeze(-1))


def _mlstm_kernels(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    name = "chunkwise--triton_xl_chunk" if q.is_cuda else "chunkwise--native_custbw"
    form = importlib.import_module("mlstm_kernels.torch").get_mlstm_kernel(name)
    return _heads_first(partial(form, chunk_size=min(64, q.shape[1])), q, k, v, i, f)


def _heads_first(form: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    return form(*(x.transpose(1, 2).contiguous() for x in inputs)).transpose(1, 2)
