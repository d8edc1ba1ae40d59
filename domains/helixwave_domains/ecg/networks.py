"""What models of an ECG have in common, and the one that takes any backbone."""

from typing import Any, ClassVar, Literal

from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.ecg.heads import BeatHead, RecordHead, SignalHead
from helixwave_domains.ecg.lead_dropout import LeadDropout
from helixwave_domains.ecg.stems import ConvStem


class ECGNetwork(nn.Module):
    """Scores of an ECG by an embedding, a backbone and a head.

    A subclass gives the three modules: `embedding(inputs, lengths)` returns vectors `[B, T', D]` and their valid
    lengths, `backbone(vectors, lengths=...)` as many hidden states and a state that is not looked at, and
    `head(hidden, lengths, T)` the scores. What is scored depends neither on padding nor on the rest of the batch.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that a recording may lack; None: all. The others are facts
            such as the interval to the next beat.
        lead_dropout: see `LeadDropout`.

    Raises:
        InputError: more leads than channels.
    """

    config: dict[str, Any]
    embedding: nn.Module
    backbone: nn.Module
    head: nn.Module
    # arguments that say how inputs are read, taken over with the embedding and the backbone of a checkpoint
    reading: ClassVar[tuple[str, ...]] = ("channels", "n_lead")

    def __init__(
        self, *, classes: list[str], predicts: Predicts, channels: int, n_lead: int | None, lead_dropout: float
    ):
        super().__init__()
        n_lead = channels if n_lead is None else n_lead
        if not 1 <= n_lead <= channels:
            raise InputError(f"model: n_lead is {n_lead}, expected 1 to {channels}, the number of channels")
        self.classes, self.predicts, self.channels, self.n_lead = classes, predicts, channels, n_lead
        self.lead_dropout = LeadDropout(n_lead, lead_dropout)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs of right-padded ECGs `[B, T, C]`: `[B, n_class]`, or `[B, T, n_class]` where each sample is scored.

        A lead that is zero throughout is one that is missing.
        """
        hidden, valid = self.hidden(inputs, lengths)
        return self.head(hidden, valid, inputs.shape[1])

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Last hidden states `[B, T', D]`, and how many of each are valid `[B]`."""
        if inputs.shape[-1] != self.channels:
            raise InputError(
                f"this model reads {self.channels} channels, the inputs have {inputs.shape[-1]}. Set model.channels, "
                "or give the leads that it was trained on"
            )
        embedded, valid = self.embedding(self.lead_dropout(inputs), lengths)
        hidden, _ = self.backbone(embedded, lengths=valid)
        return hidden, valid

    def embed(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """One vector of each recording: the pooled hidden states that the head looks at, `[B, P]`."""
        pooled: Tensor = self.head.pooled(*self.hidden(inputs, lengths))  # type: ignore[operator]
        return pooled

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {name: getattr(self, name) for name in self.reading}


class ECGModel(ECGNetwork):
    """Any backbone on strided convolutions: one class, labels or numbers of a recording, of each beat or each sample.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        head: `record` scores the whole; `beat` each sample, the same for all samples of a position, for targets that
            are given where beats are; `signal` gives numbers at each sample, as for what was hidden.
        channels: of the inputs.
        n_lead: how many of them, from the first, are leads that may be missing; null: all.
        lead_dropout: in training, the probability with which a lead is missing, see `LeadDropout`.
        widths, kernels, strides: of the stem's convolutions, see `ConvStem`.
        pool: of the head `record`.
        dropout: before the last linear layer.
    """

    pretrained_as: ClassVar[dict[str, Any]] = {"name": "ecg_model", "head": "signal"}
    reading = (*ECGNetwork.reading, "widths", "kernels", "strides")

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        predicts: Predicts = "class",
        head: Literal["record", "beat", "signal"] = "record",
        channels: int = 12,
        n_lead: int | None = None,
        lead_dropout: float = 0.0,
        widths: list[int] | None = None,
        kernels: list[int] | None = None,
        strides: list[int] | None = None,
        pool: Literal["mean", "max", "mean_max"] = "mean",
        dropout: float = 0.0,
    ):
        super().__init__(
            classes=classes, predicts=predicts, channels=channels, n_lead=n_lead, lead_dropout=lead_dropout
        )
        self.widths = [64, 128] if widths is None else widths
        self.kernels, self.strides = kernels or [15, 7, 5], strides or [2, 2, 2]
        sizes = backbone.d_model, len(classes)
        stem = ConvStem(channels, sizes[0], widths=self.widths, kernels=self.kernels, strides=self.strides)
        self.embedding, self.backbone = stem, backbone
        if head == "record":
            self.head: nn.Module = RecordHead(*sizes, pool=pool, dropout=dropout)
        else:
            self.head = {"beat": BeatHead, "signal": SignalHead}[head](*sizes, stride=stem.stride, dropout=dropout)
