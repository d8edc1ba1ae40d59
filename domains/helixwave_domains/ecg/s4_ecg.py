"""Structured state spaces that read an ECG both ways."""

import torch.nn.functional as F
from helixwave.blocks.dense_state_space import dense_state_space
from helixwave.blocks.s4 import S4
from helixwave.lengths import reverse_valid
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.convolutions import PaddedConv1d
from helixwave_domains.ecg.heads import RecordHead
from helixwave_domains.ecg.networks import ECGNetwork


class S4ECG(ECGNetwork):
    """S4-ECG: a map of the leads, four state spaces that read both ways, and the mean over the recording.

    A layer is `norm(x + dropout(s4(x)))` with a gate behind the state spaces. With `d_model=512` and twelve leads it
    has 2.2 million parameters. The published training reads crops of 2.5 s at 100 Hz.

    Source: Mehari and Strodthoff, "Towards quantitative precision for ECG analysis: Leveraging state space models,
    self-supervision and patient metadata", 2022 (arXiv 2211.07579), and its code.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        d_model: channels.
        n_layer: layers.
        d_state: size of the state per channel, even.
        dropout: of whole channels behind each layer, and of what the gate is computed from.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that may be missing; null: all.
        lead_dropout: in training, the probability with which a lead is missing, see `LeadDropout`.
    """

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        d_model: int = 512,
        n_layer: int = 4,
        d_state: int = 8,
        dropout: float = 0.2,
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.embedding = _LeadMap(channels, d_model)
        self.backbone = _Layers(d_model, n_layer, d_state, dropout)
        self.head = RecordHead(d_model, len(classes))


class BiS4(S4):
    """S4 that reads both ways: each direction has an output map of its own, the dynamics and the gate are shared.

    The outputs of both directions are added before the GELU. Either sees the present input; in the published code the
    backward one begins with the input behind it.

    Args:
        d_state: size of the state per channel, even.
        dropout: in training, of what the gate is computed from.
    """

    causal = False

    def __init__(self, d_model: int, *, d_state: int = 8, dropout: float = 0.0):
        super().__init__(d_model, d_state=d_state, channels=2)
        self.output_linear = nn.Linear(d_model, 2 * d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, None]:  # [B, T, D] -> [B, T, D]
        maps = self.maps(x.shape[1])
        ahead, behind = (maps._replace(read=maps.read[:, [i]], convolve=maps.convolve[:, :, [i]]) for i in (0, 1))
        y, _ = dense_state_space(x, ahead, None, lengths)
        back, _ = dense_state_space(reverse_valid(x, lengths), behind, None, lengths)
        y = F.gelu((y + reverse_valid(back.flatten(2), lengths).view_as(y)).flatten(2).to(x.dtype))
        return F.glu(self.output_linear(self.dropout(y)), dim=-1), None


class _LeadMap(nn.Module):
    def __init__(self, channels: int, d_model: int):
        super().__init__()
        self.conv = PaddedConv1d(channels, d_model, 1)

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.conv(inputs.transpose(1, 2)).transpose(1, 2), lengths


class _Layers(nn.Module):
    def __init__(self, d_model: int, n_layer: int, d_state: int, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(BiS4(d_model, d_state=d_state, dropout=dropout) for _ in range(n_layer))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(n_layer))
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        """`[B, T, D]` -> `[B, T, D]`, and no state."""
        for block, norm in zip(self.blocks, self.norms, strict=True):
            y, _ = block(x, lengths=lengths)
            x = norm(x + self.dropout(y.transpose(1, 2)).transpose(1, 2))
        return x, None
