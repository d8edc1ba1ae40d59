"""Alleles become rows of scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helixwave_domains.genomics.alphabet import count_iupac
from helixwave_domains.genomics.filling import Block
from helixwave_domains.genomics.reading import Reading
from helixwave_domains.genomics.rows import AlleleRows, allele_cells
from helixwave_domains.genomics.scoring import Scorer
from helixwave_domains.genomics.store import STATUS, Column
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.variants import Allele
from helixwave_domains.genomics.windows import AlleleWindows


@dataclass(frozen=True)
class ScoreTask:
    """A table of scores: the cells of alleles, how many letters of the reference's window were read as unknown, scores.

    Args:
        rows: the alleles.
        reading: arguments of `Reading`.
        scoring: arguments of `Scorer`.
    """

    rows: AlleleRows
    reading: dict[str, Any]
    scoring: dict[str, Any]

    @property
    def inputs(self) -> dict[str, Path]:
        return self.rows.inputs

    def options(self, model: BothStrands) -> dict[str, Any]:
        scorer = self._scorer(model)
        scorer.reading.window(self.rows.window)
        return {"rows": self.rows.options, "scoring": scorer.options}

    def outline(self, model: BothStrands) -> tuple[list[Column], list[str]]:
        scores = [Column(name, "float64") for name in self._scorer(model).columns]
        return [*self.rows.columns, Column("unknown", "int64"), *scores], []

    def size(self) -> tuple[int, int]:
        return self.rows.size()

    def items(self) -> Iterator[tuple[Allele, AlleleWindows]]:
        return self.rows.alleles()

    def compute(self, items: Iterator[tuple[Allele, AlleleWindows]], model: BothStrands) -> Block:
        scorer = self._scorer(model)
        cells: list[dict[str, Any]] = []

        def pairs() -> Iterator[AlleleWindows]:
            for allele, windows in items:
                cells.append({**allele_cells(allele, windows), "unknown": count_iupac(windows.ref)})
                yield windows

        batches = list(scorer.batches(pairs()))
        columns: dict[str, Any] = {c.name: [row[c.name] for row in cells] for c in self.rows.columns}
        columns["unknown"] = [row["unknown"] for row in cells]
        columns |= {name: np.concatenate([batch.scores[name] for batch in batches]) for name in scorer.columns}
        columns[STATUS] = [str(status) for batch in batches for status in batch.status]
        return Block(columns, {})

    def _scorer(self, model: BothStrands) -> Scorer:
        return Scorer(Reading(model, **self.reading), **self.scoring)
