"""What least squares needs to know of all windows of a series: their second moments, by one Fourier transform.

A window is `v = (x_t, ..., x_{t+W-1})`. Over the n windows of a series of length T the Gram matrix obeys

    S[i+1, j+1] = S[i, j] - x_i x_j + x_{n+i} x_{n+j},

so that its first row, a correlation, gives all of it in O(T log T + W^2), where the product of the windows with
themselves takes O(T W^2). Grams add over series, shards and updates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# series whose transforms are in memory at once
AT_ONCE = 256


@dataclass(frozen=True)
class WindowStatistics:
    """Second moments of `(1, v)` summed over windows.

    v holds the window of each variable in turn: the series first, then its exogenous variables.

    Args:
        width: W, steps of a window.
        moments: `[1 + V W, 1 + V W]`; the first entry is the number of windows.
    """

    width: int
    moments: Floats

    @property
    def count(self) -> int:
        """The number of windows."""
        return round(float(self.moments[0, 0]))

    @property
    def n_variable(self) -> int:
        return (len(self.moments) - 1) // self.width

    def __add__(self, other: "WindowStatistics") -> "WindowStatistics":
        """The statistics of the windows of both."""
        if (self.width, self.moments.shape) != (other.width, other.moments.shape):
            raise ValueError(
                f"statistics of {self.n_variable} variables in windows of {self.width} steps cannot be added to those "
                f"of {other.n_variable} in windows of {other.width}"
            )
        return WindowStatistics(self.width, self.moments + other.moments)

    def per_window(self) -> Floats:
        """Means instead of sums."""
        if not self.count:
            raise ValueError(f"no series is as long as a window of {self.width} steps")
        return self.moments / self.moments[0, 0]


def no_windows(width: int, n_variable: int = 1) -> WindowStatistics:
    """The statistics of nothing, to add to."""
    return WindowStatistics(width, np.zeros((1 + n_variable * width,) * 2))


def window_statistics(series: Iterable[Floats], width: int) -> WindowStatistics:
    """The statistics of all windows of some series.

    Args:
        series: arrays `[T, V]` of any lengths, without missing values; columns are the variables. What is shorter than
            a window has none.
        width: W.
    """
    total, waiting = None, list[Floats]()
    for each in series:
        waiting.append(each)
        if len(waiting) == AT_ONCE or len(each) != len(waiting[0]):
            *full, last = waiting
            ready, waiting = (waiting, []) if len(each) == len(waiting[0]) else (full, [last])
            total = _added(total, ready, width)
    if waiting:
        total = _added(total, waiting, width)
    if total is None:
        raise ValueError("no series was given")
    return total


def _added(total: WindowStatistics | None, series: Sequence[Floats], width: int) -> WindowStatistics:
    found = _of_equal_length(np.stack(series), width)
    return found if total is None else total + found


def _of_equal_length(x: Floats, width: int) -> WindowStatistics:
    """Statistics over a stack `[B, T, V]`."""
    n_series, T, V = x.shape
    n = T - width + 1
    if n < 1:
        return no_windows(width, V)
    moments = np.empty((1 + V * width,) * 2)
    moments[0, 0] = n * n_series
    moments[0, 1:] = moments[1:, 0] = _window_sums(x, n, width).T.ravel()
    gram = moments[1:, 1:].reshape(V, width, V, width)  # a view
    head, tail = (part.transpose(1, 2, 0) for part in (x[:, : width - 1], x[:, n:]))  # [W - 1, V, B]
    correlations = _correlations(x, n, width)
    for a in range(V):
        for b in range(a, V):
            block = _gram(correlations[a, b], correlations[b, a], tail[:, a] @ tail[:, b].T - head[:, a] @ head[:, b].T)
            gram[a, :, b], gram[b, :, a] = block, block.T
    return WindowStatistics(width, moments)


def _window_sums(x: Floats, n: int, width: int) -> Floats:
    """Sums over windows of each step of them, `[W, V]`."""
    total = x.sum(0)
    sums = np.concatenate([np.zeros((1, x.shape[2])), total.cumsum(0)])
    return sums[n : n + width] - sums[:width]


def _correlations(x: Floats, n: int, width: int) -> Floats:
    """`sum_t a_t b_{t+j}` over t < n, for each pair of variables, summed over series: `[V, V, W]`."""
    size = _fast_length(x.shape[1] + n)
    starts, whole = np.fft.rfft(x[:, :n], size, axis=1), np.fft.rfft(x, size, axis=1)
    products = np.einsum("bfv,bfw->vwf", starts.conj(), whole, optimize=True)
    return np.fft.irfft(products, size, axis=-1)[..., :width]


def _fast_length(least: int) -> int:
    """The next length of the form 2^k, 3 2^k or 5 2^k, which transforms are fast at."""
    power = 1 << (least - 1).bit_length()
    return min(size for size in (power, power // 4 * 3, power // 8 * 5) if size >= least)


def _gram(row: Floats, column: Floats, step: Floats) -> Floats:
    """A block from its first row and column and from what comes in and goes out at each step, `[W - 1, W - 1]`."""
    gram = np.empty((len(row),) * 2)
    gram[0], gram[:, 0] = row, column
    for i in range(len(step)):
        np.add(gram[i, :-1], step[i], out=gram[i + 1, 1:])
    return gram
