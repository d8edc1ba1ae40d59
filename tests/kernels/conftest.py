"""Triton's interpreter, without the third of its time that changes nothing."""

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _language_prepared_once_a_launch() -> Iterator[None]:
    """Triton's own interpreter does it at each call in a kernel; the first of a module's functions is enough."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("TRITON_INTERPRET"):
            prepare_once(pytest.importorskip("triton.runtime.interpreter"), patch)
        yield


def prepare_once(interpreter: Any, patch: pytest.MonkeyPatch) -> None:
    launch, call = interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__
    prepared: set[str] = set()

    def launch_anew(executor: Any, *args: Any, **kwargs: Any) -> None:
        prepared.clear()
        launch(executor, *args, **kwargs)

    def call_in_kernel(function: Any, *args: Any, **kwargs: Any) -> Any:
        if function.fn.__module__ in prepared:
            return function.rewrite()(*args, **kwargs)
        prepared.add(function.fn.__module__)
        return call(function, *args, **kwargs)

    patch.setattr(interpreter.GridExecutor, "__call__", launch_anew)
    patch.setattr(interpreter.InterpretedFunction, "__call__", call_in_kernel)
