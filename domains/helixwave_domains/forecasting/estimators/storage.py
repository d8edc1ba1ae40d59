"""Fitted forecasters as folders, `config.json` and `model.safetensors`: nothing in them can run code.

A forecaster is read back by fitting a new one to the remembered end of its series, with what was learnt in place of
learning: all that sktime keeps of a fit comes from sktime.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from helixwave.checkpoint import load_tensors, save_tensors
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.registry import FORECASTERS
from numpy.typing import NDArray

from helixwave_domains.forecasting.estimators.forecaster import WindowForecaster, learnt

FORMAT = "helixwave-forecaster-1"
CONFIG, TENSORS = "config.json", "model.safetensors"


def save_forecaster(forecaster: WindowForecaster, folder: Path | str) -> None:
    """Write a fitted forecaster; what lies in the folder under the same names is replaced.

    Raises:
        InputError: it is not fitted, is not one of the registered, or a parameter is no JSON.
    """
    folder = Path(folder)
    if not forecaster.is_fitted:
        raise InputError(f"{type(forecaster).__name__} is not fitted: there is nothing to save")
    name = next((each for each in FORECASTERS if FORECASTERS[each] is type(forecaster)), None)
    if name is None:
        raise InputError(
            f"{type(forecaster).__name__} is not registered: add it to the entry points helixwave.forecasters"
        )
    frame = _History.of(forecaster)
    config = {
        "format": FORMAT,
        "forecaster": {"name": name, **forecaster.get_params(deep=False)},
        "horizon": np.asarray(forecaster.fh.to_relative(forecaster.cutoff).to_pandas()).tolist(),
        **frame.outline,
    }
    try:
        text = json.dumps(config, indent=1)
    except TypeError as error:
        raise InputError(f"{type(forecaster).__name__} has a parameter that is no JSON: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {**forecaster._given(), **frame.arrays}
    tensors = {key: torch.from_numpy(np.array(each, order="C")) for key, each in arrays.items()}
    save_tensors(tensors, folder / TENSORS)
    with atomic_write(folder / CONFIG) as f:
        f.write(text + "\n")


def load_forecaster(folder: Path | str) -> Any:
    """The forecaster of `save_forecaster`, ready to predict: bit by bit what the saved one says.

    Raises:
        InputError: no such folder, another format, or a damaged file.
    """
    folder = Path(folder)
    config = _config(folder / CONFIG)
    arrays = {name: tensor.numpy() for name, tensor in load_tensors(folder / TENSORS).items()}
    FORECASTERS.check(str(folder / CONFIG), config["forecaster"])
    forecaster = FORECASTERS.build(config["forecaster"])
    try:
        y, X = _History(config, arrays).frames()
        with learnt(arrays):
            forecaster.fit(y, X=X, fh=config["horizon"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: not what save_forecaster writes ({error!r}). Save it again") from error
    return forecaster


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: not there. Expected a folder that save_forecaster wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}). The file is damaged; copy it again") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: format {found!r}, this version reads {FORMAT!r}")
    return dict(config)


class _History(NamedTuple):
    """The remembered end of a forecaster's series, as what JSON can hold and as arrays."""

    outline: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, forecaster: WindowForecaster) -> "_History":
        series = list(forecaster.histories_.values())
        parts = {"values": [s.values for s in series], "exogenous": [s.exogenous for s in series]}
        arrays = {f"history.{name}": np.concatenate(each) for name, each in parts.items()}
        arrays["history.times"] = np.concatenate([_numbers(s.times) for s in series])
        outline = {
            "keys": [list(s.key) for s in series],
            "lengths": [len(s) for s in series],
            "columns": list(forecaster._get_varnames()),
            "exogenous": forecaster.exogenous_names_,
            "index_names": forecaster.index_names_,
            "time": _kind_of_time(series[0].times),
            "one_column": forecaster._y_mtype_last_seen == "pd.Series",
        }
        return cls(outline, arrays)

    def frames(self) -> tuple[Any, pd.DataFrame | None]:
        """y and X as they were given to the fit."""
        index = self._index()
        y: Any = pd.DataFrame(self.arrays["history.values"], index=index, columns=self.outline["columns"])
        X = pd.DataFrame(self.arrays["history.exogenous"], index=index, columns=self.outline["exogenous"])
        if self.outline["one_column"]:
            # sktime calls the column of a series without a name 0
            name = self.outline["columns"][0]
            y = y[name].rename(None if name == 0 else name)
        return y, X if len(X.columns) else None

    def _index(self) -> pd.Index:
        names, keys = self.outline["index_names"], self.outline["keys"]
        times = _times(self.arrays["history.times"], self.outline["time"])
        if not keys[0]:
            return times.rename(names[0])
        rows = [key for key, length in zip(keys, self.outline["lengths"], strict=True) for _ in range(length)]
        return pd.MultiIndex.from_arrays([*zip(*rows, strict=True), times], names=names)


def _kind_of_time(times: pd.Index) -> dict[str, Any]:
    if isinstance(times, pd.DatetimeIndex):
        zone = None if times.tz is None else str(times.tz)
        return {"kind": "datetime", "unit": times.unit, "zone": zone, "freq": times.freqstr or pd.infer_freq(times)}
    return {"kind": "period", "freq": times.freqstr} if isinstance(times, pd.PeriodIndex) else {"kind": "number"}


def _numbers(times: pd.Index) -> NDArray[np.int64]:
    return np.asarray(times.asi8 if isinstance(times, pd.DatetimeIndex | pd.PeriodIndex) else times, dtype=np.int64)


def _times(numbers: NDArray[np.int64], kind: dict[str, Any]) -> pd.Index:
    if kind["kind"] == "datetime":
        index = pd.DatetimeIndex(numbers.view(f"M8[{kind['unit']}]"))
        index = index.tz_localize("UTC").tz_convert(kind["zone"]) if kind["zone"] else index
        return pd.DatetimeIndex(index, freq=kind["freq"]) if index.is_unique and len(index) > 2 else index
    return pd.PeriodIndex.from_ordinals(numbers, freq=kind["freq"]) if kind["kind"] == "period" else pd.Index(numbers)
