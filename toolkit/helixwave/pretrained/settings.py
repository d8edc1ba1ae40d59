"""A published configuration, read with errors that say where an entry stands."""

from collections.abc import Collection, Mapping
from typing import Any

from helixwave.errors import InputError, nearest


class Settings:
    """The entries of a published configuration, or of one section of it.

    Args:
        values: the entries by name.
        where: the beginning of an error's message, such as the file that they come from.
    """

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values, self.where = values, where

    def __contains__(self, key: object) -> bool:
        return key in self.values

    def get(self, key: str, default: Any = None) -> Any:
        """An entry that may be absent."""
        return self.values.get(key, default)

    def size(self, *keys: str, default: int | None = None) -> int:
        """A whole number from 1, under the first of these names that is there."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise InputError(f"{self.where}: {key} is {value!r}, expected a whole number from 1")
                return value
        if default is None:
            raise InputError(f"{self.where} lacks {keys[0]!r}, without which the model's size is not known")
        return default

    def number(self, key: str, default: float) -> float:
        """A finite or infinite number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{self.where}: {key} is {value!r}, expected a number")
        return float(value)

    def section(self, key: str) -> "Settings":
        """The entries under `key`; none if it is absent or null."""
        values = self.values.get(key)
        if values is not None and not isinstance(values, Mapping):
            raise InputError(f"{self.where}: {key} is {values!r}, expected a mapping")
        return Settings(values or {}, f"{self.where}: {key}")

    def expect(self, key: str, *allowed: Any) -> None:
        """Raise InputError unless the entry is one of `allowed`, the first of which an absent one stands for."""
        value = self.values.get(key, allowed[0])
        if value not in allowed:
            raise InputError(f"{self.where}: {key} is {value!r}, but this version can only build {allowed[0]!r}")

    def expect_keys(self, known: Collection[str]) -> None:
        """Raise InputError for an entry that nobody here knows, as it might change what is computed."""
        for key in self.values:
            if key not in known:
                raise InputError(f"{self.where}: unknown entry {key!r}. {nearest(key, known)}")
