"""HelixWave: long-sequence models for DNA, ECG, time series and video, from one registry, on any machine."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

__version__ = metadata.version("helixwave")

if TYPE_CHECKING:
    from helixwave.backbone import Backbone
    from helixwave.checkpoint import load
    from helixwave.pretrained import load_pretrained
    from helixwave.registry import BLOCKS

# imported on first use, so that `import helixwave` and the command line do not wait for torch
_PUBLIC = {
    "BLOCKS": "helixwave.registry",
    "Backbone": "helixwave.backbone",
    "load": "helixwave.checkpoint",
    "load_pretrained": "helixwave.pretrained",
}
__all__ = ["BLOCKS", "Backbone", "__version__", "load", "load_pretrained"]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'helixwave' has no attribute {name!r}")
