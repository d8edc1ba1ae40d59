"""What a command was asked for: the panel of a file, a forecaster for it, and what the manifest says of both."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from helixwave import __version__
from helixwave.console import console
from helixwave.errors import InputError
from rich.markup import escape

from helixwave_domains.forecasting.forecaster_settings import read_settings
from helixwave_domains.forecasting.frame_options import Cells, Columns, Repairs
from helixwave_domains.forecasting.frame_repairs import FrameRepair
from helixwave_domains.forecasting.frame_rows import read_frame
from helixwave_domains.forecasting.options import Model
from helixwave_domains.forecasting.panel_forecaster import PanelForecaster, build
from helixwave_domains.forecasting.panels import Panel

_PACKAGES = ("numpy", "pandas", "sktime", "torch")


@dataclass(frozen=True)
class Source:
    """What was read.

    Args:
        path: of the file.
        panel: its series.
        repaired: how much was repaired, by what it is.
        notes: what was taken for granted, or is odd.
    """

    path: Path
    panel: Panel
    repaired: dict[str, int]
    notes: list[str]


@dataclass(frozen=True)
class Request:
    """A forecast of the series of a file.

    Args:
        path: of the file.
        words: arguments of the model, as in `context=336`.
        model: what is forecast, and by what.
        columns: what the columns of the file are.
        cells: how they are read.
        repairs: what is done about flaws.
    """

    path: Path
    words: Sequence[str]
    model: Model
    columns: Columns
    cells: Cells
    repairs: Repairs

    def read(self, ahead: int) -> Source:
        """The series, with exogenous variables of so many steps behind them.

        Raises:
            InputError: the file cannot be read, or has a flaw that is not to be repaired.
        """
        with console.status(escape(f"reading {self.path.name}")):
            repair = FrameRepair(read_frame(self.path, self.columns, self.cells), self.repairs)
            return Source(self.path, repair.panel(ahead), repair.done, repair.notes)

    @property
    def name(self) -> str:
        """Of the forecaster."""
        return self.model.name or "nlinear"

    def season(self, source: Source, held_out: int = 0) -> int:
        """Steps of a season; where nobody says, that of the frequency, if each series has two of them to learn from."""
        if self.model.season is not None:
            return self.model.season
        guess, shortest = source.panel.frequency.season, min(map(len, source.panel.series)) - held_out
        if 2 * guess <= shortest:
            return guess
        source.notes.append(f"no season is assumed: a series has {shortest} steps, less than twice {guess}")
        return 1

    def forecaster(self, season: int) -> PanelForecaster:
        """A new one.

        Raises:
            InputError: an unknown name or argument, or it has no intervals and some are asked for.
        """
        forecaster = build(self.name, read_settings(self.name, self.words), season)
        if self.model.coverages and not forecaster.has_quantiles:
            raise InputError(f"{self.name} has no intervals. Leave out --interval, or take another --model")
        return forecaster

    def coverages(self, forecaster: PanelForecaster) -> list[float]:
        """Of central intervals."""
        return self.model.coverages or ([0.9] if forecaster.has_quantiles else [])

    def manifest(self, source: Source, forecaster: PanelForecaster, **options: Any) -> dict[str, Any]:
        """What a file was made from."""
        with self.path.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        columns = {**asdict(self.columns), "targets": list(source.panel.targets)}
        return {
            "inputs": {"frame": {"path": str(self.path), "size": self.path.stat().st_size, "sha256": checksum}},
            "model": {"name": forecaster.name, "arguments": forecaster.model.get_params(deep=False)},
            "options": {**columns, **asdict(self.cells), **asdict(self.repairs), **options},
            "repaired": source.repaired,
            "notes": source.notes,
            "versions": {"helixwave": __version__, **{name: version(name) for name in _PACKAGES}},
        }
