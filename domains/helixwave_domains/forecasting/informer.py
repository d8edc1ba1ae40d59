"""Informer: ProbSparse attention, distilling, and all steps of the forecast in one pass.

Source: Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", 2021.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from torch import Tensor, nn

from helixwave_domains.forecasting.informer_embedding import StepEmbedding, TimeEmbedding
from helixwave_domains.forecasting.prob_attention import ProbAttention

FORMS: dict[str, dict[str, Any]] = {
    "informer2020": {
        "cross_attention": "full",
        "mixed_heads": "decoder",
        "distil_padding": 1,
        "embedding_bias": True,
    },
    "ltsf": {
        "cross_attention": "prob",
        "mixed_heads": "all",
        "distil_padding": 2,
        "embedding_bias": False,
    },
}
"""What differs between the published forms: the authors' own, and the one of the LTSF and Autoformer benchmarks."""


class Informer(nn.Module):
    """Encoder and decoder with ProbSparse attention, `[B, L, C] -> [B, H, C]`.

    The encoder halves the sequence between its layers. The decoder reads the last `label` known steps followed by zeros
    and turns the zeros into the forecast. Draws of keys in evaluation are fixed, see `ProbAttention`.

    Args:
        context: steps read, L.
        horizon: steps forecast, H.
        n_channel: C.
        n_mark: columns of the time features, and of any other variables known for the context and the horizon.
        time_embedding: what is made of them, see `StepEmbedding`.
        label: known steps that the decoder reads; None: half the context.
        encoders: layers of each encoder; encoder i reads the last `L / 2^i` steps, and what they leave is joined in
            time. `(2,)` is Informer, `(3, 2, 1)` the published InformerStack.
        factor: of ProbSparse attention.
        dropout: on embeddings, on branches of layers, and on the weights of full attention.
        distil: whether the encoder halves the sequence.
        cross_attention: of the decoder on the encoder's output.
        mixed_heads: where heads and steps of attention's output are mixed before its last map: in the self-attention
            of the `decoder`, in `all` ProbSparse attention, or `nowhere`.
        distil_padding: circular padding of the convolutions of width 3 that distil.
        embedding_bias: whether embeddings have a bias.

    Raises:
        InputError: sizes that do not fit together.
    """

    def __init__(
        self,
        context: int,
        horizon: int,
        n_channel: int,
        *,
        n_mark: int = 0,
        time_embedding: TimeEmbedding = "features",
        label: int | None = None,
        d_model: int = 512,
        n_head: int = 8,
        encoders: Sequence[int] = (2,),
        n_decoder_layer: int = 1,
        d_ff: int = 2048,
        factor: int = 5,
        dropout: float = 0.05,
        distil: bool = True,
        cross_attention: Literal["full", "prob"] = "full",
        mixed_heads: Literal["decoder", "all", "nowhere"] = "decoder",
        distil_padding: Literal[1, 2] = 1,
        embedding_bias: bool = True,
    ):
        super().__init__()
        self.context, self.horizon = context, horizon
        self.label = context // 2 if label is None else label
        _check_sizes(context, self.label, d_model, n_head, encoders, distil)
        seeds = count()

        def embedding(length: int) -> StepEmbedding:
            marks: dict[str, Any] = {"n_mark": n_mark, "time_embedding": time_embedding}
            return StepEmbedding(length, n_channel, d_model, **marks, bias=embedding_bias, dropout=dropout)

        def prob(mixed: bool, causal: bool = False) -> MultiHead:
            return MultiHead(ProbAttention(factor, causal=causal, seed=next(seeds)), d_model, n_head, mixed=mixed)

        def cross() -> MultiHead:
            if cross_attention == "prob":
                return prob(mixed=mixed_heads == "all")
            return MultiHead(FullAttention(dropout), d_model, n_head)

        self.encoder_embedding = embedding(context)
        self.decoder_embedding = embedding(self.label + horizon)
        self.encoders = nn.ModuleList(
            Encoder(
                [EncoderLayer(prob(mixed_heads == "all"), d_model, d_ff, dropout) for _ in range(n_layer)],
                [Distil(d_model, distil_padding) for _ in range(n_layer - 1)] if distil else [],
            )
            for n_layer in encoders
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(prob(mixed_heads != "nowhere", causal=True), cross(), d_model, d_ff, dropout)
            for _ in range(n_decoder_layer)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, n_channel)

    def forward(self, x: Tensor, exogenous: Tensor | None = None) -> Tensor:
        """Forecast each window.

        Args:
            x: `[B, L, C]`.
            exogenous: marks of the context's and the horizon's steps `[B, L + H, M]`; None without marks.

        Returns:
            `[B, H, C]`.
        """
        now, start = self.context, self.context - self.label
        past, ahead = (None, None) if exogenous is None else (exogenous[:, :now], exogenous[:, start:])
        hidden = self.encoder_embedding(x, past)
        read = torch.cat([encoder(hidden[:, -(now >> i) :]) for i, encoder in enumerate(self.encoders)], dim=1)
        y = self.decoder_embedding(F.pad(x[:, start:], (0, 0, 0, self.horizon)), ahead)
        for layer in self.decoder:
            y = layer(y, read)
        return self.head(self.norm(y[:, -self.horizon :]))


