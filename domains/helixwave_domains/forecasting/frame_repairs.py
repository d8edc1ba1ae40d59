"""From rows of a file to series on a grid: each flaw is repaired as the user says, or refused with its row."""

from collections import Counter
from dataclasses import replace
from typing import NoReturn

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.forecasting.frame_options import Repairs
from helixwave_domains.forecasting.frame_rows import Frame, Rows
from helixwave_domains.forecasting.panels import Floats, NamedSeries, Panel
from helixwave_domains.forecasting.row_groups import joined
from helixwave_domains.forecasting.time_grid import Frequency, shown


class FrameRepair:
    """Makes a panel of the series of a file.

    Args:
        frame: the series.
        repairs: what is done about flaws.

    Attributes:
        notes: what was taken for granted, or is odd and was left as it is.
    """

    def __init__(self, frame: Frame, repairs: Repairs):
        self.frame, self.how = frame, repairs
        self._counts: Counter[str] = Counter({"cells of text made missing": frame.table.made_missing})
        self.notes = list(frame.table.notes)

    @property
    def done(self) -> dict[str, int]:
        """How much was repaired, by what it is."""
        return {what: count for what, count in self._counts.items() if count}

    def panel(self, horizon: int) -> Panel:
        """Series on one grid, with exogenous variables of `horizon` steps behind their ends.

        Raises:
            InputError: a flaw that is to be no error, or that nothing can be done about.
        """
        rows = [self._once(self._ordered(each)) for each in self.frame.series]
        frequency = self._frequency(rows)
        if self.how.resample:
            rows = [self._resampled(each, frequency) for each in rows]
        rows = [self._without_gaps(self._on_grid(each, frequency), frequency) for each in rows]
        lengths = self._lengths(rows, frequency)
        rows = [self._up_to(each, length, frequency) for each, length in zip(rows, lengths, strict=True)]
        series = [self._series(each, length, horizon) for each, length in zip(rows, lengths, strict=True)]
        if (longest := max(lengths)) <= horizon:
            which = "the series" if len(series) == 1 else "the longest series"
            raise InputError(
                f"{self.frame.table.path}: {which} has {longest} steps, expected more than the {horizon} that are "
                "to be forecast. Take a shorter --horizon"
            )
        columns = self.frame.columns
        self._note_constant(series, columns.targets)
        return Panel(series, columns.targets, [*columns.exogenous, *columns.static], frequency)

    def _refuse(self, rows: Rows, index: int, what: str) -> NoReturn:
        raise InputError(f"{self.frame.where(rows, index)}: {what}")

    def _ordered(self, rows: Rows) -> Rows:
        back = np.flatnonzero(rows.times[1:] < rows.times[:-1]) + 1
        if not len(back):
            return rows
        if not self.how.sort:
            i = back[0]
            before = f"{shown(rows.times[i])} comes after {shown(rows.times[i - 1])}"
            self._refuse(rows, i, f"{before}, expected times in ascending order. Add --sort{self._or_id()}")
        order = np.argsort(rows.times, kind="stable")
        self._counts["rows sorted"] += int((order != np.arange(len(rows))).sum())
        return rows.take(order)

    def _or_id(self) -> str:
        return ", or --id COLUMN if there are several series" if self.frame.columns.id is None else ""

    def _once(self, rows: Rows) -> Rows:
        again = np.flatnonzero(rows.times[1:] == rows.times[:-1]) + 1
        if not len(again):
            return rows
        if self.how.duplicates == "error":
            i = again[0]
            first = self.frame.table.where(int(rows.numbers[i - 1])).rpartition(", ")[2]
            what = f"{shown(rows.times[i])} stands in {first} too, expected each time once"
            self._refuse(rows, i, f"{what}. Add --duplicates first, last or mean{self._or_id()}")
        self._counts["rows of a time that was there already"] += len(again)
        starts = np.setdiff1d(np.arange(len(rows)), again)
        if self.how.duplicates == "last":
            return rows.take(np.append(starts[1:], len(rows)) - 1)
        return joined(rows, starts, "mean") if self.how.duplicates == "mean" else rows.take(starts)

    def _frequency(self, rows: list[Rows]) -> Frequency:
        for each in rows:
            if len(each) == 1:
                self._refuse(each, 0, "the only row of its series, expected at least two")
        if self.how.frequency is None:
            if self.how.resample:
                raise InputError("--resample makes steps of a length. Add --freq, as in --freq D")
            return Frequency.guess([each.times for each in rows])
        frequency = Frequency.parse(self.how.frequency)
        longest = max(rows, key=len)
        if (frequency.unit == "n") != (longest.times.dtype.kind != "M"):
            kind = "a number, and times are not" if frequency.unit == "n" else "a time, and times are whole numbers"
            raise InputError(f"{self.frame.table.path}: --freq {self.how.frequency} is {kind}")
        return frequency if self.how.resample else frequency.anchored(longest.times[0])

    def _resampled(self, rows: Rows, frequency: Frequency) -> Rows:
        assert self.how.resample is not None
        positions, starts, sizes = np.unique(frequency.positions(rows.times), return_index=True, return_counts=True)
        self._counts[f"rows made into steps of {frequency}"] += len(rows)
        usual = np.bincount(sizes).argmax()
        if sizes[-1] < usual:
            last = shown(frequency.labels(positions[-1:])[0])
            self.notes.append(
                f"the last step, {last}{self.frame.of(rows)}, has {sizes[-1]} rows where most have {usual}"
            )
        return replace(joined(rows, starts, self.how.resample), times=frequency.labels(positions))

    def _on_grid(self, rows: Rows, frequency: Frequency) -> Rows:
        off = frequency.labels(frequency.positions(rows.times)) != rows.times
        if off.any():
            i = int(off.argmax())
            before, after = map(shown, frequency.labels(frequency.positions(rows.times[i : i + 1]) + np.arange(2)))
            what = f"{shown(rows.times[i])} lies between two steps of {frequency}, {before} and {after}"
            self._refuse(rows, i, f"{what}. Add --freq and --resample mean, sum or last")
        return rows

    def _without_gaps(self, rows: Rows, frequency: Frequency) -> Rows:
        positions = frequency.positions(rows.times)
        gaps = np.flatnonzero(np.diff(positions) > 1) + 1
        if not len(gaps):
            return rows
        if self.how.gaps == "error":
            i = gaps[0]
            count = _steps(int(positions[i] - positions[i - 1]) - 1, frequency)
            what = f"between {shown(rows.times[i - 1])} and {shown(rows.times[i])} there is no row for {count}"
            advice = "Add --gaps fill with --missing interpolate or keep, or --freq with --resample"
            self._refuse(rows, i, f"{what} (gap 1 of {len(gaps)}). {advice}")
        return self._spread(
            rows, positions - positions[0], frequency.labels(np.arange(positions[0], positions[-1] + 1))
        )

    def _spread(self, rows: Rows, places: NDArray[np.int64], times: NDArray) -> Rows:
        """Rows at their places among steps that are missing."""
        self._counts["steps added with missing values"] += len(times) - len(rows)

        def spread(values: Floats) -> Floats:
            wide = np.full((len(times), values.shape[1]), np.nan)
            wide[places] = values
            return wide

        numbers = np.full(len(times), -1)
        numbers[places] = rows.numbers
        static = np.repeat(rows.static[:1], len(times), axis=0)
        static[places] = rows.static
        return Rows(rows.name, numbers, times, spread(rows.values), spread(rows.exogenous), static)

    def _lengths(self, rows: list[Rows], frequency: Frequency) -> list[int]:
        """How many steps of each series have come: the others have exogenous variables alone."""
        has_future = bool(self.frame.columns.exogenous)
        lengths = [_known_length(each) if has_future else len(each) for each in rows]
        for each, length in zip(rows, lengths, strict=True):
            if length < 2:
                self._refuse(each, 0, f"its series has {length} rows with a target, expected at least two")
        ends = np.asarray([frequency.positions(r.times[n - 1 : n])[0] for r, n in zip(rows, lengths, strict=True)])
        early = ends.max() - ends
        if not early.any() or self.how.ends == "own":
            return lengths
        if self.how.ends == "error":
            i = int(early.argmax())
            end = shown(rows[i].times[lengths[i] - 1])
            what = f"its series ends at {end}, {_steps(int(early[i]), frequency)} before the last one"
            self._refuse(rows[i], lengths[i] - 1, f"{what}. Add --ends own (forecasts from there) or --ends missing")
        return [length + int(missing) for length, missing in zip(lengths, early, strict=True)]

    def _up_to(self, rows: Rows, length: int, frequency: Frequency) -> Rows:
        """A series with at least so many steps."""
        if len(rows) >= length:
            return rows
        first = frequency.positions(rows.times[:1])[0]
        return self._spread(rows, np.arange(len(rows)), frequency.labels(first + np.arange(length)))

    def _series(self, rows: Rows, length: int, horizon: int) -> NamedSeries:
        columns = self.frame.columns
        if columns.exogenous and len(rows) < length + horizon:
            last = len(rows) - length
            what = f"{last} of the {horizon} steps to be forecast have a row with {', '.join(columns.exogenous)}"
            self._refuse(rows, len(rows) - 1, f"{what}. Add rows for all, with empty targets")
        empty = np.isnan(rows.values[:length]).all(0)
        if empty.any():
            names = ", ".join(np.asarray(columns.targets)[empty])
            raise InputError(
                f"{self.frame.table.path}: {names}{self.frame.of(rows)} has no value. Name others with --target"
            )
        values = self._complete(rows, rows.values[:length], columns.targets)
        exogenous = self._complete(rows, rows.exogenous[: length + horizon], columns.exogenous)
        static = np.broadcast_to(self._static(rows), (length + horizon, len(columns.static)))
        wide = np.concatenate([exogenous if columns.exogenous else static[:, :0], static], axis=1)
        return NamedSeries(rows.name, rows.times[:length], values, wide)

    def _complete(self, rows: Rows, values: Floats, names: tuple[str, ...]) -> Floats:
        missing = np.isnan(values)
        if not missing.any():
            return values
        if self.how.missing == "error":
            row, column = (int(i) for i in np.argwhere(missing)[0])
            what = f"{names[column]} at {shown(rows.times[row])} is missing ({missing.sum()} are, of {missing.size})"
            self._refuse(rows, row, f"{what}. Add --missing interpolate, or keep if the model takes missing values")
        self._counts[f"missing values {'kept' if self.how.missing == 'keep' else 'interpolated'}"] += int(missing.sum())
        return values if self.how.missing == "keep" else _interpolated(values)

    def _static(self, rows: Rows) -> Floats:
        wrong = ~(rows.static == rows.static[0])
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            name, value = self.frame.columns.static[column], rows.static[row, column]
            what = "is missing" if np.isnan(value) else f"is {value:g} and was {rows.static[0, column]:g} before"
            self._refuse(
                rows, row, f"{name} {what}, expected one number in all rows of a series. Take --exog for others"
            )
        return rows.static[0]

    def _note_constant(self, series: list[NamedSeries], names: tuple[str, ...]) -> None:
        found = [
            (names[c], each)
            for each in series
            for c in np.flatnonzero(np.nanmin(each.values, 0) == np.nanmax(each.values, 0))
        ]
        if found:
            name, each = found[0]
            of = f" of series {each.name!r}" if len(series) > 1 else ""
            more = f", and {len(found) - 1} other columns are" if len(found) > 1 else ""
            self.notes.append(f"{name}{of} is constant{more}")


def _steps(count: int, frequency: Frequency) -> str:
    unit = "" if str(frequency) == "1" else f" of {frequency}"
    return f"{count} step{'s' * (count != 1)}{unit}"


def _known_length(rows: Rows) -> int:
    """Steps up to the last that has a target."""
    known = np.flatnonzero(~np.isnan(rows.values).all(1))
    return int(known[-1]) + 1 if len(known) else 0


def _interpolated(values: Floats) -> Floats:
    """Missing values between others by interpolation, at the ends the nearest."""
    steps = np.arange(len(values))
    columns = []
    for column in values.T:
        known = ~np.isnan(column)
        columns.append(np.interp(steps, steps[known], column[known]) if known.any() else column)
    return np.stack(columns, axis=1)
