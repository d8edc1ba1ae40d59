"""Forecasting: the linear family solved exactly, Informer, every backbone; sktime estimators and a command line."""

from importlib import import_module
from typing import Any

_ESTIMATORS = {
    "BackboneClassifier": "classifier",
    "BackboneForecaster": "backbone",
    "DLinearForecaster": "linear",
    "InformerForecaster": "informer",
    "LinearEnsembleForecaster": "linear",
    "LinearForecaster": "linear",
    "NLinearForecaster": "linear",
}
__all__ = sorted(_ESTIMATORS)


def __getattr__(name: str) -> Any:
    """The estimators, imported at first use: sktime and torch take seconds."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.estimators.{_ESTIMATORS[name]}"), name)
