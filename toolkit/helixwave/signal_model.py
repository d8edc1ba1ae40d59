"""A model of signals: classes at each position of a series of numbers."""

from typing import Any, ClassVar

from torch import Tensor, nn

from helixwave.backbone import Backbone


class SignalModel(nn.Module):
    """Scores of all classes at each position of a signal.

    A linear map of the channels, the backbone, and a linear head.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the classes.
        channels: of the signal.
        dropout: before the head.
    """

    config: dict[str, Any]
    pretrained_as: ClassVar[dict[str, Any]] = {"name": "signal_model"}

    def __init__(self, *, backbone: Backbone, classes: list[str], channels: int = 1, dropout: float = 0.0):
        super().__init__()
        self.classes, self.channels = classes, channels
        self.embedding = nn.Linear(channels, backbone.d_model)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.d_model, len(classes))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of right-padded signals: `[B, T, C]` -> `[B, T, n_class]`."""
        hidden, _ = self.backbone(self.embedding(inputs), lengths=lengths)
        return self.head(self.dropout(hidden))

    def expect_unseen(self) -> None:
        """Raise InputError if the next value is seen before it is said."""
        self.backbone.expect_causal()

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {"channels": self.channels}
