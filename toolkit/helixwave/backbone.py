"""The residual stack that every model is built on."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from helixwave.errors import InputError
from helixwave.lengths import reverse_valid
from helixwave.registry import BLOCKS, BlockConfig


class Backbone(nn.Module):
    """Residual stack of blocks: `x + block(norm(x))` for each layer, and a norm at the end.

    With `norm_position="post"` a layer is `norm(x + block(x))`, and nothing stands at the end.

    Args:
        d_model: channels.
        n_layer: number of blocks.
        blocks: a pattern of blocks, repeated until there are `n_layer`: a hybrid is one line.
        norm: root mean square or layer norm.
        norm_position: before the block, on its branch alone, or after the sum.
        norm_eps: what the norms add to the mean square or the variance.
        norm_bias: whether layer norms have a bias; root mean square norms have none.
        dropout: on the output of each block.
        drop_path: in training, the share of sequences for which the last block is skipped; it grows linearly with depth
            from none at the first block (stochastic depth, Huang et al., "Deep Networks with Stochastic Depth", 2016).
        checkpointing: in training, keep the input of each layer alone and compute the layer again for the backward
            pass: less memory, about a third more time, the same gradients.
        mirrored: every layer reads what the layer before it left backwards, with its channels in reverse order, so
            that after an odd number of layers the output is backwards. Published Caduceus-PS weights were trained so
            (Schiff et al., "Caduceus", 2024, with the fused addition and norm of its code).
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_layer: int,
        blocks: list[BlockConfig],
        norm: Literal["rms", "layer"] = "rms",
        norm_position: Literal["pre", "post"] = "pre",
        norm_eps: float = 1e-5,
        norm_bias: bool = True,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        mirrored: bool = False,
    ):
        super().__init__()

        def make_norm() -> nn.Module:
            if norm == "rms":
                return nn.RMSNorm(d_model, eps=norm_eps)
            return nn.LayerNorm(d_model, eps=norm_eps, bias=norm_bias)

        self.d_model, self.norm_position, self.checkpointing = d_model, norm_position, checkpointing
        self.mirrored = mirrored
        self.blocks = nn.ModuleList(BLOCKS.build(blocks[i % len(blocks)], d_model=d_model) for i in range(n_layer))
        self.norms = nn.ModuleList(make_norm() for _ in range(n_layer))
        self.norm = make_norm() if norm_position == "pre" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        # a single block is the last one
        self.drop_paths = [drop_path * i / (n_layer - 1) for i in range(n_layer)] if n_layer > 1 else [drop_path]

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input."""
        return not self.mirrored and all(block.causal for block in self.blocks)

    @property
    def layer_ends(self) -> list[int]:
        """How many blocks there are up to the end of each layer.

        A layer is a block that mixes positions, with the position-wise ones behind it: two blocks of a HyenaDNA, one of
        a Mamba.
        """
        starts = [i for i, block in enumerate(self.blocks) if not getattr(block, "pointwise", False)]
        return [*starts[1:], len(self.blocks)]

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
        layer: Callable[..., tuple[Tensor, Any]] = self._layer
        if self.checkpointing and self.training and torch.is_grad_enabled():
            layer = self._checkpointed_layer
        n_layer, ends = len(self.blocks), []
        for i, start in zip(range(n_layer), state or [None] * n_layer, strict=True):
            x, end = layer(i, x, start, lengths)
            ends.append(end)
        return self.norm(x), ends

    def residual(self, x: Tensor, n_block: int, lengths: Tensor | None = None) -> Tensor:
        """What stands behind the first `n_block` blocks, without the last norm: `[B, T, D]` -> `[B, T, D]`."""
        for i in range(n_block):
            x, _ = self._layer(i, x, None, lengths)
        return x

    def step(self, x_t: Tensor, state: list[Any] | None) -> tuple[Tensor, list[Any]]:
        """One more position, `[B, D]` -> `[B, D]`; its cost does not depend on how many came before.

        Raises:
            InputError: a block reads what comes later, or keeps no state.
        """
        self.expect_causal()
        self.expect_states()
        y, state = self(x_t.unsqueeze(1), state)
        return y.squeeze(1), state

    def expect_causal(self) -> None:
        """Raise InputError if a block reads what comes later."""
        if self.mirrored:
            raise InputError("backbone: with mirrored=True layers read backwards, it cannot go step by step")
        for i, block in enumerate(self.blocks):
            if not block.causal:
                raise InputError(
                    f"backbone: block {i} ({type(block).__name__}) reads what comes later and cannot go step by step. "
                    "Expected causal blocks, such as [{name: mamba}]"
                )

    def expect_states(self) -> None:
        """Raise InputError if a block keeps no state."""
        for i, block in enumerate(self.blocks):
            if not getattr(block, "stateful", True):
                raise InputError(
                    f"backbone: block {i} ({type(block).__name__}) keeps no state and cannot go step by step. "
                    "Build it with stateful=True"
                )

    def _layer(self, i: int, x: Tensor, start: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        norm, block = self.norms[i], self.blocks[i]
        x = reverse_valid(x, lengths).flip(-1) if self.mirrored else x
        is_pre = self.norm_position == "pre"
        y, end = block(norm(x) if is_pre else x, start, lengths)
        x = x + self._skipped(self.dropout(y), self.drop_paths[i])
        return (x if is_pre else norm(x)), end

    def _checkpointed_layer(self, *arguments: Any) -> Any:
        return checkpoint(self._layer, *arguments, use_reentrant=False)

    def _skipped(self, y: Tensor, share: float) -> Tensor:
        """In training, zeros for a share of the sequences; the others are scaled to the same expectation."""
        if not self.training or share == 0:
            return y
        kept = torch.rand(len(y), 1, 1, device=y.device) >= share
        return y * (kept / (1 - share)).to(y.dtype)
