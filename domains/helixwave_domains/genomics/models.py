"""Models on DNA: an embedding of bases, a backbone, and a head for a whole sequence or for each base."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.lengths import reverse_valid, valid_mask
from torch import Tensor, nn

from helixwave_domains.genomics.alphabet import COMPLEMENT, PAD, VOCABULARY, encode
from helixwave_domains.genomics.fasta import FastaFile, read_fasta
from helixwave_domains.genomics.genome import FRAME_CLASSES
from helixwave_domains.genomics.tracks import segments as find_segments
from helixwave_domains.genomics.tracks import write_bed, write_gff3

_Probabilities = np.ndarray
"""`[n_class]` for a sequence or `[T, n_class]` for its bases."""


class _DNAModel(nn.Module):
    """Embedding, backbone and a linear head; in evaluation both strands are read where `complement` says how.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the classes.
        complement: for each class, the number of the class that it is on the other strand. If given, evaluation
            averages the probabilities of both strands (post-hoc conjoining, Caduceus, section 4.3).
        dropout: before the head.
    """

    config: dict[str, Any]
    base_complement: Tensor
    class_complement: Tensor | None

    def __init__(self, *, backbone: Backbone, classes: list[str], complement: list[int] | None, dropout: float):
        super().__init__()
        if complement is not None and sorted(complement) != list(range(len(classes))):
            raise InputError(
                f"model: complement is {complement}, expected the numbers 0 to {len(classes) - 1} reordered"
            )
        self.classes = classes
        self.embedding = nn.Embedding(len(VOCABULARY), backbone.d_model)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.d_model, len(classes))
        self.register_buffer("base_complement", torch.from_numpy(COMPLEMENT.astype(np.int64)), persistent=False)
        order = None if complement is None else torch.tensor(complement)
        self.register_buffer("class_complement", order, persistent=False)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of right-padded token ids `[B, T]`: `[B, n_class]` or `[B, T, n_class]`."""
        if self.training or self.class_complement is None:
            return self.logits(inputs, lengths)
        other = self.logits(self._other_strand(inputs, lengths), lengths)
        there = self.logits(inputs, lengths).softmax(-1)
        back = self._aligned(other, lengths).softmax(-1)[..., self.class_complement]
        return ((there + back) / 2).log()

    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Logits of one strand."""
        raise NotImplementedError

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        """The other strand's logits in this strand's order."""
        raise NotImplementedError

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Last normed hidden state: `[B, T]` -> `[B, T, D]`."""
        hidden, _ = self.backbone(self.embedding(inputs), lengths=lengths)
        return hidden

    def _other_strand(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return reverse_valid(self.base_complement[inputs][..., None], lengths)[..., 0]

    @torch.inference_mode()
    def _probabilities(self, sequences: Sequence[str]) -> Tensor:
        """Probabilities of a batch, padded positions included."""
        ids = [torch.from_numpy(encode(sequence).astype(np.int64)) for sequence in sequences]
        inputs = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)
        device = self.head.weight.device
        self.eval()
        return self(inputs.to(device), torch.tensor([len(i) for i in ids], device=device)).softmax(-1).cpu()


