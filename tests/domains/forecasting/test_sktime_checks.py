"""sktime's own checks; `make check-sktime` runs them on every estimator."""

import pytest
from helixwave_domains.forecasting.estimators.sktime_checks import check

# a third of a network's time; on a linear forecaster they run each time
FITS_MOST = ["test_update_predict_predicted_index", "test_predict_time_index_with_X"]


@pytest.mark.parametrize(
    ("name", "place", "without"), [("NLinearForecaster", 1, []), ("BackboneForecaster", 0, FITS_MOST)]
)
def test_passes_all_checks_of_sktime(name, place, without):
    found = check(name, place, without)
    assert not found.failures
    assert found.n_check > 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NLinearForecaster", "BackboneForecaster"])
def test_passes_them_with_all_parameters(name):
    found = check(name)
    assert not found.failures
    assert found.n_check > 400
