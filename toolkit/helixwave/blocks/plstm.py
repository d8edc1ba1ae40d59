"""pLSTM on sequences: a matrix memory whose transition mixes the parts of its state."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.headwise import Headwise
from helixwave.blocks.norms import HeadNorm
from helixwave.errors import InputError
from helixwave.lengths import valid_mask

PLSTMState = tuple[Tensor, Tensor]

# steps of a chunk: a power of two
CHUNK = 64


class PLSTM(nn.Module):
    """Matrix memory with source, transition and mark gates that can track states (pLSTM in one dimension).

    `C_t = T_t C_{t-1} + S (k_t v_t^T)`, `y_t = (q_t^T (M C_{t-1}) + (q_t k_t) D v_t) / sqrt(K)`, where C is `d_track`
    matrices. The transition T_t mixes them as the input says and never makes them grow, the source S writes to them,
    the mark M reads them as they were before, and D takes what is being written. A convolution stands before q, k and
    T, a norm over each head, a skip and a gate after y. Cost `O(T)`; state `d_inner^2 / n_head + (d_conv - 1) d_inner`,
    where d_inner is `expand d_model` rounded up to a multiple of 64. Source: Pöppel et al., "pLSTM: parallelizable
    Linear Source Transition Mark networks", 2025, section 3, in the block of the published code.

    Ours: the exact form in chunks for any length, and `gate_spread`. With one value for all gates, as published, the
    parts of the state are alike and get the same gradients, so that they stay alike for ever.

    Args:
        n_head: heads, each with a memory of its own.
        d_track: parts of a state, of a value and of an output; 1: no state tracking.
        d_conv: width of the causal convolution.
        expand: inner channels per model channel.
        qkv_block: channels that are mixed by the maps to q, k and v.
        input_gates: let source, mark and direct depend on the input; as published only the transition does.
        gate_spread: standard deviation, at the start, of the logits of source, mark and direct around -5.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int = 4,
        d_track: Literal[1, 2, 4] = 4,
        d_conv: int = 4,
        expand: float = 2.0,
        qkv_block: int = 4,
        input_gates: bool = False,
        gate_spread: float = 1.0,
    ):
        super().__init__()
        d_inner = 64 * math.ceil(expand * d_model / 64)
        if d_track not in (1, 2, 4):
            raise InputError(f"d_track is {d_track}, expected 1, 2 or 4")
        if n_head < 1 or d_inner % (n_head * d_track):
            came = f"n_head is {n_head} and d_track {d_track}"
            raise InputError(f"{came}, expected their product to divide the {d_inner} inner channels")
        if qkv_block < 1 or d_inner % qkv_block:
            raise InputError(f"qkv_block is {qkv_block}, expected a divisor of the {d_inner} inner channels")
        self.n_head, self.d_track = n_head, d_track
        self.up_proj = nn.Linear(d_model, 2 * d_inner)
        self.conv1d = CausalConv(d_inner, d_conv)
        n_part, std = d_inner // qkv_block, math.sqrt(2 / (5 * qkv_block))
        self.query = Headwise(d_inner, n_part, std=std, bias=True)
        self.key = Headwise(d_inner, n_part, std=std, bias=True)
        self.value = Headwise(d_inner, n_part, std=std, bias=True)
        self.source = Gate(d_inner, n_head, d_track, input_gates, gate_spread)
        self.transition = Transition(d_inner, n_head, d_track)
        self.mark = Gate(d_inner, n_head, d_track, input_gates, gate_spread)
        self.direct = Gate(d_inner, n_head, d_track, input_gates, gate_spread)
        self.norm = HeadNorm(n_head, d_inner // n_head, centred=False)
        self.skip = nn.Parameter(torch.ones(d_inner))
        self.down_proj = nn.Linear(d_inner, d_model)
        for linear in (self.up_proj, self.down_proj):
            nn.init.normal_(linear.weight, std=math.sqrt(2 / (5 * linear.in_features)))
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, state: PLSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, PLSTMState]:  # [B, T, D] -> [B, T, D]
        conv_state, C = state or (None, None)
        inputs, z = self.up_proj(x).chunk(2, dim=-1)
        u, conv_end = self.conv1d(inputs, conv_state, lengths)
        q, k = (layer(u).unflatten(-1, (self.n_head, -1)).float() for layer in (self.query, self.key))
        v = self.value(inputs).unflatten(-1, (self.n_head, -1, self.d_track)).float()
        padded = None if lengths is None else ~valid_mask(lengths, x.shape[1])[..., None, None]
        if padded is not None:
            k, v = k.masked_fill(padded, 0), v.masked_fill(padded[..., None], 0)
        # in float32 even under autocast: products of many transitions
        with torch.autocast(x.device.type, enabled=False):
            q = q * q.shape[-1] ** -0.5
            read, C = transition_scan(q, k, self.source(u, v), self.transition(u, padded), C)
            y = self.mark(u, read) + (q * k).sum(-1)[..., None, None] * self.direct(u, v)
        y = self.norm(y.flatten(-2)).to(u.dtype) + self.skip * u
        return self.down_proj(y * F.silu(z)), (conv_end, C)


