"""Windows by number against windows cut one by one."""

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting.windows import Batch, Windows
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close


def series(*lengths: int, C: int = 2) -> list[np.ndarray]:
    """Every number says its series, row and channel."""
    return [100 * i + np.arange(T)[:, None] + np.arange(C) / 10 for i, T in enumerate(lengths)]


def everything(windows: Windows) -> Batch:
    return windows.batch(np.arange(len(windows)))


def cut(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows from `start` to `stop`, NaN outside."""
    rows = [array[t] if 0 <= t < len(array) else np.full(array.shape[1], np.nan) for t in range(start, stop)]
    return np.array(rows).reshape(stop - start, array.shape[1])


def expect(windows: Windows, origins: list[tuple[int, int]], arrays: list[np.ndarray], L: int, H: int) -> None:
    assert len(windows) == len(origins)
    batch = everything(windows)
    for n, (i, origin) in enumerate(origins):
        for found, start, stop in ((batch.context[n], origin - L, origin), (batch.target[n], origin, origin + H)):
            expected = torch.from_numpy(cut(arrays[i], start, stop)).float()
            assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    L=st.integers(1, 5),
    H=st.integers(1, 4),
    missing=st.integers(0, 4),
)
def test_all_windows_in_order(lengths: list[int], L: int, H: int, missing: int) -> None:
    arrays, least = series(*lengths), max(L - missing, 1)
    origins = [(i, o) for i, T in enumerate(lengths) for o in range(least, T - H + 1)]
    expect(Windows(arrays, context=L, horizon=H, least_context=least), origins, arrays, L, H)


@given(first=st.integers(0, 14), stop=st.integers(0, 14))
def test_between_rows(first: int, stop: int) -> None:
    arrays = series(12, 3, 9)
    origins = [(i, o) for i, T in enumerate((12, 3, 9)) for o in range(3, T - 1) if first <= o and o + 2 <= stop]
    expect(Windows(arrays, context=3, horizon=2).between(first, stop), origins, arrays, 3, 2)


def test_borders_of_the_published_protocol() -> None:
    """ETTh: 12, 4 and 4 months of hours; contexts of validation and test reach into the part before."""
    windows = Windows([np.zeros((14400, 1))], context=336, horizon=96)
    parts = [windows.between(*rows) for rows in ((0, 8640), (8640, 11520), (11520, 14400))]
    assert [len(part) for part in parts] == [8209, 2785, 2785]


def test_split_has_no_target_on_both_sides() -> None:
    arrays = series(20, 8, 7, 40)
    train, validation = Windows(arrays, context=4, horizon=2).split(0.2)
    # the last 4, 2, 2 (at least the horizon) and 8 rows; series 2 would have no window left to train on
    expect(validation, [(0, 16), (0, 17), (0, 18), (1, 6), *((3, o) for o in range(32, 39))], arrays, 4, 2)
    kept = [*((0, o) for o in range(4, 15)), (1, 4), (2, 4), (2, 5), *((3, o) for o in range(4, 31))]
    expect(train, kept, arrays, 4, 2)
    targets = [set(everything(part).target.flatten().tolist()) for part in (train, validation)]
    assert not targets[0] & targets[1]


def test_latest_reads_the_end() -> None:
    arrays = series(6, 2)
    expect(Windows(arrays, context=4, horizon=3).latest(), [(0, 6), (1, 2)], arrays, 4, 3)


def test_exogenous_rows_go_along() -> None:
    arrays = series(6, 5)
    exogenous = [np.concatenate([array, [[7, 7.1]]]) for array in arrays]
    windows = Windows(arrays, context=3, horizon=2, exogenous=exogenous)
    batch = everything(windows)
    assert_close(batch.exogenous, torch.cat([batch.context, batch.target], 1))
    ahead = everything(windows.latest()).exogenous
    assert ahead is not None
    assert_close(ahead[:, 3], torch.tensor([[7, 7.1]] * 2))
    assert ahead[:, 4].isnan().all()


def test_missing_values_stay_missing() -> None:
    (array,) = series(6)
    array[2, 1] = np.nan
    expect(Windows([array], context=2, horizon=1), [(0, o) for o in range(2, 6)], [array], 2, 1)


def test_series_stand_once_in_memory() -> None:
    windows = Windows([np.zeros((1000, 2))], context=100, horizon=10)
    train, validation = windows.split(0.2)
    assert train.series is validation.series is windows.latest().series


@pytest.mark.parametrize(
    ("arrays", "exogenous", "message"),
    [
        ([], None, "no series, expected at least one"),
        ([np.zeros(3)], None, r"series 0 has shape \[3\], expected \[T, 3\]"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], None, r"series 1 has shape \[3, 1\], expected \[T, 2\]"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], None, "series 1 is empty"),
        ([np.array([[1.0], [np.inf]])], None, "series 0 has an infinite value in row 1"),
        ([np.zeros((3, 2))], [np.zeros((2, 1))], "exogenous 0 has 2 rows, expected at least the 3 of its series"),
        ([np.zeros((3, 2))], [np.zeros((3, 1))] * 2, "2 exogenous arrays for 1 series"),
    ],
)
def test_arrays_that_do_not_fit(arrays: list, exogenous: list | None, message: str) -> None:
    with pytest.raises(InputError, match=f"windows: {message}"):
        Windows(arrays, context=1, horizon=1, exogenous=exogenous)
