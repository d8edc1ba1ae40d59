"""How a model of DNA is read: on which strands, where, in which precision and how much at once."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from helixwave.errors import InputError

from helixwave_domains.genomics.alphabet import check_letters
from helixwave_domains.genomics.strands import BothStrands

STRANDS = {"+": (False,), "-": (True,), "both": (False, True)}
"""For each choice of strands, whether those to be read are the other one."""

# where a checkpoint does not say how much it was made for
_WINDOW = 2**16
# what fits a CPU's caches, and what keeps a GPU busy
_CPU_TOKENS, _GPU_TOKENS = 2**13, 2**17


class Reading:
    """A model in evaluation mode, and how it is read.

    Args:
        model: a language model, classifier or labeller of DNA.
        strand: `+`, `-` or `both`.
        batch_tokens: positions of a batch, unless a single sequence has more; None: 8192 on a CPU, 131072 elsewhere.
        dtype: `float32`, or `bfloat16` for autocast.
        device: where to compute; None: where the model is.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        model: BothStrands,
        *,
        strand: str = "+",
        batch_tokens: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        if not isinstance(model, BothStrands):
            raise InputError(f"model is {type(model).__name__}, expected a language model or classifier of DNA")
        if strand not in STRANDS:
            raise InputError(f"strand is {strand!r}, expected one of {', '.join(STRANDS)}")
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}, expected at least 1")
        if dtype not in (torch.float32, torch.bfloat16):
            raise InputError(f"dtype is {dtype}, expected torch.float32 or torch.bfloat16")
        self.model = _moved(model, device).eval()
        self.strand, self.strands = strand, STRANDS[strand]
        self.device = next(model.parameters()).device
        self.batch_tokens = batch_tokens or (_CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS)
        self.dtype = dtype

    @property
    def options(self) -> dict[str, Any]:
        """How the model is read, as JSON can hold it."""
        return {
            "strand": self.strand,
            "batch_tokens": self.batch_tokens,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
        }

    def of_strand(self, strand: str) -> "Reading":
        """The same, but for the strand."""
        return Reading(self.model, strand=strand, batch_tokens=self.batch_tokens, dtype=self.dtype)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision, as a context of calls to the model."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def window(self, asked: int | None) -> int:
        """The longest piece to be read at once: `asked`, or all that the model was made for.

        Raises:
            InputError: it was made for less.
        """
        context = getattr(self.model, "context", None)
        window = (context or _WINDOW) if asked is None else asked
        if window < 1:
            raise InputError(f"window is {window}, expected at least 1")
        if context is not None and window > context:
            raise InputError(f"window is {window}, expected at most {context}, which this checkpoint was made for")
        return window


def normed_letters(letters: str, where: str) -> str:
    """Letters in upper case, T for U.

    Raises:
        InputError: there are none, or one is no letter of DNA.
    """
    if not letters:
        raise InputError(f"{where}: no letters. Remove it, or check where its sequence is.")
    check_letters(letters, where)
    return letters.upper().replace("U", "T")


def _moved(model: BothStrands, device: torch.device | str | None) -> BothStrands:
    try:
        return model if device is None else model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device is {str(device)!r}: {str(error).splitlines()[0]}") from error
