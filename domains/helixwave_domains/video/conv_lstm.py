"""ConvLSTM: an LSTM whose maps are convolutions, the peer of ConvS5."""

import torch
from helixwave.errors import InputError
from helixwave.lengths import at_end
from torch import Tensor, nn

from helixwave_domains.video.frame_predictor import FramePredictor, per_frame

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state, each `[B, D, H, W]`."""


class ConvLSTM(FramePredictor):
    """Predicts the next frame with layers of `ConvLSTMLayer`, between the encoder and the decoder of `conv_s5`.

    Args:
        classes: names of the channels of a frame.
        d_model: channels of the layers.
        n_layer: how many.
        patch: side of a patch, pixels.
        reach: how far content can move from one frame to the next, pixels down and across.
        kernel: side of the convolutions, odd.
    """

    def __init__(
        self,
        *,
        classes: list[str],
        d_model: int = 64,
        n_layer: int = 3,
        patch: int = 8,
        reach: int = 4,
        kernel: int = 3,
    ):
        layers: list[nn.Module] = [ConvLSTMLayer(d_model, kernel=kernel) for _ in range(n_layer)]
        super().__init__(layers, classes=classes, d_model=d_model, patch=patch, reach=reach)


class ConvLSTMLayer(nn.Module):
    """An LSTM at each place, whose gates see the neighbours, and a skip.

    Without peepholes; the forget gate starts open. What the gates make of the inputs is computed for all frames at
    once. Source: Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
    2015, section 3.1.

    Args:
        kernel: side of the convolutions, odd.
    """

    def __init__(self, d_model: int, *, kernel: int = 3):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"model: kernel is {kernel}, expected an odd number")
        self.from_input = nn.Conv2d(d_model, 4 * d_model, kernel, padding=kernel // 2)
        self.from_hidden = nn.Conv2d(d_model, 4 * d_model, kernel, padding=kernel // 2, bias=False)
        with torch.no_grad():
            self.from_input.bias[d_model : 2 * d_model] += 1  # type: ignore[index]

    def forward(
        self, x: Tensor, state: LSTMState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Right-padded inputs `[B, T, D, H, W]` to outputs like them and the state after the last frame of each."""
        h, c = (torch.zeros_like(x[:, 0]) for _ in range(2)) if state is None else state
        hiddens, cells = [], []
        for driven in per_frame(self.from_input, x).unbind(1):
            write, keep, read, value = (driven + self.from_hidden(h)).chunk(4, dim=1)
            c = torch.sigmoid(keep) * c + torch.sigmoid(write) * torch.tanh(value)
            h = torch.sigmoid(read) * torch.tanh(c)
            hiddens.append(h)
            cells.append(c)
        hidden = torch.stack(hiddens, dim=1)
        return x + hidden, (at_end(hidden, lengths), at_end(torch.stack(cells, dim=1), lengths))
