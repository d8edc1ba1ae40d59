"""Short-time spectra of the leads and xLSTM blocks that read them both ways."""

import math

import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import shortened, silenced
from helixwave_domains.ecg.heads import RecordHead
from helixwave_domains.ecg.networks import ECGNetwork

# added to the power, in units of the inputs: what is smaller is noise
_FLOOR = 1e-3


class XLSTMECG(ECGNetwork):
    """xLSTM-ECG as we read it: short-time Fourier spectra of all leads, xLSTM blocks, and a pooled head.

    The paper gives the outline: a short-time Fourier transform, then xLSTM, for several labels. Ours are the logarithm
    of the power, the linear map of all leads' spectra to the channels of the model, reading both ways, and all sizes.

    Source: "xLSTM-ECG", arXiv 2504.16101, 2025; Beck et al., "xLSTM: Extended Long Short-Term Memory", 2024.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        d_model: channels.
        n_layer: how many times an mLSTM, an sLSTM and its gated MLP follow one another.
        n_head: heads of each.
        n_fft: samples of a spectrum.
        hop: samples from one to the next.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that may be missing; null: all.
        lead_dropout: in training, the probability with which a lead is missing, see `LeadDropout`.
        dropout: behind each block and before the head.
    """

    reading = (*ECGNetwork.reading, "n_fft", "hop")

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        d_model: int = 128,
        n_layer: int = 2,
        n_head: int = 4,
        n_fft: int = 128,
        hop: int = 32,
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
        dropout: float = 0.1,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.n_fft, self.hop = n_fft, hop
        self.embedding = Spectra(channels, d_model, n_fft=n_fft, hop=hop)
        both = [{"name": "bidirectional", "block": {"name": name, "n_head": n_head}} for name in ("mlstm", "slstm")]
        self.backbone = Backbone(d_model, n_layer=3 * n_layer, blocks=[*both, {"name": "geglu"}], dropout=dropout)
        self.head = RecordHead(d_model, len(classes), dropout=dropout)


class Spectra(nn.Module):
    """Logarithms of the power of short-time spectra of each channel, mapped to `d_model` channels.

    A spectrum is that of `n_fft` samples around every `hop`-th one under a Hann window, zeros around the signal, as
    `torch.stft` with `center=True` and `pad_mode="constant"` has it; here it is a product with a matrix.

    Raises:
        InputError: an odd number of samples, or a hop of none.
    """

    basis: Tensor

    def __init__(self, channels: int, d_model: int, *, n_fft: int, hop: int):
        super().__init__()
        if n_fft < 2 or n_fft % 2 or hop < 1:
            raise InputError(
                f"model: n_fft is {n_fft} and hop {hop}, expected an even number of samples and at least 1"
            )
        self.n_fft, self.hop, n_frequency = n_fft, hop, n_fft // 2 + 1
        angle = 2 * math.pi / n_fft * torch.outer(torch.arange(n_fft), torch.arange(n_frequency)).remainder(n_fft)
        waves = torch.stack([angle.cos(), angle.sin()]) * torch.hann_window(n_fft)[:, None]
        self.register_buffer("basis", waves, persistent=False)
        self.linear = nn.Linear(channels * n_frequency, d_model)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """`[B, T, C]` -> `[B, ceil(T / hop), D]`, and how many of each are valid."""
        power = self.power(inputs, lengths)
        return self.linear((power + _FLOOR).log().flatten(2)), shortened(lengths, self.hop)

    def power(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`[B, T, C]` -> `[B, ceil(T / hop), C, F]`, F the frequencies from 0 to half of the sampling rate."""
        x = silenced(inputs.transpose(1, 2), lengths)
        frames = F.pad(x, (self.n_fft // 2, self.n_fft // 2)).unfold(2, self.n_fft, self.hop)
        frames = frames[:, :, : -(-inputs.shape[1] // self.hop)]
        real, imaginary = frames.transpose(1, 2).unsqueeze(0) @ self.basis[:, None, None]
        return real.square() + imaginary.square()
