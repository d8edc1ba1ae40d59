"""The residual stack that every model is built on."""

from typing import Any, Literal

from torch import Tensor, nn

from helixwave.registry import BLOCKS, BlockConfig


class Backbone(nn.Module):
    """Pre-norm residual stack: `x + dropout(block(norm(x)))` for each layer, and a norm at the end.

    Args:
        d_model: channels.
        n_layer: number of blocks.
        blocks: a pattern of blocks, repeated until there are `n_layer`: a hybrid is one line.
        norm: root mean square or layer norm.
        dropout: on the output of each block.
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_layer: int,
        blocks: list[BlockConfig],
        norm: Literal["rms", "layer"] = "rms",
        dropout: float = 0.0,
    ):
        super().__init__()
        make_norm = nn.RMSNorm if norm == "rms" else nn.LayerNorm
        self.d_model = d_model
        self.blocks = nn.ModuleList(BLOCKS.build(blocks[i % len(blocks)], d_model=d_model) for i in range(n_layer))
        self.norms = nn.ModuleList(make_norm(d_model, eps=1e-5) for _ in range(n_layer))
        self.norm = make_norm(d_model, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input."""
        return all(block.causal for block in self.blocks)

    def forward(
        self, x: Tensor, state: list[Any] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Any]]:
        """Run all blocks.

        Args:
            x: `[B, T, D]`, right-padded.
            state: what an earlier call returned, one entry a block; None starts anew.
            lengths: valid positions of each sequence `[B]`; None: all are valid.

        Returns:
            the normed output `[B, T, D]`, and the state after the last valid position of each sequence.
        """
        ends = []
        for block, norm, start in zip(self.blocks, self.norms, state or [None] * len(self.blocks), strict=True):
            y, end = block(norm(x), start, lengths)
            x = x + self.dropout(y)
            ends.append(end)
        return self.norm(x), ends