class SequenceClassifier(_DNAModel):
    """One class for a whole sequence: a linear head on the pooled hidden states of its valid positions.

    Args:
        pool: `mean`, `max`, both side by side (`mean_max`), or `center`, the base in the middle.
        complement: how classes swap on the other strand; see the module. For classes that do not depend on the strand,
            `[0, 1, ...]`.
        dropout: before the head.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        pool: Literal["mean", "max", "mean_max", "center"] = "mean",
        complement: list[int] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(backbone=backbone, classes=classes, complement=complement, dropout=dropout)
        self.pool = pool
        if pool == "mean_max":
            self.head = nn.Linear(2 * backbone.d_model, len(classes))

    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        hidden = self.hidden(inputs, lengths)
        if lengths is None:
            lengths = torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
        return self.head(self.dropout(_pooled(hidden, lengths, self.pool)))

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        return logits

    def predict(self, sequence: str) -> _Probabilities:
        """Probabilities of the classes `[n_class]` of a sequence of letters."""
        return self._probabilities([sequence])[0].numpy()

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One TSV for each FASTA file: name, predicted class, and the probability of each class."""
        for fasta, (path,) in _outputs(inputs, folder, [".tsv"], overwrite):
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
        dropout: float = 0.0,
    ):
        super().__init__(backbone=backbone, classes=classes, complement=complement, dropout=dropout)
        if not 0 <= 2 * margin < window:
            raise InputError(f"model: margin is {margin}, expected less than half of the window of {window} bases")
        self.window, self.margin = window, margin

    def logits(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return self.head(self.dropout(self.hidden(inputs, lengths)))

    def _aligned(self, logits: Tensor, lengths: Tensor | None) -> Tensor:
        return reverse_valid(logits, lengths)

    def predict(self, sequence: str) -> _Probabilities:
        """Probabilities of the classes at each base `[T, n_class]` of a sequence of letters of any length."""
        T = len(sequence)
        probabilities = np.empty((T, len(self.classes)), dtype=np.float32)
        for start in range(0, max(T - 2 * self.margin, 1), self.window - 2 * self.margin):
            skipped = self.margin if start else 0
            piece = self._probabilities([sequence[start : start + self.window]])[0].numpy()
            probabilities[start + skipped : start + self.window] = piece[skipped:]
        return probabilities

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """One BED file for each FASTA file: stretches of one class (but the first) with its mean probability."""
        for fasta, (path,) in _outputs(inputs, folder, [".bed"], overwrite):
            with atomic_write(path) as f:
                for record in fasta:
                    for start, end, label, score in _runs(self.predict(record.sequence)):
                        if label:
                            f.write(f"{record.name}\t{start}\t{end}\t{self.classes[label]}\t{round(1000 * score)}\t.\n")
            yield path


class ReadingFrameAnnotator(NucleotideLabeller):
    """Which of the six reading frames each base is coded in, or intergenic; writes genes as GFF3 and BED.

    Args:
        window: longest sequence that the model is given at once; a longer one is read in overlapping windows.
        margin: bases at the inner ends of a window whose predictions the neighbouring window gives.
        dropout: before the head.
    """

    def __init__(
        self, *, backbone: Backbone, classes: list[str], window: int = 8192, margin: int = 1024, dropout: float = 0.0
    ):
        if classes != FRAME_CLASSES:
            raise InputError(f"reading_frame_annotator: the classes are {classes}, expected {FRAME_CLASSES}")
        swapped = [0, 4, 5, 6, 1, 2, 3]
        super().__init__(
            backbone=backbone, classes=classes, complement=swapped, window=window, margin=margin, dropout=dropout
        )

    def predict_files(self, inputs: Sequence[Path], folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
        """GFF3 and BED for each FASTA file."""
        for fasta, paths in _outputs(inputs, folder, [".gff3", ".bed"], overwrite):
            tracks = {
                record.name: (len(record.sequence), find_segments(self.predict(record.sequence))) for record in fasta
            }
            write_gff3(paths[0], tracks)
            write_bed(paths[1], tracks)
            yield from paths


def _pooled(hidden: Tensor, lengths: Tensor, pool: str) -> Tensor:
    """`[B, T, D]` -> `[B, D]` over the valid positions alone."""
    if pool == "center":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths // 2]
    padded = ~valid_mask(lengths, hidden.shape[1])[..., None]
    highest = hidden.masked_fill(padded, -torch.inf).amax(1)
    mean = hidden.masked_fill(padded, 0).sum(1) / lengths[:, None]
    return {"max": highest, "mean": mean, "mean_max": torch.cat([mean, highest], dim=-1)}[pool]


def _runs(probabilities: np.ndarray) -> Iterator[tuple[int, int, int, float]]:
    """Stretches of one most probable class: start, end, class, mean probability of it."""
    labels = probabilities.argmax(-1)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, end in pairwise(edges):
        yield start, end, int(labels[start]), float(probabilities[start:end, labels[start]].mean())


def _outputs(
    inputs: Sequence[Path], folder: Path, suffixes: list[str], overwrite: bool
) -> Iterator[tuple[FastaFile, list[Path]]]:
    """Each FASTA file, read and checked, with the names of its results; nothing that is there is replaced unasked."""
    stems = [_stem(path) for path in inputs]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f"two input files are called {stem}: their results would overwrite each other. Rename one")
    places = [[folder / f"{stem}{suffix}" for suffix in suffixes] for stem in stems]
    present = [path for paths in places for path in paths if path.exists()]
    if present and not overwrite:
        raise InputError(f"{present[0]} is there already. Choose another --output, or --overwrite")
    for path, paths in zip(inputs, places, strict=True):
        with read_fasta(path) as fasta:
            yield fasta, paths


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".bgz").rpartition(".")[0] or path.name
