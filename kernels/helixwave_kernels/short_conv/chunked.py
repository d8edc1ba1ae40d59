"""`short_conv` as one pass over the whole sequence for each tap."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.shapes import compute_dtype
from helixwave_kernels.short_conv.reference import activated, short_conv


@short_conv.implementation("chunked")
def short_conv_chunked(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x)
    (B, T, D), W = x.shape, weight.shape[1]
    before = x.new_zeros(B, W - 1, D, dtype=dtype) if initial_state is None else initial_state.to(dtype).mT
    inputs = torch.cat([before, x.to(dtype)], dim=1)
    # the document of each input; what came before the call belongs to document 0
    document = None if reset is None else F.pad(reset.long().cumsum(1), (W - 1, 0)).unsqueeze(-1)
    y = torch.zeros_like(inputs[:, W - 1 :])
    for w, weight_w in enumerate(weight.to(dtype).unbind(1)):
        taps = inputs[:, w : w + T]
        if document is not None:
            taps = taps.masked_fill(document[:, w : w + T] != document[:, W - 1 :], 0)
        y = torch.addcmul(y, weight_w, taps)
    state = inputs[:, T:]
    if document is not None:
        state = state.masked_fill(document[:, T:] != document[:, -1:], 0)
    return activated(y, bias, activation).to(x.dtype), state.mT.contiguous()
