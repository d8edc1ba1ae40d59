"""Models on DNA: an embedding of bases, a backbone, and a head for a whole sequence or for each base."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.lengths import reverse_valid, valid_mask
from torch import Tensor, nn

from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.genome import FRAME_CLASSES
from helixwave_domains.genomics.predictions import outputs, runs
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.tokenizer import Tokenizer
from helixwave_domains.genomics.tracks import segments as find_segments
from helixwave_domains.genomics.tracks import write_bed, write_gff3

# k-mers are written with A, C, G, T and one letter for everything else: an embedding of 6-mers has 15,625 rows
_LETTERS, _OTHER, _MAX_KMER = 5, 4, 6

_Probabilities = np.ndarray
"""`[n_class]` for a sequence or `[T, n_class]` for its bases."""


class _DNAModel(BothStrands):
    """Embedding, backbone and a linear head, on one strand or both.

    In evaluation the probabilities of both strands are averaged where `complement` says how (post-hoc conjoining,
    Caduceus, section 4.3); with `equivariant` their logits are, in training too (Caduceus-PS, section 4.2).

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the classes.
        complement: for each class, the number of the class that it is on the other strand.
        equivariant: read both strands; classes that `complement` does not mention are the same on both.
        kmer: with 2 or more, the k-mer that ends at a base adds an embedding of its own to that of the base.
        vocabulary: the tokens; None: those of the published models.
        bias: of the head.
        dropout: before the head.
    """

    config: dict[str, Any]
    class_complement: Tensor | None

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
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
        self.classes, self.equivariant = classes, equivariant
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
        """Logits of right-padded token ids `[B, T]`: `[B, n_class]` or `[B, T, n_class]`."""
        if self.equivariant:
            there, back = (self._scores(hidden, lengths) for hidden in self.read_both(inputs, lengths))
            return (there + self._aligned(back, lengths)[..., self.class_complement]) / 2
        there = self._scores(self.hidden(inputs, lengths), lengths)
        if self.training or self.class_complement is None:
            return there
        other = self._scores(self.hidden(self.other_strand(inputs, lengths), lengths), lengths)
        back = self._aligned(other, lengths).log_softmax(-1)[..., self.class_complement]
        # the logarithm of the mean probability, without one that underflows
        return torch.logaddexp(there.log_softmax(-1), back) - math.log(2)

    def _scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Logits of one strand from its hidden states `[B, T, D]`."""
        raise NotImplementedError

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        """The other strand's logits in this strand's order."""
        raise NotImplementedError

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Last normed hidden state of one strand: `[B, T]` -> `[B, T, D]`."""
        return self.strand(inputs, lengths)

    def _embedded(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        if self.kmer_embedding is not None:
            embedded = embedded + self.kmer_embedding(_kmers(ids, self.kmer, self.tokenizer.bases))
        return embedded

    @torch.inference_mode()
    def _probabilities(self, sequences: Sequence[str]) -> Tensor:
        """Probabilities of a batch, padded positions included."""
        ids = [torch.from_numpy(self.tokenizer.encode(sequence)) for sequence in sequences]
        inputs = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad)
        device = self.head.weight.device
        self.eval()
        return self(inputs.to(device), torch.tensor([len(i) for i in ids], device=device)).softmax(-1).cpu()


class SequenceClassifier(_DNAModel):
    """One class for a whole sequence: a linear head on the pooled hidden states of its valid positions.

    Args:
        pool: `mean`, `max`, both side by side (`mean_max`), `center`, the base in the middle, or `flatten`, all bases
            one after another, for sequences of one length.
        length: bases of every sequence, for `flatten`.
        complement: how classes swap on the other strand; see the module. For classes that do not depend on the strand,
            `[0, 1, ...]`.
        equivariant: read both strands, in training too; see the module.
        kmer: with 2 or more, the k-mer that ends at a base adds an embedding of its own to that of the base.
        vocabulary: the tokens; None: those of the published models.
        bias: of the head.
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        pool: Literal["mean", "max", "mean_max", "center", "flatten"] = "mean",
        length: int | None = None,
        complement: list[int] | None = None,
        equivariant: bool = False,
        kmer: int = 1,
        vocabulary: list[str] | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        if (pool == "flatten") != (length is not None):
            raise InputError(
                f"model: pool is {pool} and length is {length}. Give a length for pool=flatten, and only there"
            )
        super().__init__(
            backbone=backbone,
            classes=classes,
            complement=complement,
            equivariant=equivariant,
            kmer=kmer,
            vocabulary=vocabulary,
            bias=bias,
            dropout=dropout,
            n_pooled=length or (2 if pool == "mean_max" else 1),
        )
        self.pool, self.length = pool, length

    def _scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            lengths = torch.full((len(hidden),), hidden.shape[1], device=hidden.device)
        if self.length is not None and (lengths != self.length).any():
            found = int(lengths[lengths != self.length][0])
            raise InputError(f"this model reads sequences of {self.length} bases, one of the given has {found}")
        return self.head(self.dropout(_pooled(hidden, lengths, self.pool)))

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        return logits

    def predict(self, sequence: str) -> _Probabilities:
        """Probabilities of the classes `[n_class]` of a sequence of letters."""
        return self._probabilities([sequence])[0].numpy()

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One TSV for each FASTA file: name, predicted class, and the probability of each class."""
        for fasta, (path,) in outputs(inputs, folder, [".tsv"], overwrite):
            with atomic_write(path) as f:
                f.write("\t".join(["name", "class", *self.classes]) + "\n")
                for record in fasta:
                    probabilities = self.predict(record.sequence)
                    numbers = "\t".join(f"{p:.5f}" for p in probabilities)
                    f.write(f"{record.name}\t{self.classes[probabilities.argmax()]}\t{numbers}\n")
            yield path


class NucleotideLabeller(_DNAModel):
    """A class for each base: a linear head on every hidden state.

    Args:
        complement: how classes swap on the other strand; see the module.
        window: longest sequence that the model is given at once; a longer one is read in overlapping windows.
        margin: bases at the inner ends of a window whose predictions the neighbouring window gives.
        equivariant: read both strands, in training too; see the module.
        kmer: with 2 or more, the k-mer that ends at a base adds an embedding of its own to that of the base.
        vocabulary: the tokens; None: those of the published models.
        bias: of the head.
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        complement: list[int] | None = None,
        window: int = 8192,
        margin: int = 1024,
        equivariant: bool = False,
        kmer: int = 1,
        vocabulary: list[str] | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(
            backbone=backbone,
            classes=classes,
            complement=complement,
            equivariant=equivariant,
            kmer=kmer,
            vocabulary=vocabulary,
            bias=bias,
            dropout=dropout,
        )
        if not 0 <= 2 * margin < window:
            raise InputError(f"model: margin is {margin}, expected less than half of the window of {window} bases")
        self.window, self.margin = window, margin

    def _scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        return self.head(self.dropout(hidden))

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        return reverse_valid(logits, lengths)

    def predict(self, sequence: str) -> _Probabilities:
        """Probabilities of the classes at each base `[T, n_class]` of a sequence of letters of any length."""
        length = len(sequence)
        probabilities = np.empty((length, len(self.classes)), dtype=np.float32)
        for start in range(0, max(length - 2 * self.margin, 1), self.window - 2 * self.margin):
            skipped = self.margin if start else 0
            piece = self._probabilities([sequence[start : start + self.window]])[0].numpy()
            probabilities[start + skipped : start + self.window] = piece[skipped:]
        return probabilities

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One BED file for each FASTA file: stretches of one class (but the first) with its mean probability."""
        for fasta, (path,) in outputs(inputs, folder, [".bed"], overwrite):
            with atomic_write(path) as f:
                for record in fasta:
                    for start, end, label, score in runs(self.predict(record.sequence)):
                        if label:
                            f.write(f"{record.name}\t{start}\t{end}\t{self.classes[label]}\t{round(1000 * score)}\t.\n")
            yield path


class ReadingFrameAnnotator(NucleotideLabeller):
    """Which of the six reading frames each base is coded in, or intergenic; writes genes as GFF3 and BED.

    Args:
        window: longest sequence that the model is given at once; a longer one is read in overlapping windows.
        margin: bases at the inner ends of a window whose predictions the neighbouring window gives.
        equivariant: read both strands, in training too; see the module.
        kmer: with 2 or more, the k-mer that ends at a base adds an embedding of its own to that of the base.
        vocabulary: the tokens; None: those of the published models.
        bias: of the head.
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        window: int = 8192,
        margin: int = 1024,
        equivariant: bool = False,
        kmer: int = 1,
        vocabulary: list[str] | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        if classes != FRAME_CLASSES:
            raise InputError(f"reading_frame_annotator: the classes are {classes}, expected {FRAME_CLASSES}")
        swapped = [0, 4, 5, 6, 1, 2, 3]
        super().__init__(
            backbone=backbone,
            classes=classes,
            complement=swapped,
            window=window,
            margin=margin,
            equivariant=equivariant,
            kmer=kmer,
            vocabulary=vocabulary,
            bias=bias,
            dropout=dropout,
        )

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """GFF3 and BED for each FASTA file."""
        for fasta, paths in outputs(inputs, folder, [".gff3", ".bed"], overwrite):
            tracks = {
                record.name: (len(record.sequence), find_segments(self.predict(record.sequence))) for record in fasta
            }
            write_gff3(paths[0], tracks)
            write_bed(paths[1], tracks)
            yield from paths


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


def _pooled(hidden: Tensor, lengths: Tensor, pool: str) -> Tensor:
    """`[B, T, D]` -> `[B, D]` over the valid positions alone."""
    if pool == "flatten":
        return hidden.flatten(1)
    if pool == "center":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths // 2]
    padded = ~valid_mask(lengths, hidden.shape[1])[..., None]
    highest = hidden.masked_fill(padded, -torch.inf).amax(1)
    mean = hidden.masked_fill(padded, 0).sum(1) / lengths[:, None]
    return {"max": highest, "mean": mean, "mean_max": torch.cat([mean, highest], dim=-1)}[pool]
