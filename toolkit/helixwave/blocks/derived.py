"""What follows from parameters alone: computed anew while they are trained, remembered while they stay as they are."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor


class Derived:
    """Remembers values, for one token after another: a filter, a matrix power, a discretisation.

    A value is computed again whenever a gradient may be asked of it, a parameter has changed, moved or been replaced,
    or its `key` was not among the last two. Under `torch.compile` and `torch.export` it always is.
    """

    def __init__(self) -> None:
        self._parameters: list[Tensor] = []
        self._versions: Hashable = None
        self._values: dict[Hashable, Any] = {}

    def __call__(self, compute: Callable[[], Any], parameters: Sequence[Tensor], key: Hashable = None) -> Any:
        trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
        if trained or torch.compiler.is_compiling() or any(parameter.is_inference() for parameter in parameters):
            return compute()
        versions = tuple((p.data_ptr(), p._version, p.dtype, p.device, p.shape) for p in parameters)
        mode = torch.is_inference_mode_enabled(), torch.is_autocast_enabled(parameters[0].device.type)
        if self._versions != (versions, mode):
            # holding on to the memory, so that no other tensor can come to lie at the same address
            self._parameters = [parameter.detach() for parameter in parameters]
            self._versions, self._values = (versions, mode), {}
        value = self._values.pop(key) if key in self._values else compute()
        self._values[key] = value  # the last one used stands last
        if len(self._values) > 2:
            del self._values[next(iter(self._values))]
        return value

    def __deepcopy__(self, memo: Any) -> "Derived":
        return Derived()
