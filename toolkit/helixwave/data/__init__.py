"""From examples to batches: what a data set offers, and how its examples are drawn, bucketed and padded."""

from helixwave.data.batches import make_loader
from helixwave.data.source import Batch, Example, Picture, Source, Split

__all__ = ["Batch", "Example", "Picture", "Source", "Split", "make_loader"]
