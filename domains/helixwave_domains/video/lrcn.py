"""A frame net, and a recurrence over what it sees."""

from typing import Literal

from helixwave.backbone import Backbone
from helixwave.lengths import at_end
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.clip_networks import ClipNetwork, FrameEmbedding
from helixwave_domains.video.frame_features import frame_net


class LRCN(ClipNetwork):
    """Long-term recurrent convolutional network: a net for each frame, any backbone over the frames.

    The scores are the mean of those of all frames, or those of the last one. Since the head is linear, the mean of the
    frames' scores is computed as the score of their mean. Published with an LSTM, `blocks: [{name: lstm}]`.
    Source: Donahue et al., "Long-term Recurrent Convolutional Networks for Visual Recognition and Description", 2015,
    sections 3 and 4.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        channels: of a frame.
        frame: the net of a frame: `small`, `plstm`, or `timm:MODEL` with timm's published weights, see `frame_net`.
        frozen: the frame net stays as it is.
        pool: the mean of the frames' scores, or the last frame's.
        dropout: before the head.
    """

    reading = ("channels", "frame")

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        predicts: Predicts = "class",
        channels: int = 3,
        frame: str = "small",
        frozen: bool = False,
        pool: Literal["mean", "last"] = "mean",
        dropout: float = 0.0,
    ):
        super().__init__(classes=classes, predicts=predicts)
        self.channels, self.frame, self.pool = channels, frame, pool
        net = frame_net(frame, channels)
        self.embedding = FrameEmbedding(net, backbone.d_model, channels=channels, frozen=frozen)
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(backbone.d_model, len(classes)))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean of valid frames, or the last valid one: `[B, T, D]` -> `[B, D]`."""
        return at_end(hidden, lengths) if self.pool == "last" else super().pooled(hidden, lengths)
