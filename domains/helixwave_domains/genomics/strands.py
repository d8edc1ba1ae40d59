"""Reading a sequence and its reverse complement with one model."""

import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.lengths import reverse_valid
from torch import Tensor, nn

from helixwave_domains.genomics.tokenizer import Tokenizer


class BothStrands(nn.Module):
    """What models of DNA have in common: token ids in, hidden states of either strand out.

    A model that inherits it has a `backbone` and a `tokenizer`, embeds ids in `_embedded`, and calls `keep_complement`.
    """

    backbone: Backbone
    tokenizer: Tokenizer
    base_complement: Tensor

    def keep_complement(self, complement: list[int]) -> None:
        """Remember for each token id that of the complementary base."""
        n = len(complement)
        if any(not 0 <= other < n or complement[other] != i for i, other in enumerate(complement)):
            raise InputError(f"model: complement is {complement}, expected the ids 0 to {n - 1} in pairs")
        self.register_buffer("base_complement", torch.tensor(complement), persistent=False)

    def strands(self, ids: Tensor, lengths: Tensor | None = None, *, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states of this strand and of the other one, `[B, T, D]` each, both in the order of `ids`.

        Args:
            layer: None: the last, normed; else the residual stream after so many layers, 0 the embedding.
        """
        ahead, behind = self.read_both(ids, lengths, layer)
        return ahead, reverse_valid(behind, lengths)

    def strand(
        self, ids: Tensor, lengths: Tensor | None = None, *, reverse: bool = False, layer: int | None = None
    ) -> Tensor:
        """Hidden states `[B, T, D]` of one strand alone, in the order of `ids`; see `strands`."""
        turned = reverse != (self.backbone.mirrored and self._n_block(layer) % 2 == 1)
        hidden = self._read(self.other_strand(ids, lengths) if turned else ids, lengths, layer)
        return reverse_valid(hidden, lengths) if reverse else hidden

    def other_strand(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The reverse complement of right-padded ids `[B, T]`."""
        return reverse_valid(self.base_complement[ids][..., None], lengths)[..., 0]

    def read_both(self, ids: Tensor, lengths: Tensor | None, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """Both strands, each in its own direction.

        One after the other, as a product of matrices may round differently at another place of the batch. A mirrored
        backbone with an odd number of blocks ends with the strands exchanged, as published.
        """
        strands = [ids, self.other_strand(ids, lengths)]
        if self.backbone.mirrored and self._n_block(layer) % 2 == 1:
            strands.reverse()
        ahead, behind = (self._read(strand, lengths, layer) for strand in strands)
        return ahead, behind

    def _read(self, ids: Tensor, lengths: Tensor | None, layer: int | None = None) -> Tensor:
        if layer is None:
            return self.backbone(self._embedded(ids), lengths=lengths)[0]
        return self.backbone.residual(self._embedded(ids), self._n_block(layer), lengths)

    def _embedded(self, ids: Tensor) -> Tensor:
        """`[B, T]` -> `[B, T, D]`."""
        raise NotImplementedError

    def _n_block(self, layer: int | None) -> int:
        ends = [0, *self.backbone.layer_ends]
        if layer is None:
            return ends[-1]
        if not 0 <= layer < len(ends):
            raise InputError(f"layer is {layer}, expected 0 (the embedding) to {len(ends) - 1}")
        return ends[layer]
