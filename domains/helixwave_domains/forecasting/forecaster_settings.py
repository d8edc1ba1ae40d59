"""Arguments of forecasters on the command line."""

from collections.abc import Sequence
from typing import Any

from helixwave.errors import InputError
from helixwave.registry import FORECASTERS


def read_settings(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Arguments of a registered forecaster from words such as `context=336` or, inside one, `training.epochs=3`.

    Raises:
        InputError: a word is no `key=value`, an unknown name or argument, or a value of the wrong type.
    """
    settings: dict[str, Any] = {}
    for word in words:
        path, value = _setting(word)
        *outer, last = path.split(".")
        place = settings
        for key in outer:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise InputError(f"{word}: {key} has a value already. Expected each argument once")
        place[last] = value
    FORECASTERS.check("--model", {"name": name, **settings})
    return settings


def _setting(word: str) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(word)
        return parsed.key_or_group, parsed.value()
    except HydraException as error:
        raise InputError(f"cannot read {word!r}. Expected key=value, as in context=336") from error
