"""What a model makes of the windows of variants, with either letter, made once and stored in the cache."""

import hashlib
import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from helixwave.checkpoint import load_tensors, named_tensors, save_tensors
from helixwave.files import cache_folder
from numpy.typing import NDArray

from helixwave_domains.genomics.embedding import Passage, embed
from helixwave_domains.genomics.fasta import FastaFile
from helixwave_domains.genomics.fasta_index import version
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.variants import Allele
from helixwave_domains.genomics.windows import AlleleWindows

log = logging.getLogger("helixwave")

# alleles whose embeddings are stored together: what a kill costs
_CHUNK = 256


class AlleleSource(Protocol):
    """Alleles of a genome that have windows."""

    alleles: list[Allele]
    genome: FastaFile
    window: int
    on_mismatch: Any

    def windows(self, number: int) -> AlleleWindows:
        """The window of an allele with either of its letters."""


def embed_alleles(
    model: BothStrands, data: AlleleSource, *, around: int, tokens: int | None = None
) -> NDArray[np.float32]:
    """Mean hidden states around each allele `[n, 2 D]`: with the reference's letters, then with the other.

    Both strands are averaged. What is there already, of an earlier run that may have been killed, is not made again.

    Args:
        around: positions on each side of the centre that the mean is taken over, as far as the window goes.
        tokens: positions that the model reads at once; see `embed`.
    """
    identity = _identity(model, data, around)
    pieces = []
    for start in range(0, len(data.alleles), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(data.alleles)))
        place = _place(identity, [data.alleles[i] for i in numbers])
        if not place.is_file():
            save_tensors({"embeddings": torch.from_numpy(_embed(model, data, numbers, around, tokens))}, place)
            log.info("embedded %d of %d alleles", numbers.stop, len(data.alleles))
        pieces.append(load_tensors(place)["embeddings"].numpy())
    return np.concatenate(pieces)


def _embed(
    model: BothStrands, data: AlleleSource, numbers: range, around: int, tokens: int | None
) -> NDArray[np.float32]:
    centre = data.window // 2
    outside = max(0, centre - around), max(0, data.window - centre - around - 1)
    windows = [data.windows(i) for i in numbers]
    passages = [Passage(str(data.alleles[i]), w.ref, outside) for i, w in zip(numbers, windows, strict=True)]
    passages += [Passage(str(data.alleles[i]), w.alt, outside) for i, w in zip(numbers, windows, strict=True)]
    batches = embed(passages, model, pool="mean", strand="both", window=data.window, batch_tokens=tokens)
    found = np.concatenate([batch.pooled["mean"] for batch in batches])
    return np.concatenate(np.split(found, 2), axis=1)


def _identity(model: BothStrands, data: AlleleSource, around: int) -> str:
    """All that embeddings depend on but the alleles."""
    found = hashlib.sha256()
    for name, tensor in sorted(named_tensors(model).items()):
        found.update(name.encode() + tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    facts = (model.config, data.genome.path.resolve(), version(data.genome.path), data.window, data.on_mismatch, around)
    found.update(repr(facts).encode())
    return found.hexdigest()


def _place(identity: str, alleles: list[Allele]) -> Path:
    written = ",".join(f"{a.contig}:{a.position}{a.ref}>{a.alt}" for a in alleles)
    key = hashlib.sha256(f"{identity} {written}".encode()).hexdigest()[:32]
    return cache_folder() / "allele_embeddings" / f"{key}.safetensors"
