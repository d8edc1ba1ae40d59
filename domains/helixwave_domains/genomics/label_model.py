"""What models of DNA with labels have in common: an embedding, a backbone and a linear head, on one strand or both."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.outputs import Predicts, mean_outputs, readable
from torch import Tensor, nn

from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.tokenizer import Tokenizer

# k-mers are written with A, C, G, T and one letter for everything else: an embedding of 6-mers has 15,625 rows
_LETTERS, _OTHER, _MAX_KMER = 5, 4, 6


class DNALabelModel(BothStrands):
    """Embedding, backbone and a linear head, on one strand or both.

    In evaluation the probabilities of both strands are averaged where `complement` says how (post-hoc conjoining,
    Caduceus, section 4.3), or the outputs themselves if the model predicts numbers; with `equivariant` the outputs of
    both are averaged, in training too (Caduceus-PS, section 4.2).

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the outputs: classes, labels or numbers.
        predicts: which of these they are.
        complement: for each class, the number of the class that it is on the other strand.
        equivariant: read both strands; classes that `complement` does not mention are the same on both.
        kmer: with 2 or more, the k-mer that ends at a base adds an embedding of its own to that of the base.
        vocabulary: the tokens; None: those of the published models.
        bias: of the head.
        dropout: before the head.
    """

    config: dict[str, Any]
    pretrained_as: ClassVar[dict[str, Any]] = {"name": "dna_language_model"}
    class_complement: Tensor | None

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        predicts: Predicts,
        complement: list[int] | None,
        equivariant: bool,
        kmer: int,
        vocabulary: list[str] | None,
        bias: bool,
        dropout: float,
        n_pooled: int = 1,
    ):
        super().__init__()
        if not 1 <= kmer <= _MAX_KMER:
            raise InputError(f"model: kmer is {kmer}, expected 1 to {_MAX_KMER}")
        if complement is not None and sorted(complement) != list(range(len(classes))):
            raise InputError(
                f"model: complement is {complement}, expected the numbers 0 to {len(classes) - 1} reordered"
            )
        self.classes, self.predicts, self.equivariant = classes, predicts, equivariant
        self.tokenizer = Tokenizer(vocabulary or VOCABULARY)
        self.keep_complement(self.tokenizer.complement)
        self.embedding = _embedding(len(self.tokenizer.tokens), backbone.d_model)
        self.kmer, self.kmer_embedding = kmer, None
        if kmer > 1:
            self.kmer_embedding = _embedding(_LETTERS**kmer, backbone.d_model)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_pooled * backbone.d_model, len(classes), bias=bias)
        if equivariant and complement is None:
            complement = list(range(len(classes)))
        order = None if complement is None else torch.tensor(complement)
        self.register_buffer("class_complement", order, persistent=False)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits or numbers of right-padded token ids `[B, T]`: `[B, n_class]` or `[B, T, n_class]`."""
        if self.equivariant:
            there, back = (self._scores(hidden, lengths) for hidden in self.read_both(inputs, lengths))
            return (there + self._aligned(back, lengths)[..., self.class_complement]) / 2
        there = self._scores(self.hidden(inputs, lengths), lengths)
        if self.training or self.class_complement is None:
            return there
        other = self._scores(self.hidden(self.other_strand(inputs, lengths), lengths), lengths)
        return mean_outputs(there, self._aligned(other, lengths)[..., self.class_complement], self.predicts)

    def _scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Outputs for one strand from its hidden states `[B, T, D]`."""
        raise NotImplementedError

    def _aligned(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        """The other strand's outputs in this strand's order."""
        raise NotImplementedError

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Last normed hidden state of one strand: `[B, T]` -> `[B, T, D]`."""
        return self.strand(inputs, lengths)

    def _embedded(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        if self.kmer_embedding is not None:
            embedded = embedded + self.kmer_embedding(_kmers(ids, self.kmer, self.tokenizer.bases))
        return embedded

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {"vocabulary": self.tokenizer.tokens, "equivariant": self.equivariant, "kmer": self.kmer}

    @torch.inference_mode()
    def readable_outputs(self, sequences: Sequence[str]) -> Tensor:
        """Probabilities or numbers of a batch, padded positions included."""
        ids = [torch.from_numpy(self.tokenizer.encode(sequence)) for sequence in sequences]
        inputs = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad)
        device = self.head.weight.device
        self.eval()
        outputs = self(inputs.to(device), torch.tensor([len(i) for i in ids], device=device))
        return readable(outputs, self.predicts).cpu()


def _embedding(count: int, d_model: int) -> nn.Embedding:
    """As HyenaDNA and Caduceus begin: normal with a standard deviation of 0.02."""
    embedding = nn.Embedding(count, d_model)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


def _kmers(ids: Tensor, k: int, bases: np.ndarray) -> Tensor:
    """The number of the k-mer that ends at each base, `[B, T]` -> `[B, T]`; all that is no base is a fifth letter."""
    letters = torch.full_like(ids, _OTHER)
    for number, base in enumerate(bases.tolist()):
        letters[ids == base] = number
    windows = nn.functional.pad(letters, (k - 1, 0), value=_OTHER).unfold(1, k, 1)
    return (windows * _LETTERS ** torch.arange(k, device=ids.device)).sum(-1)
