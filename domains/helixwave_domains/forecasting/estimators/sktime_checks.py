"""sktime's own checks of our estimators: how many pass, and what they take.

python -m helixwave_domains.forecasting.estimators.sktime_checks NLinearForecaster BackboneForecaster
"""

import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from sktime.utils.estimator_checks import check_estimator

import helixwave_domains.forecasting as forecasting


class Checked(NamedTuple):
    """Checks by name that failed, with what was raised, and how many there were.

    Args:
        seconds: of cpu time.
    """

    n_check: int
    failures: dict[str, Any]
    seconds: float


def check(name: str, place: int | None = None) -> Checked:
    """Run sktime's checks on an estimator of ours.

    Args:
        place: of the only set of its `get_test_params` that is checked; None: all of them.
    """
    estimator = getattr(forecasting, name)
    if place is not None:
        estimator = estimator(**estimator.get_test_params()[place])
    began = time.process_time()
    with warnings.catch_warnings():
        # what sktime tells of its own future
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, raise_exceptions=False, verbose=False)
    failures = {check: result for check, result in results.items() if result != "PASSED"}
    return Checked(len(results), failures, time.process_time() - began)


def main(names: Sequence[str]) -> int:
    """Check the estimators named, or all; the exit code is 1 if anything fails."""
    failed = False
    for name in names or forecasting.__all__:
        found = check(name)
        passed = found.n_check - len(found.failures)
        print(f"{name}: {passed} of {found.n_check} pass, {found.seconds:.0f} s cpu", flush=True)
        for failure, error in found.failures.items():
            print(f"  {failure}: {error!r}")
        failed |= bool(found.failures)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
