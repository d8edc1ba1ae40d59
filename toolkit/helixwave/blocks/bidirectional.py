"""Any causal block, read in both directions."""

from typing import Literal

import torch
from torch import Tensor, nn

from helixwave.lengths import reverse_valid
from helixwave.registry import BLOCKS, BlockConfig

_MAMBA: BlockConfig = {"name": "mamba"}


class Bidirectional(nn.Module):
    """A block run forwards and another (or the same) run backwards, their outputs combined.

    Each sequence of a padded batch is reversed within its own length. Cost and memory are twice the block's; there is
    no state to carry. Source: the BiMamba of Caduceus (Schiff et al., 2024, section 4.1) is `combine="add"`.

    Args:
        block: the causal block.
        combine: `add`, `mean`, `product`, or `concat` followed by a projection to the model's width.
        tied: one block for both directions.
    """

    causal = False

    def __init__(
        self,
        d_model: int,
        *,
        block: BlockConfig = _MAMBA,
        combine: Literal["add", "mean", "product", "concat"] = "add",
        tied: bool = False,
    ):
        super().__init__()
        self.forwards = BLOCKS.build(block, d_model=d_model)
        self.backwards = self.forwards if tied else BLOCKS.build(block, d_model=d_model)
        self.combine = combine
        self.out_proj = nn.Linear(2 * d_model, d_model) if combine == "concat" else None

    def forward(
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        refuse_state("bidirectional", state)
        ahead, _ = self.forwards(x, lengths=lengths)
        behind, _ = self.backwards(reverse_valid(x, lengths), lengths=lengths)
        return self._combined(ahead, reverse_valid(behind, lengths)), None

    def _combined(self, ahead: Tensor, behind: Tensor) -> Tensor:
        if self.out_proj is not None:
            return self.out_proj(torch.cat([ahead, behind], dim=-1))
        if self.combine == "product":
            return ahead * behind
        return (ahead + behind) / (2 if self.combine == "mean" else 1)


def refuse_state(where: str, state: object) -> None:
    """Raise a ValueError if a block that reads both ways is given a state."""
    if state is not None:
        raise ValueError(f"{where}: a state cannot be carried over, the backward half needs what comes later")