def transition_scan(
    q: Tensor, k: Tensor, w: Tensor, transition: Tensor, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`C_t = C_{t-1} transition_t^T + k_t w_t`, read before each step: `y_t = q_t^T C_{t-1}`.

    Within a chunk, steps are joined to pairs, pairs to fours and so on. On the way up the second half's transitions act
    on what the first half has written, and the second half's queries read that. On the way down the first half's
    transitions act on what the second half reads from before. Exact; cost `O(T)`.

    Args:
        q: queries `[B, T, H, K]`.
        k: keys `[B, T, H, K]`.
        w: what is written `[B, T, H, V, J]`.
        transition: matrices `[B, T, H, J, J]`.
        initial_state: `[B, H, K, V, J]`; zeros if None.

    Returns:
        y `[B, T, H, V, J]` and the last state.
    """
    B, T, H, V, J = w.shape
    C = w.new_zeros(B, H, q.shape[-1], V, J) if initial_state is None else initial_state
    if T == 1 and initial_state is not None:
        y = torch.einsum("bhk,bhkvj->bhvj", q[:, 0], C)
        written = torch.einsum("bhk,bhvj->bhkvj", k[:, 0], w[:, 0])
        return y.unsqueeze(1), torch.einsum("bhkvj,bhij->bhkvi", C, transition[:, 0]) + written
    # at least a pair, so that a single first step gives every gate its gradient, zero
    length = min(CHUNK, 1 << max(T - 1, 1).bit_length())
    q, k, w = (_by_chunk(x, length) for x in (q, k, w))
    scores = q @ k.mT
    levels = []
    P = _by_chunk(transition, length, identity=True)
    for level in range(length.bit_length() - 1):
        half = 1 << level
        first, second = w.reshape(-1, 2, half, V, J).unbind(1)
        P_first, P_second = P.reshape(-1, 2, J, J).unbind(1)
        within = _second_by_first(scores, half) @ first.flatten(2)
        levels.append((P_first, within.view_as(first)))
        w = torch.stack([_apply(P_second, first), second], dim=1)
        P = P_second @ P_first
    w = w.reshape(-1, length, V * J)
    written = (k.mT @ w).unflatten(0, (-1, B * H)).unflatten(-1, (V, J))
    before, C = _carry(C.flatten(0, 1), written, P.unflatten(0, (-1, B * H)))
    y = (q @ before.flatten(0, 1).flatten(2)).view(-1, length, V, J)
    for P_first, within in reversed(levels):
        first, second = y.reshape(-1, 2, *within.shape[1:]).unbind(1)
        y = torch.stack([first, _apply(P_first, second) + within], dim=1)
    y = y.view(-1, B, H, length, V, J).permute(1, 0, 3, 2, 4, 5).flatten(1, 2)
    return y[:, :T], C.unflatten(0, (B, H))


def _carry(C: Tensor, written: Tensor, transition: Tensor) -> tuple[Tensor, Tensor]:
    """From chunk to chunk: the states before each, `[chunks, B H, K, V, J]`, and the last one."""
    before = []
    for written_c, transition_c in zip(written.unbind(0), transition.unbind(0), strict=True):
        before.append(C)
        C = _apply(transition_c, C) + written_c
    return torch.stack(before), C


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix `[n, J, J]` on the last axis of `[n, ..., J]`."""
    return (x.flatten(1, -2) @ matrix.mT).view(x.shape)


def _second_by_first(scores: Tensor, half: int) -> Tensor:
    """Of each pair of halves, the scores of the second's queries with the first's keys: `[pairs, half, half]`."""
    n = scores.shape[-1] // (2 * half)
    blocks = scores.view(-1, n, 2, half, n, 2, half)[:, :, 1, :, :, 0]
    return blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1).reshape(-1, half, half)


