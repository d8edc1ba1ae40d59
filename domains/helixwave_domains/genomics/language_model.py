"""Language models of DNA: HyenaDNA, Caduceus and any backbone, with both strands where a model is made for them."""

from typing import Any, ClassVar

import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.lengths import reverse_valid
from helixwave.token_model import TokenModel
from torch import Tensor

from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.tokenizer import Style, Tokenizer


class DNALanguageModel(TokenModel, BothStrands):
    """Scores of all tokens at each base, masked or next, and hidden states of either strand.

    With `equivariant=True` the model reads a sequence and its reverse complement with the same weights, and its outputs
    for the other strand are exactly its outputs for this one, reversed (Caduceus-PS: Schiff et al., "Caduceus", 2024,
    section 4.2). Any backbone will do: what the published code does inside every layer, two halves of the channels that
    share their weights and never meet, is the same as reading the two strands one after the other.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: the vocabulary; a token's id is its place in it.
        tie: the head's weight is the embedding.
        dropout: on the embedding.
        equivariant: read both strands.
        complement: for each token id that of the complementary base; None: what the letters say.
        style: whose tokenizer the model was trained with; see `Tokenizer`.
        context: the longest sequence that the model was made for; None: any.
    """

    pretrained_as: ClassVar[dict[str, Any]] = {"name": "dna_language_model"}

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        tie: bool = True,
        dropout: float = 0.0,
        equivariant: bool = False,
        complement: list[int] | None = None,
        style: Style = "helixwave",
        context: int | None = None,
    ):
        super().__init__(backbone=backbone, classes=classes, tie=tie, dropout=dropout)
        self.tokenizer = Tokenizer(classes, style)
        if context is not None and context < 1:
            raise InputError(f"model: context is {context}, expected at least 1 or null")
        self.equivariant, self.context = equivariant, context
        self.keep_complement(complement or self.tokenizer.complement)

    def logits(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits at each position: `[B, T]` -> `[B, T, n_class]`."""
        if not self.equivariant:
            return super().logits(ids, lengths)
        ahead, behind = (self._scores(hidden) for hidden in self.read_both(ids, lengths))
        # reversed behind the head and not before it: so both strands go through it in the same order
        return ahead + reverse_valid(behind, lengths)[..., self.base_complement]

    def hidden(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Last normed hidden state `[B, T, D]`; of an equivariant model both strands', `[B, T, 2 D]` as published.

        The second half has its channels in reverse order, so that the reverse complement of a sequence gives the
        reverse of the whole, positions and channels.
        """
        if not self.equivariant:
            return super().hidden(ids, lengths)
        ahead, behind = self.strands(ids, lengths)
        return torch.cat([ahead, behind.flip(-1)], dim=-1)

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {**super().reads, "equivariant": self.equivariant, "style": self.tokenizer.style}

    def expect_causal(self) -> None:
        """Raise InputError if a score depends on what comes later."""
        if self.equivariant:
            raise InputError("model: with equivariant=True it reads both strands and cannot go step by step")
        super().expect_causal()
