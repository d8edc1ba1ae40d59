"""`short_conv` as one multiply-add over the whole sequence for each tap."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
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
    if x.shape[1] == 1:  # nothing to gain
        options = {"activation": activation, "initial_state": initial_state, "reset": reset}
        return short_conv.impls["reference"](x, weight, bias, **options)
    dtype = compute_dtype(x)
    (B, T, D), W = x.shape, weight.shape[1]
    before = x.new_zeros(B, W - 1, D, dtype=dtype) if initial_state is None else initial_state.to(dtype).mT
    inputs = torch.cat([before, x.to(dtype)], dim=1)
    # the document of each input; what came before the call belongs to document 0
    document = None if reset is None else F.pad(reset.long().cumsum(1), (W - 1, 0)).unsqueeze(-1)
    y = _convolve(inputs, weight.to(dtype).mT.contiguous(), document)
    state = inputs[:, T:]
    if document is not None:
        state = state.masked_fill(document[:, T:] != document[:, -1:], 0)
    return activated(y, bias, activation).to(x.dtype), state.mT.contiguous()


# a custom operator, because automatic differentiation of the slices would copy the sequence several times for each tap
@torch.library.custom_op("helixwave::short_conv_chunked", mutates_args=())
def _convolve(inputs: Tensor, weight: Tensor, document: Tensor | None) -> Tensor:
    """Outputs `[B, T, D]` of inputs `[B, W-1+T, D]`, weight `[W, D]` and document `[B, W-1+T, 1]`."""
    W = len(weight)
    y = memory.zeros_like(inputs[:, W - 1 :])
    for w, weight_w in enumerate(weight):
        y.addcmul_(_visible(inputs[:, w : w + y.shape[1]], document, w, W), weight_w)
    return y


@torch.library.custom_op("helixwave::short_conv_chunked_backward", mutates_args=())
def _convolve_backward(grad: Tensor, inputs: Tensor, weight: Tensor, document: Tensor | None) -> tuple[Tensor, Tensor]:
    T, W = grad.shape[1], len(weight)
    inputs_grad, weight_grad = memory.zeros_like(inputs), torch.empty_like(weight)
    product = memory.empty_like(grad)
    for w, weight_w in enumerate(weight):
        grad_w = _visible(grad, document, w, W)
        inputs_grad[:, w : w + T].addcmul_(grad_w, weight_w)
        torch.sum(torch.mul(grad_w, inputs[:, w : w + T], out=product), (0, 1), out=weight_grad[w])
    return inputs_grad, weight_grad


def _visible(tensor: Tensor, document: Tensor | None, w: int, W: int) -> Tensor:
    """Zeros in `[B, T, D]` where tap w would reach into another document."""
    if document is None:
        return tensor
    return tensor.masked_fill(document[:, w : w + tensor.shape[1]] != document[:, W - 1 :], 0)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return *_convolve_backward(grad.contiguous(), *ctx.saved_tensors), None


_convolve.register_autograd(_backward, setup_context=_setup_context)


@_convolve.register_fake
def _(inputs: Tensor, weight: Tensor, document: Tensor | None) -> Tensor:
    return inputs.new_empty(inputs.shape[0], inputs.shape[1] - weight.shape[0] + 1, inputs.shape[2])


@_convolve_backward.register_fake
def _(grad: Tensor, inputs: Tensor, weight: Tensor, document: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(inputs), torch.empty_like(weight)
