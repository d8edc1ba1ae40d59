"""Options that several commands share, as arguments of theirs."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def grouped(**makers: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: each of these arguments of a command is made from options, the parameters of its maker."""
    options = {name: inspect.signature(maker).parameters for name, maker in makers.items()}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for name, p in inspect.signature(command).parameters.items() if name not in makers]
        shared = [parameter for group in options.values() for parameter in group.values()]

        @wraps(command)
        def call(**given: Any) -> None:
            made = {
                name: maker(**{option: given.pop(option) for option in options[name]}) for name, maker in makers.items()
            }
            command(**given, **made)

        # what typer reads
        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in [*own, *shared]]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate
