"""Where predictions go: the files that a model writes for each FASTA file that it reads."""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import count_iupac
from helixwave_domains.genomics.fasta import FastaFile, read_fasta

log = logging.getLogger("helixwave")


def outputs(
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
            # all letters are checked before the first prediction
            unknown = sum(count_iupac(record.sequence) for record in fasta)
            if unknown:
                log.warning("%s: %d ambiguity codes are read as unknown bases", path, unknown)
            yield fasta, paths


def runs(probabilities: np.ndarray) -> Iterator[tuple[int, int, int, float]]:
    """Stretches of one most probable class: start, end, class, mean probability of it."""
    labels = probabilities.argmax(-1)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, end in pairwise(edges):
        yield start, end, int(labels[start]), float(probabilities[start:end, labels[start]].mean())


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".bgz").rpartition(".")[0] or path.name
