"""Shared by all tests."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings


def pytest_configure(config: pytest.Config) -> None:
    """Without a GPU, kernels in Triton run in its interpreter, which must be asked for before anything imports triton.

    A process that only hands out the tests to others loads no torch.
    """
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the collector of garbage need not look through it again."""
    gc.freeze()


# a busy machine is no error
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Messages that the library logs during a test.

    pytest's own plugin for that is off: it goes through all loggers of all packages six times a test.
    """
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("helixwave").addHandler(handler)
    yield messages
    logging.getLogger("helixwave").removeHandler(handler)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data that `HELIXWAVE_DATA` names."""
    named = os.environ.get("HELIXWAVE_DATA")
    if named:
        return Path(named)
    reason = "HELIXWAVE_DATA is not set: real data are needed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI runs every test. Run `helixwave data fetch` and set it to that folder")
    pytest.skip(reason)
