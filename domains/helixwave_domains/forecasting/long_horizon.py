"""The long-horizon benchmarks: their files, borders and protocol.

The protocol is that of Zeng et al. 2023 (LTSF-Linear, and of Autoformer and Informer): channels are standardised by the
training rows, windows of the validation and test parts read their context across the border, and errors are means over
all windows, steps and channels.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from helixwave.cards import read_card
from helixwave.errors import InputError, nearest
from numpy.typing import NDArray

from helixwave_domains.forecasting.window_statistics import Floats

# windows of a batch in the published evaluation, whose last, smaller one was left out
PUBLISHED_BATCH = 32


class Borders(NamedTuple):
    """Ends of the training, validation and test rows."""

    train: int
    validation: int
    test: int


def _months(per_hour: int) -> Callable[[int], Borders]:
    """12, 4 and 4 months of 30 days; what comes later is not used."""
    return lambda n: Borders(*(months * 30 * 24 * per_hour for months in (12, 16, 20)))


def _shares(n: int) -> Borders:
    """70 % to train and 20 % to test, both rounded down, and what is between to validate."""
    return Borders(int(n * 0.7), n - int(n * 0.2), n)


class Benchmark(NamedTuple):
    """A data set of the benchmarks.

    Args:
        card: its data card, None if it comes with sktime.
        file: the file of the card, or under sktime's data.
        borders: of so many rows.
        context: steps that the linear models read in the published table.
        horizons: the published ones.
    """

    card: str | None
    file: str
    borders: Callable[[int], Borders]
    context: int = 336
    horizons: tuple[int, ...] = (96, 192, 336, 720)


BENCHMARKS = {
    "ETTh1": Benchmark("ett", "ETTh1.csv", _months(1)),
    "ETTh2": Benchmark("ett", "ETTh2.csv", _months(1)),
    "ETTm1": Benchmark("ett", "ETTm1.csv", _months(4)),
    "ETTm2": Benchmark("ett", "ETTm2.csv", _months(4)),
    "electricity": Benchmark("electricity", "electricity.csv", _shares),
    "exchange_rate": Benchmark("exchange_rate", "exchange_rate.csv", _shares),
    "national_illness": Benchmark("national_illness", "national_illness.csv", _shares, 104, (24, 36, 48, 60)),
    "seatbelts": Benchmark(None, "seatbelts/seatbelts.csv", _shares, 24, (6, 12)),
    "traffic": Benchmark("traffic", "traffic.csv", _shares),
    "weather": Benchmark("weather", "weather.csv", _shares),
}


class LongHorizon:
    """A data set of the long-horizon benchmarks, standardised by its training rows.

    Args:
        dataset: a key of `BENCHMARKS`; `seatbelts`, monthly road casualties in Great Britain, comes with sktime.
        horizons: steps that are forecast, each by a model of its own; None: the published ones.
        drop_last: leave out the last test windows that fill no batch of 32, as the published figures do.
        file: a CSV file of your own, the time in its first column, in place of the published one.
    """

    def __init__(
        self,
        dataset: str = "seatbelts",
        *,
        horizons: Sequence[int] | None = None,
        drop_last: bool = False,
        file: str | None = None,
    ):
        if dataset not in BENCHMARKS:
            raise InputError(f"data.dataset: there is no {dataset!r}. {nearest(dataset, BENCHMARKS)}")
        self.dataset, self.benchmark, self.drop_last = dataset, BENCHMARKS[dataset], drop_last
        self.horizons = tuple(horizons or self.benchmark.horizons)
        path = _path(self.benchmark) if file is None else Path(file)
        y = _read(path)
        self.borders = self.benchmark.borders(len(y))
        if len(y) < self.borders.test or self.borders.train < 2:
            raise InputError(f"{path}: {len(y)} rows, and {dataset} takes {max(self.borders.test, 3)}")
        n_test = self.borders.test - self.borders.validation
        if wrong := [each for each in self.horizons if not 1 <= each <= n_test]:
            raise InputError(f"data.horizons: {wrong[0]}, expected 1 to {n_test}, the test rows of {dataset}")
        train = y.iloc[: self.borders.train]
        self.mean, self.deviation = train.mean(), train.std(ddof=0).replace(0, 1)
        self.y = ((y - self.mean) / self.deviation).iloc[: self.borders.test]
        self.classes = list(map(str, y.columns))

    @property
    def n_validation(self) -> int:
        """Validation rows, the last of those that a model is fitted to."""
        return self.borders.validation - self.borders.train

    def unscaled(self, values: Floats) -> Floats:
        """Standardised values `[T, C]` in the units of the file."""
        return values * self.deviation.to_numpy() + self.mean.to_numpy()

    def fitting_part(self) -> pd.DataFrame:
        """Training and validation rows."""
        return self.y.iloc[: self.borders.validation]

    def test_part(self, context: int) -> pd.DataFrame:
        """Test rows, and the context of the first of their windows before them."""
        return self.y.iloc[self.borders.validation - context :]

    @property
    def test_groups(self) -> dict[str, NDArray[np.bool_]]:
        """Which rows of the errors of all horizons belong to each."""
        counts = [len(self.y) - self.borders.validation - horizon + 1 for horizon in self.horizons]
        horizons = np.repeat(self.horizons, [self._kept(count) for count in counts])
        return {f"{horizon} steps": horizons == horizon for horizon in self.horizons}

    def errors(self, forecasts: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> Floats:
        """Mean squared and mean absolute error of each test window, `[n, 2]`, over its steps and channels."""
        each = [_errors(forecast - target) for forecast, target in forecasts]
        errors = np.concatenate(each)
        if not (kept := self._kept(len(errors))):
            raise InputError(
                f"{self.dataset}: drop_last leaves none of {len(errors)} windows. Set data.drop_last=false"
            )
        return errors[:kept]

    def _kept(self, count: int) -> int:
        """How many of so many test windows count."""
        return count // PUBLISHED_BATCH * PUBLISHED_BATCH if self.drop_last else count

    def describe(self) -> dict[str, Any]:
        """Sizes and protocol for the report."""
        return {
            "data set": self.dataset,
            "channels": len(self.classes),
            "rows to train on": self.borders.train,
            "rows to validate on": self.n_validation,
            "test rows": len(self.y) - self.borders.validation,
            "horizons": ", ".join(map(str, self.horizons)),
            "test windows": "those of whole batches of 32" if self.drop_last else "all",
        }


def _errors(difference: NDArray[np.floating]) -> Floats:
    squares = np.einsum("nhc,nhc->n", difference, difference)
    sums = np.stack([squares, np.abs(difference, out=difference).sum((1, 2))], axis=1)
    return sums.astype(np.float64) / difference[0].size


def _path(benchmark: Benchmark) -> Path:
    if benchmark.card is None:
        return Path(str(files("sktime.datasets") / "data" / benchmark.file))
    card = read_card(benchmark.card)
    if card.supplied:
        place = card.supplied[0].url
        raise InputError(f"{benchmark.file} is large and not fetched: it is at {place}. Give data.file=PATH")
    return card.file(benchmark.file)


def _read(path: Path) -> pd.DataFrame:
    """The numeric columns of a file whose first column is the time."""
    if not path.is_file():
        raise InputError(f"{path}: not there. Expected a CSV file whose first column is the time")
    try:
        frame = pd.read_csv(path, index_col=0, encoding="latin-1").drop(columns="label", errors="ignore")
        frame.index = pd.to_datetime(frame.index)
        return frame.astype(np.float64)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a table of numbers after a column of times ({error})") from error
