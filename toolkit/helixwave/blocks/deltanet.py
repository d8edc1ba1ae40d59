"""The delta rule: DeltaNet, Gated DeltaNet and DeltaProduct."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from helixwave_kernels import delta_rule
from helixwave_kernels.shapes import compute_dtype
from torch import Tensor, nn

from helixwave.blocks.attention import head_width
from helixwave.blocks.causal_conv import CausalConv
from helixwave.blocks.norms import GatedNorm, HeadNorm
from helixwave.errors import InputError
from helixwave.initialisers import inverse_softplus, log_uniform
from helixwave.lengths import valid_mask

DeltaState = tuple[Tensor, Tensor, Tensor, Tensor]

# so that heads are 256 wide at the published width of 2048
_PUBLISHED_HEAD = 256


class DeltaRule(nn.Module):
    """What the blocks of this family have in common; parameters have the published names.

    Queries, keys and values pass a short convolution and silu, queries and keys then get length 1. Each token writes
    `n_householder` times.
    """

    causal = True

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int,
        expand_k: float,
        expand_v: float,
        d_conv: int,
        n_householder: int,
        negative_eigenvalues: bool,
        forget_gate: bool,
        output_gate: bool,
    ):
        super().__init__()
        if n_householder < 1:
            raise InputError(f"n_householder is {n_householder}, expected at least 1 write per token")
        d_key = n_head * head_width("the keys", expand_k * d_model, n_head)
        d_value = n_head * head_width("the values", expand_v * d_model, n_head)
        self.n_head, self.n_householder = n_head, n_householder
        self.beta_max = 2.0 if negative_eigenvalues else 1.0
        self.q_proj = nn.Linear(d_model, d_key, bias=False)
        self.k_proj = nn.Linear(d_model, d_key * n_householder, bias=False)
        self.v_proj = nn.Linear(d_model, d_value * n_householder, bias=False)
        self.b_proj = nn.Linear(d_model, n_head * n_householder, bias=False)
        self.q_conv1d = CausalConv(d_key, d_conv, bias=False, activation="silu")
        self.k_conv1d = CausalConv(d_key * n_householder, d_conv, bias=False, activation="silu")
        self.v_conv1d = CausalConv(d_value * n_householder, d_conv, bias=False, activation="silu")
        self.a_proj = nn.Linear(d_model, n_head, bias=False) if forget_gate else None
        if forget_gate:
            # uniform in (0, 16], whose logarithm is finite
            self.A_log = nn.Parameter((16 * (1 - torch.rand(n_head))).log())
            self.dt_bias = nn.Parameter(inverse_softplus(log_uniform(n_head, low=1e-3, high=0.1).exp()))
            self.optimisation = {"A_log": {"weight_decay": 0.0}, "dt_bias": {"weight_decay": 0.0}}
        self.g_proj = nn.Linear(d_model, d_value, bias=False) if output_gate else None
        self.o_norm = (
            GatedNorm(d_value, n_group=n_head, gate_first=False)
            if output_gate
            else HeadNorm(n_head, d_value // n_head, centred=False)
        )
        self.o_proj = nn.Linear(d_value, d_model, bias=False)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, DeltaState]:  # [B, T, D] -> [B, T, D]
        starts: Sequence[Tensor | None] = state or (None,) * 4
        padded = None if lengths is None else ~valid_mask(lengths, x.shape[1])[..., None]
        x = x if padded is None else x.masked_fill(padded, 0)
        q, q_end = self.q_conv1d(self.q_proj(x), starts[0], lengths)
        k, k_end = self.k_conv1d(self.k_proj(x), starts[1], lengths)
        v, v_end = self.v_conv1d(self.v_proj(x), starts[2], lengths)
        beta, log_decay = self._rates(x, padded)
        y, S = delta_rule(
            unit(q.unflatten(-1, (self.n_head, -1))),
            unit(self._writes(k)),
            self._writes(v),
            self._writes(beta).squeeze(-1),
            log_decay,
            n_householder=self.n_householder,
            initial_state=starts[3],
        )
        y = self.o_norm(y) if self.g_proj is None else self.o_norm(y.flatten(-2), self.g_proj(x))
        return self.o_proj(y.to(x.dtype)), (q_end, k_end, v_end, S)

    def _rates(self, x: Tensor, padded: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Step sizes `[B, T, n H]` and log decays `[B, T, H]`; a padded step leaves the state as it is."""
        beta = self.b_proj(x).float().sigmoid() * self.beta_max
        beta = beta if padded is None else beta.masked_fill(padded, 0)
        if self.a_proj is None:
            return beta, None
        log_decay = -self.A_log.float().exp() * F.softplus(self.a_proj(x).float() + self.dt_bias.float())
        return beta, log_decay if padded is None else log_decay.masked_fill(padded, 0)

    def _writes(self, rows: Tensor) -> Tensor:
        """The writes of a token one after the other: `[B, T, n H P]` -> `[B, T n, H, P]`."""
        return rows.unflatten(-1, (self.n_householder, self.n_head, -1)).flatten(1, 2)


