"""sktime's own checks; `make check-sktime` runs them on every estimator."""

import pytest
from helixwave_domains.forecasting.estimators.sktime_checks import check


@pytest.mark.parametrize("name", ["NLinearForecaster", "BackboneForecaster"])
def test_passes_all_checks_of_sktime(name):
    found = check(name)
    assert not found.failures
    assert found.n_check > 200
