"""What the user can put right: shown by the command line as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The input is wrong. The message says where, what came, what was expected, and the next step."""


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint for a name that is not among `known`: `Did you mean 'hyena'? Known: hyena, mamba.`"""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    listed = f"Known: {', '.join(names)}." if names else "None is known."
    return f"Did you mean {close[0]!r}? {listed}" if close else listed


def require(condition: bool, where: str, value: object, expected: str) -> None:
    """Raise InputError unless a setting is as it must be."""
    if not condition:
        raise InputError(f"{where} is {value!r}, expected {expected}")
