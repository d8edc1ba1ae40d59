"""State spaces on those tokens that a small net picks, guided by a slow copy of itself."""

import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave.lengths import valid_mask
from helixwave.outputs import Predicts
from torch import Tensor, nn

from helixwave_domains.video.clip_networks import ClipNetwork
from helixwave_domains.video.vis4mer import FeatureEmbedding, MultiScale


class SelectiveS4(ClipNetwork):
    """Selective S4: only a share of the tokens is read, the ones that a mask generator picks.

    Our reconstruction, since no code is published: from the paper are a light generator of masks, guided by the
    features of an S4 whose weights follow those of the trained one as a moving average, and a decoder that reads what
    is left. The rest is ours. A token's score is a two-layer net of the slow copy's first state space; the share of
    tokens with the highest scores is kept in order, the others are not computed at all. In training, logistic noise is
    added to the scores, and what is kept is multiplied by 1 whose gradient is that of its probability (Gumbel-softmax,
    straight through). The slow copy gets no gradient; it moves before each training step.
    Source: Wang et al., "Selective Structured State-Spaces for Long-Form Video Understanding", 2023, abstract; the
    decoder is that of `vis4mer`; Jang et al., "Categorical Reparameterization with Gumbel-Softmax", 2017, section 2.2.

    Args:
        classes: names of the outputs.
        predicts: whether these are classes, labels or numbers.
        d_input: numbers of a feature.
        d_model, n_layer, d_state, dropout: of the decoder, see `vis4mer`.
        keep: share of the tokens that are read; at least one is.
        momentum: share of the slow copy that is left as it is in each training step.
        temperature: of the probabilities whose gradient teaches the generator.
    """

    reading = ("d_input",)

    def __init__(
        self,
        *,
        classes: list[str],
        predicts: Predicts = "class",
        d_input: int = 1024,
        d_model: int = 1024,
        n_layer: int = 3,
        d_state: int = 64,
        dropout: float = 0.2,
        keep: float = 0.5,
        momentum: float = 0.99,
        temperature: float = 1.0,
    ):
        for name, share in (("keep", keep), ("momentum", momentum)):
            if not 0 < share <= 1:
                raise InputError(f"model: {name} is {share}, expected more than 0 and at most 1")
        if temperature <= 0:
            raise InputError(f"model: temperature is {temperature}, expected more than 0")
        super().__init__(classes=classes, predicts=predicts)
        self.d_input, self.keep, self.momentum, self.temperature = d_input, keep, momentum, temperature
        self.embedding = FeatureEmbedding(d_input, d_model)
        self.backbone = MultiScale(d_model, n_layer=n_layer, d_state=d_state, dropout=dropout)
        self.generator = MaskGenerator(d_model)
        self.head = nn.Linear(self.backbone.width, len(classes))
        slow = MultiScale(d_model, n_layer=n_layer, d_state=d_state, dropout=0.0)
        self.teacher = nn.ModuleDict({"embedding": FeatureEmbedding(d_input, d_model), "backbone": slow})
        self.teacher.requires_grad_(False)
        for name, module in self.teacher.items():
            module.load_state_dict(self.get_submodule(name).state_dict())

    def hidden(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Hidden states of the last scale `[B, T', D]` of the kept tokens, and how many of each are valid `[B]`."""
        if self.training and torch.is_grad_enabled():
            self.move_teacher()
        embedded, _ = self.embedding(inputs, lengths)
        return self.backbone(*self.kept(embedded, self.scores(inputs, lengths), lengths))

    def scores(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """How much each token is worth to be read, `[B, T, d_input]` -> `[B, T]`."""
        with torch.no_grad():
            embedded, _ = self.teacher["embedding"](inputs, lengths)
            seen = self.teacher["backbone"].mixed(embedded, lengths)  # type: ignore[operator]
        return self.generator(seen)

    def kept(self, x: Tensor, scores: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tokens to be read, in order and right-padded, and how many they are `[B]`.

        Args:
            x: tokens `[B, T, D]`.
            scores: `[B, T]`.
        """
        if self.training:
            scores = (scores + logistic_noise(scores)) / self.temperature
        index, n_kept = best(scores, self.keep, lengths)
        kept = x.gather(1, index[..., None].expand(*index.shape, x.shape[2]))
        if self.training:
            probability = scores.sigmoid().gather(1, index)
            kept = kept * (1 + probability - probability.detach())[..., None]
        return kept, n_kept

    def projected(self, inputs: Tensor, lengths: Tensor | None = None, *, slow: bool = False) -> Tensor:
        """Outputs `[B, n]` of all tokens, without a mask: by the model, or by its slow copy and without a gradient."""
        if not slow:
            return self.head(self.pooled(*self.backbone(*self.embedding(inputs, lengths))))
        with torch.no_grad():
            return self.head(self.pooled(*self.teacher["backbone"](*self.teacher["embedding"](inputs, lengths))))

    @torch.no_grad()
    def move_teacher(self) -> None:
        """One step of the slow copy: `momentum` of it and the rest of the model."""
        for name in self.teacher:
            trained = self.get_submodule(name)
            for slow, weight in zip(self.teacher[name].parameters(), trained.parameters(), strict=True):
                slow.lerp_(weight, 1 - self.momentum)


class MaskGenerator(nn.Module):
    """A score for each token: `[B, T, D]` -> `[B, T]`."""

    def __init__(self, d_model: int):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.hidden = nn.Linear(d_model, d_model // 2)
        self.score = nn.Linear(d_model // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(F.gelu(self.hidden(self.norm(x)))).squeeze(-1)


def best(scores: Tensor, share: float, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the highest scores stand, in order, and how many they are: `[B, T]` -> `[B, K]` and `[B]`.

    Args:
        share: of the valid positions that are taken, rounded, at least one.
    """
    B, T = scores.shape
    valid = torch.full((B,), T, device=scores.device) if lengths is None else lengths
    n = (share * valid).round().long().clamp(min=1)
    ranked = scores.detach().masked_fill(~valid_mask(valid, T), -torch.inf).argsort(dim=1, descending=True)
    is_taken = torch.zeros_like(ranked, dtype=torch.bool).scatter(1, ranked, valid_mask(n, T))
    return (~is_taken).int().argsort(dim=1, stable=True)[:, : int(n.max())], n


def logistic_noise(x: Tensor) -> Tensor:
    """The difference of two Gumbel variables, by which one of two classes is drawn; of the shape of `x`."""
    return torch.rand_like(x).clamp(1e-6, 1 - 1e-6).logit()
