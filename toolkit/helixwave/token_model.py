"""A model of sequences of tokens: what comes next, or what stands at each position."""

from typing import Any, ClassVar

from torch import Tensor, nn

from helixwave.backbone import Backbone
from helixwave.errors import InputError
from helixwave.generation import Beams, Generated, Sample, generate
from helixwave.lengths import at_end


class TokenModel(nn.Module):
    """Scores of all tokens at each position, and new sequences token by token.

    An embedding, the backbone, and a linear head without bias. With a causal backbone and targets that are the inputs
    shifted by one it is a language model, with any backbone and masked inputs a model of what is hidden.

    Args:
        backbone: `[B, T, D] -> [B, T, D]`.
        classes: the vocabulary; a token's id is its place in it.
        tie: the head's weight is the embedding.
        embedding_scale: the embedding is multiplied by it.
        dropout: on the embedding.
        logit_cap: logits run into this limit, `cap tanh(logits / cap)`; 30 in xLSTM 7B (Beck et al., 2025).
    """

    config: dict[str, Any]
    pretrained_as: ClassVar[dict[str, Any]] = {"name": "token_model"}

    def __init__(
        self,
        *,
        backbone: Backbone,
        classes: list[str],
        tie: bool = True,
        embedding_scale: float = 1.0,
        dropout: float = 0.0,
        logit_cap: float | None = None,
    ):
        super().__init__()
        if logit_cap is not None and not logit_cap > 0:
            raise InputError(f"model: logit_cap is {logit_cap}, expected more than 0 or null")
        self.classes, self.embedding_scale, self.logit_cap = classes, embedding_scale, logit_cap
        self.embedding = nn.Embedding(len(classes), backbone.d_model)
        self.dropout = nn.Dropout(dropout)
        self.backbone = backbone
        self.head = nn.Linear(backbone.d_model, len(classes), bias=False)
        nn.init.normal_(self.head.weight, std=0.02)
        if tie:
            self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of right-padded token ids: `[B, T]` -> `[B, T, n_class]`."""
        return self.logits(inputs, lengths)

    def logits(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits at each position: `[B, T]` -> `[B, T, n_class]`."""
        return self._scores(self.hidden(ids, lengths))

    def hidden(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Last normed hidden state: `[B, T]` -> `[B, T, D]`."""
        hidden, _ = self.backbone(self._embedded(ids), lengths=lengths)
        return hidden

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read: arguments for another model that is to begin with the embedding and the backbone."""
        return {"vocabulary": self.classes, "tie": self.head.weight is self.embedding.weight}

    def expect_causal(self) -> None:
        """Raise InputError if a score depends on what comes later."""
        self.backbone.expect_causal()

    def prefill(self, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read whole prompts at once: the logits after the last token of each `[B, n_class]`, and the state there.

        Raises:
            InputError: the backbone is not causal.
        """
        self.expect_causal()
        hidden, state = self.backbone(self._embedded(ids), lengths=lengths)
        return self._scores(at_end(hidden, lengths)), state

    def extend(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """More tokens of each sequence at once, `[B, T]` -> logits at each `[B, T, n_class]`, and the state there.

        Raises:
            InputError: the backbone is not causal.
        """
        self.expect_causal()
        hidden, state = self.backbone(self._embedded(ids), state)
        return self._scores(hidden), state

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One more token of each sequence: `[B]` -> logits of the next `[B, n_class]`, and the state there.

        Raises:
            InputError: the backbone is not causal.
        """
        hidden, state = self.backbone.step(self._embedded(ids), state)
        return self._scores(hidden), state

    def generate(
        self,
        prompt: Tensor,
        lengths: Tensor | None = None,
        *,
        n_new: int,
        method: Sample | Beams | None = None,
        end: int | None = None,
    ) -> Generated:
        """What follows right-padded prompts `[B, T]`; see `helixwave.generation.generate`."""
        return generate(self, prompt, lengths, n_new=n_new, method=method, end=end)

    def _embedded(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.embedding_scale)

    def _scores(self, hidden: Tensor) -> Tensor:
        logits = self.head(hidden)
        return logits if self.logit_cap is None else self.logit_cap * (logits / self.logit_cap).tanh()
