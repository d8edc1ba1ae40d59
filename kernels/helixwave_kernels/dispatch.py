"""An operator: one meaning (its reference) and several implementations of it."""

import difflib
import inspect
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

OPS: "list[Op[Any]]" = []


class Op(Generic[Result]):
    """Decorates a reference; calling it runs the best implementation that accepts the call.

    `impl="chunked"` or the environment's `HELIXWAVE_IMPL=chunked` forces an implementation, for one call or for every
    operator, and fails loudly where it cannot run. Several names, `native,chunked`, are tried in that order.
    """

    def __init__(self, reference: Callable[..., Result]):
        self.__name__ = reference.__name__
        self.__qualname__ = reference.__qualname__
        self.__module__ = reference.__module__
        self.__doc__ = reference.__doc__
        self.__signature__ = _with_impl(inspect.signature(reference))
        self.impls: dict[str, Callable[..., Result]] = {"reference": reference}
        self._accepts: dict[str, Callable[..., str | None]] = {"reference": _always}
        self._check: Callable[..., None] | None = None
        OPS.append(self)

    def check(self, function: Callable[..., None]) -> Callable[..., None]:
        """Register the check of the arguments, run once before any implementation."""
        self._check = function
        return function

    def implementation(
        self, name: str, accepts: Callable[..., str | None] | None = None
    ) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
        """Register a faster implementation; later ones are preferred.

        Args:
            name: `chunked`, `native`, `triton`, ...
            accepts: gets the call's arguments; returns None if it can run the call, or the reason why not.
        """

        def register(function: Callable[..., Result]) -> Callable[..., Result]:
            self.impls[name] = function
            self._accepts[name] = accepts or _always
            return function

        return register

    def refusal(self, name: str, *args: Any, **kwargs: Any) -> str | None:
        """Why an implementation cannot run this call; None if it can."""
        if name not in self.impls:
            return self._unknown(name)
        return self._accepts[name](*args, **kwargs)

    def __call__(self, *args: Any, impl: str | None = None, **kwargs: Any) -> Result:
        if self._check is not None:
            self._check(*args, **kwargs)
        function = self._choose(impl or os.environ.get("HELIXWAVE_IMPL"), args, kwargs)
        device_type = _device_type(args, kwargs)
        if not torch.is_autocast_enabled(device_type):
            return function(*args, **kwargs)
        # autocast would run the matrix products inside in bfloat16, where every operator promises float32
        with torch.autocast(device_type, enabled=False):
            return function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Op {self.__name__}: {', '.join(self.impls)}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # a global: copied and pickled by name

    def _choose(self, forced: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Result]:
        if forced:
            return self._choose_among(forced.split(","), args, kwargs)
        for name in reversed(self.impls):
            if self._accepts[name](*args, **kwargs) is None:
                return self.impls[name]
        raise AssertionError("the reference accepts every call")

    def _choose_among(self, names: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Result]:
        refusals = []
        for name in names:
            if name not in self.impls:
                refusals.append(f"{self.__name__}: {self._unknown(name)}")
            elif reason := self._accepts[name](*args, **kwargs):
                refusals.append(f"{self.__name__}: {name!r} cannot run this call: {reason}")
            else:
                return self.impls[name]
        raise ValueError("\n".join(refusals))

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.impls, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        return f"no implementation named {name!r}.{guess} Known: {', '.join(self.impls)}."


def _always(*args: Any, **kwargs: Any) -> None:
    return None


def _with_impl(signature: inspect.Signature) -> inspect.Signature:
    impl = inspect.Parameter("impl", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
    return signature.replace(parameters=[*signature.parameters.values(), impl])


def _device_type(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value.device.type
    return "cpu"