class Encoder(nn.Module):
    """Layers with what distils between them, and a norm."""

    def __init__(self, layers: "list[EncoderLayer]", distils: "list[Distil]"):
        super().__init__()
        self.layers, self.distils = nn.ModuleList(layers), nn.ModuleList(distils)
        self.norm = nn.LayerNorm(layers[0].norm.normalized_shape)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T', D]
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.distils):
                x = self.distils[i](x)
        return self.norm(x)


class EncoderLayer(nn.Module):
    """Self-attention and a position-wise network, each normed after its sum."""

    def __init__(self, attention: "MultiHead", d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T, D]
        return self.feed_forward(self.norm(x + self.dropout(self.attention(x, x))))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention on the encoder's output, and a position-wise network."""

    def __init__(self, attention: "MultiHead", cross: "MultiHead", d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(d_model)
        self.cross, self.cross_norm = cross, nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, read: Tensor) -> Tensor:  # [B, T, D], [B, S, D] -> [B, T, D]
        x = self.norm(x + self.dropout(self.attention(x, x)))
        return self.feed_forward(self.cross_norm(x + self.dropout(self.cross(x, read))))


class FeedForward(nn.Module):
    """`norm(x + W2 gelu(W1 x))`, with dropout behind both maps."""

    def __init__(self, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.up, self.down = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.norm, self.dropout = nn.LayerNorm(d_model), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T, D]
        return self.norm(x + self.dropout(self.down(self.dropout(F.gelu(self.up(x))))))


class Distil(nn.Module):
    """Half the steps: convolution, batch norm, ELU and a maximum over three steps."""

    def __init__(self, d_model: int, padding: int):
        super().__init__()
        self.conv = nn.Conv1d(d_model, d_model, 3, padding=padding, padding_mode="circular")
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> [B, ceil(T / 2), D]; one step more for padding 2
        y = F.elu(self.norm(self.conv(x.transpose(1, 2))))
        return F.max_pool1d(y, 3, stride=2, padding=1).transpose(1, 2)


class FullAttention(nn.Module):
    """Softmax attention with dropout on its weights."""

    def __init__(self, dropout: float):
        super().__init__()
        self.dropout = dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # [B, T, H, K] -> [B, T, H, K]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2)


class MultiHead(nn.Module):
    """Linear maps to and from the heads of an attention.

    Args:
        mixed: read `[B, H, T, K]` as if it were `[B, T, H, K]` on the way out, as published weights were trained.
    """

    def __init__(self, attention: nn.Module, d_model: int, n_head: int, *, mixed: bool = False):
        super().__init__()
        self.attention, self.n_head, self.mixed = attention, n_head, mixed
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d_model, d_model) for _ in range(3))
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, read: Tensor) -> Tensor:  # [B, T, D], [B, S, D] -> [B, T, D]
        q, k, v = self.q_proj(x), self.k_proj(read), self.v_proj(read)
        y = self.attention(*(part.unflatten(-1, (self.n_head, -1)) for part in (q, k, v)))
        return self.out_proj((y.transpose(1, 2) if self.mixed else y).reshape(x.shape))


def _check_sizes(context: int, label: int, d_model: int, n_head: int, encoders: Sequence[int], distil: bool) -> None:
    if d_model % n_head:
        raise InputError(f"Informer: d_model is {d_model}, expected a multiple of n_head={n_head}")
    if not 0 <= label <= context:
        raise InputError(f"Informer: label is {label}, expected from 0 to the context of {context}")
    if not encoders or min(encoders) < 1:
        raise InputError(f"Informer: encoders is {encoders!r}, expected layers of each, as in (2,) or (3, 2, 1)")
    # what distils reads at least two steps
    least = max(2 ** (i + (n_layer - 1) * distil) for i, n_layer in enumerate(encoders))
    if context < least:
        raise InputError(f"Informer: context is {context}, encoders={tuple(encoders)} need at least {least} steps")
