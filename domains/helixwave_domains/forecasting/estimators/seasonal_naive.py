"""The forecast that every other has to beat."""

from typing import Any, ClassVar

from sktime.forecasting.naive import NaiveForecaster


class SeasonalNaiveForecaster(NaiveForecaster):
    """The last value of the same season, again and again: sktime's `NaiveForecaster(strategy="last")`.

    Parameters
    ----------
    sp : int, default=1
        Steps of a season; 1 repeats the last value.

    Examples
    --------
    >>> from helixwave_domains.forecasting.estimators.seasonal_naive import SeasonalNaiveForecaster
    >>> from sktime.datasets import load_airline
    >>> SeasonalNaiveForecaster(sp=12).fit(load_airline(), fh=[1]).predict().item()
    417.0
    """

    _config: ClassVar[dict[str, Any]] = {"remember_data": False}

    def __init__(self, sp: int = 1):
        super().__init__(strategy="last", sp=sp)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        return [{}, {"sp": 3}]
