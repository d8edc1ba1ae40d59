"""Models of DNA with labels: for a whole sequence or for each base."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.lengths import reverse_valid, valid_mask
from helixwave.outputs import Predicts
from torch import Tensor

from helixwave_domains.genomics.genome import FRAME_CLASSES
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.predictions import outputs, runs
from helixwave_domains.genomics.tracks import segments as find_segments
from helixwave_domains.genomics.tracks import write_bed, write_gff3

_Predicted = np.ndarray
"""`[n_class]` for a sequence or `[T, n_class]` for its bases."""


class SequenceClassifier(DNALabelModel):
    """One class for a whole sequence, or labels or numbers: a linear head on the pooled hidden states of its positions.

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
        predicts: Predicts = "class",
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
            predicts=predicts,
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

    def _aligned(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        return outputs

    def predict(self, sequence: str) -> _Predicted:
        """Probabilities of the classes or labels, or the numbers, `[n_class]` of a sequence of letters."""
        return self.readable_outputs([sequence])[0].numpy()

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One TSV for each FASTA file: name, what is predicted, and the probability of each class or label.

        Numbers stand alone; of labels those with a probability of at least one half are listed, with `;` between them.
        """
        title = {"class": ["class"], "labels": ["labels"], "numbers": []}[self.predicts]
        for fasta, (path,) in outputs(inputs, folder, [".tsv"], overwrite):
            with atomic_write(path) as f:
                f.write("\t".join(["name", *title, *self.classes]) + "\n")
                for record in fasta:
                    predicted = self.predict(record.sequence)
                    f.write("\t".join([record.name, *self._named(predicted), *(f"{p:.5f}" for p in predicted)]) + "\n")
            yield path

    def _named(self, predicted: _Predicted) -> list[str]:
        if self.predicts == "class":
            return [self.classes[predicted.argmax()]]
        present = [name for name, p in zip(self.classes, predicted, strict=True) if p >= 0.5]
        return [";".join(present)] if self.predicts == "labels" else []


class NucleotideLabeller(DNALabelModel):
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
        predicts: Predicts = "class",
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
            predicts=predicts,
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

    def _aligned(self, outputs: Tensor, lengths: Tensor | None) -> Tensor:
        return reverse_valid(outputs, lengths)

    def predict(self, sequence: str) -> _Predicted:
        """Probabilities of the classes or labels, or the numbers, at each base `[T, n_class]` of a sequence."""
        length = len(sequence)
        predicted = np.empty((length, len(self.classes)), dtype=np.float32)
        for start in range(0, max(length - 2 * self.margin, 1), self.window - 2 * self.margin):
            skipped = self.margin if start else 0
            piece = self.readable_outputs([sequence[start : start + self.window]])[0].numpy()
            predicted[start + skipped : start + self.window] = piece[skipped:]
        return predicted

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One file for each FASTA file, BED of classes or labels, TSV of numbers.

        BED has the stretches of each class but the first, or of each label with a probability of at least one half,
        with its mean probability; TSV has the numbers of each base, counted from 0.
        """
        suffix = ".tsv" if self.predicts == "numbers" else ".bed"
        for fasta, (path,) in outputs(inputs, folder, [suffix], overwrite):
            with atomic_write(path) as f:
                for record in fasta:
                    self._write(f, record.name, self.predict(record.sequence))
            yield path

    def _write(self, f: IO[str], name: str, predicted: _Predicted) -> None:
        if self.predicts == "numbers":
            for position, numbers in enumerate(predicted):
                f.write("\t".join([name, str(position), *(f"{number:.5f}" for number in numbers)]) + "\n")
            return
        for start, end, label, score in self._stretches(predicted):
            f.write(f"{name}\t{start}\t{end}\t{self.classes[label]}\t{round(1000 * score)}\t.\n")

    def _stretches(self, probabilities: np.ndarray) -> Iterator[tuple[int, int, int, float]]:
        if self.predicts == "class":
            yield from (run for run in runs(probabilities) if run[2])
            return
        for label, p in enumerate(probabilities.T):
            for start, end, present, score in runs(np.stack([1 - p, p], axis=-1)):
                if present:
                    yield start, end, label, score


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
