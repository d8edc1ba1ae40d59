"""sktime's own checks; `make check-sktime` runs them on every estimator."""

import pytest
from helixwave_domains.forecasting.estimators.sktime_checks import check


def test_passes_all_checks_of_sktime():
    found = check("NLinearForecaster", 1)
    assert not found.failures
    assert found.n_check > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NLinearForecaster", "BackboneForecaster"])
def test_passes_them_with_all_parameters(name):
    found = check(name)
    assert not found.failures
    assert found.n_check > 400
