"""State tracking, copying, recall and memory: what one kind of sequence model can do and another cannot."""

from collections.abc import Sequence

import numpy as np

from helixwave.data.batches import IGNORED
from helixwave.errors import InputError
from helixwave.synthetic.generated import Generated


class ModularAddition(Generated):
    """Running sum of digits modulo m, asked for at every position: state tracking.

    Trained on sequences of `shortest` to `length` digits; scored in the test are the positions behind `length`. Linear
    recurrences with decays in (0, 1) cannot follow it over any length. Source: Grazzi et al., "Unlocking State-Tracking
    in Linear RNNs Through Negative Eigenvalues", 2024, section 5.

    Args:
        modulus: m.
        shortest, length: digits of a training sequence.
        test_lengths: digits of the test sequences.
        n_train, n_validation: sequences in an epoch and for validation.
        n_test: test sequences of each length.
        seed: all sequences follow from it.
    """

    def __init__(
        self,
        *,
        modulus: int = 3,
        shortest: int = 8,
        length: int = 40,
        test_lengths: Sequence[int] = (64, 128, 256),
        n_train: int = 8192,
        n_validation: int = 512,
        n_test: int = 128,
        seed: int = 0,
    ):
        if modulus < 2:
            raise InputError(f"data: modulus is {modulus}, expected at least 2")
        _expect_lengths(shortest, length, test_lengths, least=8)
        self.modulus = modulus
        super().__init__(
            [str(digit) for digit in range(modulus)],
            lengths=range(shortest, length + 1),
            test_lengths=test_lengths,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
            only_beyond=True,
        )

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        digits = rng.integers(self.modulus, size=length)
        return digits, digits.cumsum() % self.modulus


class Parity(ModularAddition):
    """Whether the ones so far are odd in number, asked for at every bit: the smallest state to track.

    Trained on sequences of `shortest` to `length` bits; scored in the test are the positions behind `length`. Linear
    recurrences with decays in (0, 1) cannot follow it over any length, those with negative eigenvalues can. Source:
    Grazzi et al., "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", 2024, section 4.

    Args:
        shortest, length: bits of a training sequence.
        test_lengths: bits of the test sequences.
        n_train, n_validation: sequences in an epoch and for validation.
        n_test: test sequences of each length.
        seed: all sequences follow from it.
    """

    def __init__(
        self,
        *,
        shortest: int = 8,
        length: int = 40,
        test_lengths: Sequence[int] = (64, 128, 256),
        n_train: int = 8192,
        n_validation: int = 512,
        n_test: int = 128,
        seed: int = 0,
    ):
        super().__init__(
            modulus=2,
            shortest=shortest,
            length=length,
            test_lengths=test_lengths,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
        )


class SelectiveCopying(Generated):
    """Symbols scattered among noise, to be reproduced in order afterwards: choosing by content what to keep.

    The last `n_copied` tokens ask for the symbols. Time-invariant systems cannot tell noise from symbols. Source: Gu
    and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 4.1.

    Args:
        n_symbol: different symbols.
        n_copied: symbols in a sequence.
        shortest, length: tokens of a training sequence.
        test_lengths: tokens of the test sequences.
        n_train, n_validation: sequences in an epoch and for validation.
        n_test: test sequences of each length.
        seed: all sequences follow from it.
    """

    def __init__(
        self,
        *,
        n_symbol: int = 8,
        n_copied: int = 4,
        shortest: int = 24,
        length: int = 48,
        test_lengths: Sequence[int] = (64, 128, 256),
        n_train: int = 8192,
        n_validation: int = 256,
        n_test: int = 128,
        seed: int = 0,
    ):
        _expect_lengths(shortest, length, test_lengths, least=2 * n_copied)
        self.n_symbol, self.n_copied = n_symbol, n_copied
        super().__init__(
            [*(f"symbol {i}" for i in range(n_symbol)), "noise", "copy"],
            lengths=range(shortest, length + 1),
            test_lengths=test_lengths,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
        )

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        symbols = rng.integers(self.n_symbol, size=self.n_copied)
        inputs = np.full(length, self.n_symbol)
        inputs[-self.n_copied :] = self.n_symbol + 1
        inputs[np.sort(rng.choice(length - self.n_copied, self.n_copied, replace=False))] = symbols
        return inputs, _answers(length, symbols)


