"""Language modelling: the tokens that are hidden, or the next one."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from helixwave.data.batches import IGNORED
from helixwave.data.source import Example, Picture, Source
from helixwave.data.views import Unlabelled, respelt
from helixwave.data.vocabulary import Vocabulary
from helixwave.errors import InputError
from helixwave.objectives.classification import cross_entropy, log_probabilities
from helixwave.objectives.objective import Objective
from helixwave.pictures import confusion_picture

# the stream of draws that hides the same tokens each time a split is judged
_JUDGED = 0


class _Language(Objective):
    """Scores of all tokens at each position `[B, T, n_token]`; targets are token ids `[B, T]`, -100 is not scored.

    Letters alone are targets: neither what stands for padding and masks nor anything unknown, such as N.
    """

    monitor, mode = "perplexity", "min"

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary, self.classes = vocabulary, list(vocabulary.tokens)
        self.is_letter = np.isin(np.arange(len(self.classes)), vocabulary.letter_ids)

    def prepare(self, source: Source) -> Source:
        return Unlabelled(respelt(source, self.classes), self.example, vocabulary=self.vocabulary)

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        """Inputs and targets from the tokens of an example; what it had as a target is not looked at."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(outputs, target)

    def scored(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return log_probabilities(outputs, target)

    def metrics(self) -> MetricCollection:
        accuracy = MulticlassAccuracy(len(self.classes), average="micro")
        return MetricCollection({"perplexity": Perplexity(), "accuracy": accuracy})

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Which letter is predicted where each of them stands."""
        letters = self.vocabulary.letter_ids
        number = np.zeros(len(self.classes), dtype=np.int64)
        number[letters] = np.arange(len(letters))
        return [
            confusion_picture(number[target.numpy()], outputs[:, letters].exp().numpy(), list(self.vocabulary.letters))
        ]


class MaskedLanguage(_Language):
    """What the hidden tokens are, from both sides.

    A share of the letters is chosen in each example, anew in each epoch; of these 80 % are hidden behind [MASK], 10 %
    replaced by a random token and 10 % left as they are. What is chosen follows from the run's seed, the epoch and the
    example's number alone. Source: Devlin et al., "BERT", 2019, section 3.1; for DNA, Schiff et al., "Caduceus", 2024,
    section 5.1.

    Args:
        share: of the letters that are chosen.
        masked, replaced: shares of the chosen that are hidden and that are replaced; the others are left as they are.
        random: what replaces a token: one of the `letters`, or of the whole `vocabulary`, special tokens included, as
            in the published training.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        share: float = 0.15,
        masked: float = 0.8,
        replaced: float = 0.1,
        random: Literal["letters", "vocabulary"] = "letters",
    ):
        super().__init__(vocabulary)
        if not 0 < share <= 1:
            raise InputError(f"objective: share is {share}, expected more than 0 and at most 1")
        if min(masked, replaced) < 0 or masked + replaced > 1:
            raise InputError(
                f"objective: masked {masked} and replaced {replaced}, expected shares of at most 1 together"
            )
        self.share, self.masked, self.replaced, self.mask = share, masked, replaced, vocabulary.mask
        self.random = vocabulary.letter_ids if random == "letters" else np.arange(len(vocabulary.tokens))

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        ids = example["inputs"]
        rng = np.random.default_rng((_JUDGED, index)) if rng is None else rng
        chosen = self.is_letter[ids] & (rng.random(len(ids)) < self.share)
        kind, random = rng.random(len(ids)), rng.choice(self.random, len(ids))
        inputs = np.where(chosen & (kind < self.masked), self.mask, ids)
        inputs = np.where(chosen & (self.masked <= kind) & (kind < self.masked + self.replaced), random, inputs)
        return {"inputs": inputs, "target": np.where(chosen, ids, IGNORED)}


class CausalLanguage(_Language):
    """The next token, from those before it. Source: Nguyen et al., "HyenaDNA", 2023, section 3.1."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__(vocabulary)

    def check(self, model: nn.Module) -> None:
        expect_causal: Any = getattr(model, "expect_causal", None)
        if expect_causal is None:
            raise InputError(
                f"objective: {type(model).__name__} does not score the next token. Choose a language model.name"
            )
        expect_causal()

    def example(self, example: Example, index: int, rng: np.random.Generator | None) -> Example:
        ids = example["inputs"]
        following = np.append(ids[1:], ids[-1:])
        known = self.is_letter[following] & (np.arange(len(ids)) < len(ids) - 1)
        return {"inputs": ids, "target": np.where(known, following, IGNORED)}


class Perplexity(Metric):
    """How many equally likely tokens would be as hard to guess: `exp` of the mean negative log-probability."""

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, log_probabilities: Tensor, target: Tensor) -> None:
        """Log-probabilities `[M, n_token]` and what the tokens are `[M]`."""
        self.total -= log_probabilities.gather(-1, target[:, None]).double().sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        return (self.total / self.count).exp()