def _by_chunk(x: Tensor, length: int, *, identity: bool = False) -> Tensor:
    """`[B, T, H, ...]` -> `[chunks B H, length, ...]`; steps behind the end are zero, or the identity."""
    missing = -x.shape[1] % length
    if missing:
        shape = (x.shape[0], missing, *x.shape[2:])
        steps = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(shape) if identity else x.new_zeros(shape)
        x = torch.cat([x, steps], dim=1)
    return x.unflatten(1, (-1, length)).transpose(0, 1).transpose(2, 3).flatten(0, 2)


class Gate(nn.Module):
    """Source, mark or direct: a matrix with entries in (0, 1) that acts on the parts of a value, `[..., J]`."""

    def __init__(self, channels: int, n_head: int, d_track: int, from_input: bool, spread: float):
        super().__init__()
        shape = (n_head, d_track, d_track)
        self.bias = nn.Parameter(-5 + spread * torch.randn(shape))
        self.weight = nn.Parameter(torch.zeros(*shape, channels)) if from_input else None

    def forward(self, u: Tensor, x: Tensor) -> Tensor:  # [B, T, H, V, J]
        logits = self.bias.float()
        if self.weight is not None:
            logits = logits + torch.einsum("btc,hijc->bthij", u.float(), self.weight.float())
            return x @ logits.sigmoid().mT
        return torch.einsum("bthvj,hij->bthvi", x, logits.sigmoid())


class Transition(nn.Module):
    """`T_t = U_t diag(lambda_t) V_t` with U and V orthogonal and lambda in (-1, 1), so that products never grow.

    U and V are exponentials of skew matrices, lambda is `tanh(5 logit)`. At first T is `tanh(5)` times the identity.
    """

    products: Tensor
    parts: Tensor

    def __init__(self, channels: int, n_head: int, d_track: int):
        super().__init__()
        self.n_head, self.d_track = n_head, d_track
        self.n_angle = d_track * (d_track - 1) // 2
        self.proj = nn.Linear(channels, n_head * (2 * self.n_angle + d_track))
        nn.init.zeros_(self.proj.weight)
        with torch.no_grad():
            logits = torch.cat([torch.zeros(2 * self.n_angle), torch.ones(d_track)])
            self.proj.bias.copy_(logits.repeat(n_head))
        products = _quaternion_products()
        self.register_buffer("products", products.flatten(2), persistent=False)
        row, column = torch.tril_indices(d_track, d_track, -1)
        self.register_buffer("parts", products[:, 1:, row, column].flatten(0, 1).T / 2, persistent=False)

    def forward(self, u: Tensor, padded: Tensor | None) -> Tensor:  # [B, T, C] -> [B, T, H, J, J]
        logits = F.linear(u.float(), self.proj.weight.float(), self.proj.bias.float())
        angles, eigenvalues = logits.unflatten(-1, (self.n_head, -1)).split([2 * self.n_angle, self.d_track], dim=-1)
        eigenvalues = torch.tanh(5 * eigenvalues)
        if padded is not None:
            angles, eigenvalues = angles.masked_fill(padded, 0), eigenvalues.masked_fill(padded, 1)
        U, V = self._orthogonal(angles.unflatten(-1, (2, self.n_angle))).unbind(-3)
        return (U * eigenvalues[..., None, :]) @ V

    def _orthogonal(self, angles: Tensor) -> Tensor:
        """The exponential of the skew matrix with these entries below the diagonal, `[..., n_angle]` -> `[..., J, J]`.

        Up to four dimensions a rotation is a product with a unit quaternion from the left and one from the right, whose
        logarithms are linear in the skew matrix: as orthogonal as rounding allows, whatever the angles.
        """
        logarithms = (angles @ self.parts).unflatten(-1, (2, 3))
        # never zero, where a norm has no gradient
        size = (logarithms.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        quaternions = torch.cat([size.cos(), logarithms * (size.sin() / size)], dim=-1).unbind(-2)
        left, right = (
            (q @ products).unflatten(-1, (4, 4)) for q, products in zip(quaternions, self.products, strict=True)
        )
        return left[..., : self.d_track, :] @ right[..., : self.d_track]


def _quaternion_products() -> Tensor:
    """The matrices of products with 1, i, j and k from the left and from the right, `[2, 4, 4, 4]`."""
    sign = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0], [1.0, 1.0, -1.0, -1.0]])
    unit, other = torch.arange(4)[:, None], torch.arange(4)
    products = torch.zeros(2, 4, 4, 4)
    products[0, unit, unit ^ other, other] = sign
    products[1, unit, unit ^ other, other] = sign.T
    return products