class AssociativeRecall(Generated):
    """Pairs of a key and a value, then all keys in another order, each to be answered by its value.

    A sequence of n pairs has 3 n tokens. Attention recalls any number of pairs, a fixed state only so many. Source:
    Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models", 2023, section 3.

    Args:
        n_key, n_value: different keys and values.
        fewest, pairs: pairs in a training sequence.
        test_pairs: pairs in the test sequences.
        n_train, n_validation: sequences in an epoch and for validation.
        n_test: test sequences of each number of pairs.
        seed: all sequences follow from it.
    """

    def __init__(
        self,
        *,
        n_key: int = 16,
        n_value: int = 8,
        fewest: int = 2,
        pairs: int = 6,
        test_pairs: Sequence[int] = (8, 12, 16),
        n_train: int = 8192,
        n_validation: int = 256,
        n_test: int = 128,
        seed: int = 0,
    ):
        _expect_lengths(fewest, pairs, test_pairs, least=2, names=("fewest", "pairs", "test_pairs"))
        if max(test_pairs) > n_key:
            raise InputError(f"data: n_key is {n_key}, expected at least {max(test_pairs)}, the most of test_pairs")
        self.n_key, self.n_value = n_key, n_value
        super().__init__(
            [*(f"key {i}" for i in range(n_key)), *(f"value {i}" for i in range(n_value))],
            lengths=range(3 * fewest, 3 * pairs + 1, 3),
            test_lengths=[3 * n for n in test_pairs],
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
        )

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        n = length // 3
        keys = rng.permutation(self.n_key)[:n]
        values = self.n_key + rng.integers(self.n_value, size=n)
        asked = rng.permutation(n)
        inputs = np.concatenate([np.stack([keys, values], axis=1).ravel(), keys[asked]])
        return inputs, _answers(length, values[asked])


class LongMemory(Generated):
    """The first token, asked for at the end of a long stretch of noise.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, section 5.

    Args:
        n_symbol: different first tokens.
        n_noise: different tokens of noise.
        shortest, length: tokens of a training sequence.
        test_lengths: tokens of the test sequences.
        n_train, n_validation: sequences in an epoch and for validation.
        n_test: test sequences of each length.
        seed: all sequences follow from it.
    """

    def __init__(
        self,
        *,
        n_symbol: int = 8,
        n_noise: int = 8,
        shortest: int = 16,
        length: int = 64,
        test_lengths: Sequence[int] = (128, 256, 512),
        n_train: int = 8192,
        n_validation: int = 256,
        n_test: int = 128,
        seed: int = 0,
    ):
        _expect_lengths(shortest, length, test_lengths, least=8)
        self.n_symbol, self.n_noise = n_symbol, n_noise
        symbols, noise = (f"symbol {i}" for i in range(n_symbol)), (f"noise {i}" for i in range(n_noise))
        super().__init__(
            [*symbols, *noise, "recall"],
            lengths=range(shortest, length + 1),
            test_lengths=test_lengths,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
        )

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        symbol = rng.integers(self.n_symbol, size=1)
        noise = self.n_symbol + rng.integers(self.n_noise, size=length - 2)
        return np.concatenate([symbol, noise, [self.n_symbol + self.n_noise]]), _answers(length, symbol)


def _answers(length: int, answers: np.ndarray) -> np.ndarray:
    """Targets that are scored at the last positions alone."""
    target = np.full(length, IGNORED)
    target[-len(answers) :] = answers
    return target


def _expect_lengths(
    shortest: int,
    longest: int,
    test: Sequence[int],
    *,
    least: int,
    names: tuple[str, str, str] = ("shortest", "length", "test_lengths"),
) -> None:
    if not least <= shortest <= longest:
        raise InputError(f"data: {names[0]} is {shortest}, expected {least} to {longest}, which is data.{names[1]}")
    if not test or min(test) < least:
        raise InputError(f"data: {names[2]} is {list(test)}, expected at least one number, and all from {least}")