class DeltaNet(DeltaRule):
    """Linear attention that replaces what it recalls for a key (DeltaNet).

    `S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T`, `y_t = W norm(q_t S_t / sqrt(K))` for each head, with
    short convolutions on q, k and v. Cost `O(T)`, state `expand_k expand_v d_model^2 / n_head`. Sources: Schlag et al.,
    "Linear Transformers Are Secretly Fast Weight Programmers", 2021, section 4; Yang et al., "Parallelizing Linear
    Transformers with the Delta Rule over Sequence Length", 2024, section 3.

    Args:
        n_head: heads.
        expand_k, expand_v: channels of the keys and the values per model channel.
        d_conv: width of the causal convolutions.
        negative_eigenvalues: beta up to 2, so that the eigenvalue `1 - beta` of a step lies in (-1, 1) and a state can
            follow changes of sign, as parity asks for. Source: Grazzi et al., "Unlocking State-Tracking in Linear RNNs
            Through Negative Eigenvalues", 2024.
        output_gate: `norm(..) silu(W_g x)` before the last projection.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int = 4,
        expand_k: float = 1.0,
        expand_v: float = 1.0,
        d_conv: int = 4,
        negative_eigenvalues: bool = False,
        output_gate: bool = False,
    ):
        super().__init__(
            d_model,
            n_head=n_head,
            expand_k=expand_k,
            expand_v=expand_v,
            d_conv=d_conv,
            n_householder=1,
            negative_eigenvalues=negative_eigenvalues,
            forget_gate=False,
            output_gate=output_gate,
        )


class GatedDeltaNet(DeltaRule):
    """DeltaNet with a memory that also fades at a rate that depends on the input (Gated DeltaNet).

    `S_t = a_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T`, `a_t = exp(-exp(A_log) softplus(W_a x_t + dt_bias))`,
    `y_t = W (norm(q_t S_t / sqrt(K)) silu(W_g x_t))` for each head. Cost `O(T)`, state
    `expand_k expand_v d_model^2 / n_head`. Source: Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta
    Rule", 2024, section 3.

    Args:
        n_head: heads; None: as many of 256 channels as published, or 3 where they do not come out even.
        expand_k, expand_v: channels of the keys and the values per model channel; the published ratios.
        d_conv: width of the causal convolutions.
        negative_eigenvalues: beta up to 2, see DeltaNet.
        output_gate: the factor `silu(W_g x_t)`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_head: int | None = None,
        expand_k: float = 0.75,
        expand_v: float = 1.5,
        d_conv: int = 4,
        negative_eigenvalues: bool = False,
        output_gate: bool = True,
    ):
        super().__init__(
            d_model,
            n_head=_published_heads(expand_k * d_model) if n_head is None else n_head,
            expand_k=expand_k,
            expand_v=expand_v,
            d_conv=d_conv,
            n_householder=1,
            negative_eigenvalues=negative_eigenvalues,
            forget_gate=True,
            output_gate=output_gate,
        )


class DeltaProduct(DeltaRule):
    """DeltaNet with several writes per token: its transition is a product of Householder matrices (DeltaProduct).

    `S <- (I - beta k k^T) S + beta k v^T` for each of the n keys of a token, then
    `y_t = W (norm(q_t S_t / sqrt(K)) silu(W_g x_t))` for each head. Two reflections are
    a rotation, more of them any orthogonal matrix that leaves K - n directions alone. Cost `O(n T)`, state
    `expand_k expand_v d_model^2 / n_head`. Source: Siems et al., "DeltaProduct: Improving State-Tracking in Linear RNNs
    via Householder Products", 2025, section 3.

    Args:
        n_householder: n, writes per token.
        n_head: heads; None: as many of 256 channels as published, or 3 where they do not come out even.
        expand_k, expand_v: channels of the keys and the values per model channel; the published ratios.
        d_conv: width of the causal convolutions.
        negative_eigenvalues: beta up to 2, as published; without it no step reflects.
        forget_gate: the state fades before the first write of a token (Gated DeltaProduct), see GatedDeltaNet.
        output_gate: the factor `silu(W_g x_t)`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_householder: int = 2,
        n_head: int | None = None,
        expand_k: float = 0.75,
        expand_v: float = 1.5,
        d_conv: int = 4,
        negative_eigenvalues: bool = True,
        forget_gate: bool = False,
        output_gate: bool = True,
    ):
        super().__init__(
            d_model,
            n_head=_published_heads(expand_k * d_model) if n_head is None else n_head,
            expand_k=expand_k,
            expand_v=expand_v,
            d_conv=d_conv,
            n_householder=n_householder,
            negative_eigenvalues=negative_eigenvalues,
            forget_gate=forget_gate,
            output_gate=output_gate,
        )


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1 in float32 or wider; a zero stays zero."""
    x = x.to(compute_dtype(x))
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _published_heads(d_key: float) -> int:
    return 3 if d_key % _PUBLISHED_HEAD else round(d_key) // _PUBLISHED_HEAD
