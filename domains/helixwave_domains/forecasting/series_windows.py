"""Series for training by steps: a forecast is asked for at each position, and judged at the end of each test window."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from helixwave.data import Example, Picture
from helixwave.errors import InputError
from helixwave.files import write_table
from numpy.typing import NDArray
from torch import Tensor

from helixwave_domains.forecasting.long_horizon import LongHorizon

Values = NDArray[np.float32]


class SeriesWindows:
    """Stretches of a series of several channels, with the next values of all channels behind each position.

    Inputs are `[T, C]`, standardised by the training rows, and targets `[T, horizon * C]`, step after step; NaN is not
    scored. Training stretches lie in the training rows, and every position is scored as far as these reach. Of the
    windows of the validation and test parts only the last position is scored, so that errors are those of the protocol
    of Zeng et al., "Are Transformers Effective for Time Series Forecasting?", 2023, section 5.1: context is read across
    a border, and each window of a part counts the same.

    Args:
        dataset: a key of `BENCHMARKS`; `seatbelts`, monthly road casualties in Great Britain, comes with sktime.
        file: a CSV file of your own, the time in its first column, in place of the published one.
        context: positions of a stretch.
        horizon: values of each channel that are forecast.
        stride: rows between training stretches; in training each begins up to so many rows later, at random.

    Raises:
        InputError: no such file or data set, or too few rows for a stretch or a window.
    """

    def __init__(
        self,
        dataset: str = "seatbelts",
        *,
        file: str | None = None,
        context: int = 48,
        horizon: int = 12,
        stride: int = 1,
    ):
        for name, value in (("context", context), ("horizon", horizon), ("stride", stride)):
            if value < 1:
                raise InputError(f"data.{name}: {value}, expected at least 1")
        self.series = LongHorizon(dataset, file=file, horizons=[horizon])
        self.context, self.horizon = context, horizon
        rows, borders = np.array(self.series.y, np.float32), self.series.borders
        if borders.train < context + 1:
            raise InputError(f"data.context: {context}, expected less than the {borders.train} training rows")
        if self.series.n_validation < horizon:
            raise InputError(
                f"data.horizon: {horizon}, expected at most the {self.series.n_validation} validation rows"
            )
        self.classes = [f"{channel} +{step}" for step in range(1, horizon + 1) for channel in self.series.classes]
        self.reads = {"channels": rows.shape[1]}
        self.train = Stretches(rows[: borders.train], context, horizon, stride)
        self.validation = Windows(rows[: borders.validation], borders.train, context, horizon)
        self.test = Windows(rows, borders.validation, context, horizon)

    def describe(self) -> dict[str, Any]:
        """Sizes and protocol for the report."""
        sizes = {"training stretches": len(self.train), "test windows": len(self.test)}
        facts = self.series.describe() | {"context": self.context, **sizes}
        return {name: fact for name, fact in facts.items() if name != "horizons"} | {"horizon": self.horizon}

    def export(self, model: Any, folder: Path) -> list[Picture]:
        """Write `forecast.tsv`: what follows the last row, in the units of the file."""
        last = torch.from_numpy(self.test.rows[-self.context :])[None]
        device = next(model.parameters()).device
        with torch.inference_mode():
            outputs = model(last.to(device), torch.tensor([last.shape[1]], device=device))[0, -1].cpu()
        forecast = self.series.unscaled(outputs.double().numpy().reshape(self.horizon, -1))
        columns = dict(zip(self.series.classes, forecast.T, strict=True))
        write_table(folder / "forecast.tsv", {"step": range(1, self.horizon + 1), **columns})
        return []


class Stretches:
    """Stretches of training rows; the values after the last of them are not known."""

    padding: int | float = 0.0

    def __init__(self, rows: Values, context: int, horizon: int, stride: int):
        self.rows, self.context, self.stride = rows, context, stride
        self.following = following(rows, horizon)

    def __len__(self) -> int:
        # the last stretch has one position at least whose next value is a training row
        return (len(self.rows) - self.context - 1) // self.stride + 1

    def length(self, index: int) -> int:
        return self.context

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        later = 0 if rng is None else int(rng.integers(self.stride))
        start = min(index * self.stride + later, len(self.rows) - self.context)
        part = slice(start, start + self.context)
        return {"inputs": self.rows[part], "target": self.following[part]}


class Windows:
    """Windows whose forecasts lie behind a border; all but their last position is not scored.

    Args:
        rows: up to the end of the part.
        border: the first row that is forecast.
    """

    padding: int | float = 0.0

    def __init__(self, rows: Values, border: int, context: int, horizon: int):
        self.rows, self.border, self.context, self.horizon = rows, border, context, horizon

    def __len__(self) -> int:
        return len(self.rows) - self.border - self.horizon + 1

    def length(self, index: int) -> int:
        return self.context

    def example(self, index: int, rng: np.random.Generator | None) -> Example:
        origin = self.border + index
        inputs = self.rows[origin - self.context : origin]
        target = np.full((len(inputs), self.horizon * self.rows.shape[1]), np.nan, np.float32)
        target[-1] = self.rows[origin : origin + self.horizon].ravel()
        return {"inputs": inputs, "target": target}


class SeasonalNaive:
    """The last season of the context, again and again.

    Args:
        season: its steps; 1 is the last value.
    """

    def __init__(self, season: int = 1):
        if season < 1:
            raise InputError(f"baseline: season is {season}, expected at least 1")
        self.season = season
        self.description = f"the last {season} steps again and again" if season > 1 else "the last value"

    def predict(self, source: SeriesWindows) -> tuple[Tensor, Tensor]:
        """Forecasts and values of all test windows, `[M, horizon * C]`."""
        if self.season > source.context:
            raise InputError(f"baseline.season: {self.season}, expected at most data.context, {source.context}")
        examples = [source.test.example(i, None) for i in range(len(source.test))]
        again = np.arange(source.horizon) % self.season - self.season
        made = np.stack([example["inputs"][again].ravel() for example in examples])
        return torch.from_numpy(made), torch.from_numpy(np.stack([np.asarray(each["target"])[-1] for each in examples]))


def following(rows: Values, horizon: int) -> Values:
    """The next values behind each row, `[T, C]` -> `[T, horizon * C]`; NaN beyond the end."""
    T, C = rows.shape
    beyond = np.concatenate([rows[1:], np.full((horizon, C), np.nan, np.float32)])
    return np.stack([beyond[step : step + T] for step in range(horizon)], axis=1).reshape(T, horizon * C)
