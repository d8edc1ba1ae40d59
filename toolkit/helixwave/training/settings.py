"""The section `training` of a recipe. Read without importing torch."""

import math
from dataclasses import dataclass
from typing import Any

from helixwave.errors import require
from helixwave.registry import MODELS, OBJECTIVES, Config, check_arguments
from helixwave.signature import signature_of


@dataclass(frozen=True)
class SelfPretrain:
    """Pretraining on the inputs of the training split alone, before the labels are learnt.

    The report holds a third run: from scratch, with as many updates as both phases together. Source: Amos et al.,
    "Never Train from Scratch", 2024, section 3.

    Args:
        epochs: of the pretraining, beside `trainer.max_epochs`.
        objective: `{name: masked}` or `causal` for tokens, `masked_spans` or `next_values` for signals; null: what is
            hidden from both sides.
        model: whose embedding and backbone are those of the recipe's model; null: the one that this names.
    """

    epochs: int = 10
    objective: Config | None = None
    model: Config | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "training.self_pretrain.epochs", self.epochs, "at least 1")


@dataclass(frozen=True)
class LengthWarmup:
    """Short pieces of the training sequences first, of a length that doubles until they are whole.

    A step has as many positions throughout, and every position is seen once an epoch. A piece of a sequence with one
    label has this label. Source: Nguyen et al., "HyenaDNA", 2023, section 3.2 (by epochs there).

    Args:
        start: the first length.
        share: of the run's positions; when so many have been seen the last doubling is due.
    """

    start: int
    share: float = 0.5

    def __post_init__(self) -> None:
        require(self.start >= 1, "training.length_warmup.start", self.start, "at least 1")
        require(0 < self.share <= 1, "training.length_warmup.share", self.share, "more than 0 and at most 1")


@dataclass(frozen=True)
class LengthBuckets:
    """Training sequences cut into pieces of powers of two, a batch of pieces of one length, without padding.

    A step has as many positions whatever its length, and every position is seen once an epoch: what remains at the end
    of a sequence is read with the positions before it, which are not scored again. A piece of a sequence with one
    label has this label. Source: Pouransari et al., "Dataset Decomposition", 2024, section 2.

    Args:
        least: positions of the shortest piece; a sequence with less is a piece of its own.
        most: of the longest; null: as long as they come.
        curriculum: how many times as soon a length is seen as its double; 1: in any order.
        cycles: how often in an epoch the curriculum begins anew.
    """

    least: int = 64
    most: int | None = None
    curriculum: float = 2.0
    cycles: int = 1

    def __post_init__(self) -> None:
        where = "training.length_buckets"
        require(is_power(self.least), f"{where}.least", self.least, "a power of two")
        fits = self.most is None or (is_power(self.most) and self.most >= self.least)
        require(fits, f"{where}.most", self.most, f"a power of two from {self.least}")
        require(self.curriculum >= 1, f"{where}.curriculum", self.curriculum, "at least 1")
        require(self.cycles >= 1, f"{where}.cycles", self.cycles, "at least 1")


@dataclass(frozen=True)
class ObjectiveMixture:
    """Further objectives, learnt beside the recipe's own with the same embedding and backbone.

    Each step serves one objective, drawn by its weight. Source: Blouir et al., "Birdie", 2024, section 3, for the
    reward; its rule is simpler here: after each epoch a weight grows with how much the validation loss of its objective
    has fallen, as a part of the greatest fall.

    Args:
        objectives: names and arguments.
        weights: first that of the recipe's own objective, then theirs; null: all alike.
        reward: the greatest change of a weight's logarithm at an epoch's end; 0: weights stay as they are.
    """

    objectives: list[Config]
    weights: list[float] | None = None
    reward: float = 0.0

    def __post_init__(self) -> None:
        where, n = "training.objective_mixture", len(self.objectives) + 1
        require(bool(self.objectives), f"{where}.objectives", self.objectives, "at least one, as in [{name: masked}]")
        fits = self.weights is None or (len(self.weights) == n and min(self.weights) > 0)
        require(fits, f"{where}.weights", self.weights, f"{n} numbers above 0: the recipe's own objective first")
        require(0 <= self.reward < math.inf, f"{where}.reward", self.reward, "at least 0")


@dataclass(frozen=True)
class Training:
    """Techniques of training; each is off unless it is given.

    Args:
        self_pretrain: see `SelfPretrain`.
        length_warmup: see `LengthWarmup`.
        length_buckets: see `LengthBuckets`.
        objective_mixture: see `ObjectiveMixture`.
        gradient_noise: variance of the noise on each gradient at the first step; it falls as `1 / (1 + step)^0.55`
            (Neelakantan et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015, equation 1).
        layer_decay: of the learning rate from each layer of the backbone to the one before it; 1: none (Bao et al.,
            "BEiT", 2022).
        find_batch_size: enlarge `batches` by doubling until a step fills the memory or is no faster for each example.
    """

    self_pretrain: SelfPretrain | None = None
    length_warmup: LengthWarmup | None = None
    length_buckets: LengthBuckets | None = None
    objective_mixture: ObjectiveMixture | None = None
    gradient_noise: float = 0.0
    layer_decay: float = 1.0
    find_batch_size: bool = False

    def __post_init__(self) -> None:
        require(self.gradient_noise >= 0, "training.gradient_noise", self.gradient_noise, "at least 0")
        require(0 < self.layer_decay <= 1, "training.layer_decay", self.layer_decay, "more than 0 and at most 1")


_GROUPS = {
    "self_pretrain": SelfPretrain,
    "length_warmup": LengthWarmup,
    "length_buckets": LengthBuckets,
    "objective_mixture": ObjectiveMixture,
}


def read_training(where: str, given: Config) -> Training:
    """The section from a recipe's plain values.

    Args:
        where: the beginning of an error's message.

    Raises:
        InputError: an unknown key, or a value that makes no sense.
    """
    groups = {key: _group(f"{where}.{key}", _GROUPS[key], given[key]) for key in _GROUPS if given.get(key) is not None}
    plain = {key: value for key, value in given.items() if key not in _GROUPS}
    check_arguments(where, signature_of(Training), {**plain, **dict.fromkeys(groups)})
    return Training(**plain, **groups)


def _group(where: str, kind: Any, given: object) -> Any:
    values = {} if given is True else given
    require(isinstance(values, dict), where, given, f"a group of keys such as {_example(where, kind)}")
    assert isinstance(values, dict)
    check_arguments(where, signature_of(kind), values)
    group = kind(**values)
    for objective in [*getattr(group, "objectives", []), getattr(group, "objective", None)]:
        if objective is not None:
            OBJECTIVES.check(f"{where}: objective", objective)
    if getattr(group, "model", None) is not None:
        MODELS.check(f"{where}: model", group.model)
    return group


def _example(where: str, kind: Any) -> str:
    return f"{where.rpartition(' ')[2]}.{next(iter(signature_of(kind).parameters))}=VALUE"


def is_power(number: int) -> bool:
    """Whether a number is a power of two."""
    return number >= 1 and number & (number - 1) == 0
