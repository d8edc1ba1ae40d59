"""What a model has to beat: logistic regressions on plain features, tuned by cross-validation on the training part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.errors import InputError
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor

from helixwave_domains.genomics.alphabet import A, reverse_complement_string
from helixwave_domains.genomics.genome_annotation import GenomeAnnotation
from helixwave_domains.genomics.sequences import SequenceData

_FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


class OneHotLogisticRegression:
    """Logistic regression on the bases at their positions; all sequences have one length or are cut to the shortest.

    Args:
        strengths: inverse regularisation strengths to choose from.
    """

    def __init__(self, *, strengths: Sequence[float] = _STRENGTHS):
        self.strengths, self.description = strengths, ""

    def predict(self, data: SequenceData) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on all else."""
        _expect_classes("one_hot_logistic_regression", data)
        length = min(len(ids) for part in (data.train, data.validation, data.test) for ids in part.ids)
        features = {name: _one_hot(np.stack([ids[:length] for ids in getattr(data, name).ids])) for name in data.parts}
        search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": list(self.strengths)}, cv=_FOLDS)
        search.fit(sparse.vstack([features["train"], features["validation"]]), _fitted_labels(data))
        self.description = (
            f"logistic regression on one-hot bases, C={search.best_params_['C']:g} by 5-fold cross-validation"
        )
        return _log_probabilities(search, features["test"]), torch.from_numpy(data.test.labels)


class KmerLogisticRegression:
    """Logistic regression on how often each k-mer occurs; k and the regularisation by cross-validation.

    Args:
        sizes: values of k to choose from.
        strengths: inverse regularisation strengths to choose from.
        both_strands: count a k-mer and its reverse complement as one.
        most: training sequences, drawn at random, to keep the fit quick; null: all.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int] = (3, 4, 5),
        strengths: Sequence[float] = _STRENGTHS,
        both_strands: bool = False,
        most: int | None = None,
    ):
        self.sizes, self.strengths, self.both_strands = sizes, strengths, both_strands
        self.most, self.description = most, ""

    def predict(self, data: SequenceData) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the test part; fitted on all else."""
        _expect_classes("kmer_logistic_regression", data)
        sequences, labels = data.train.sequences + data.validation.sequences, _fitted_labels(data)
        if self.most is not None and self.most < len(sequences):
            drawn = np.random.default_rng(0).permutation(len(sequences))[: self.most]
            sequences, labels = [sequences[i] for i in drawn], labels[drawn]
        scoring = "roc_auc" if len(data.classes) == 2 else "accuracy"
        found = {}
        for k in self.sizes:
            counter = self._counter(k)
            search = GridSearchCV(
                LogisticRegression(max_iter=5000), {"C": list(self.strengths)}, cv=_FOLDS, scoring=scoring
            )
            found[k] = counter, search.fit(counter.fit_transform(sequences), labels)
        k = max(found, key=lambda size: found[size][1].best_score_)
        counter, search = found[k]
        self.description = (
            f"logistic regression on {k}-mer counts, C={search.best_params_['C']:g}; both by 5-fold cross-validation"
        )
        return _log_probabilities(search, counter.transform(data.test.sequences)), torch.from_numpy(data.test.labels)

    def _counter(self, k: int) -> Pipeline:
        vectorizer = CountVectorizer(analyzer="char", ngram_range=(k, k), lowercase=False)
        return make_pipeline(*([FunctionTransformer(_with_other_strand)] if self.both_strands else []), vectorizer)


class LocalLogisticRegression:
    """Logistic regression on the bases around each base.

    Args:
        context: bases on each side.
        strengths: inverse regularisation strengths to choose from.
        most: training positions, drawn at random, to keep the fit quick.
    """

    def __init__(self, *, context: int = 45, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0), most: int = 40000):
        self.context, self.strengths, self.most, self.description = context, strengths, most, ""

    def predict(self, data: GenomeAnnotation) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, n_class]` and targets `[M]` of the scored test positions."""
        inputs, target = self._features(data, "train")
        kept = np.random.default_rng(0).permutation(len(target))[: self.most]
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        search = GridSearchCV(LogisticRegression(max_iter=300, tol=1e-3), {"C": list(self.strengths)}, cv=folds)
        search.fit(inputs[kept], target[kept])
        self.description = (
            f"logistic regression on one-hot bases within {self.context} of the base, "
            f"C={search.best_params_['C']:g} by 3-fold cross-validation"
        )
        inputs, target = self._features(data, "test")
        return _log_probabilities(search, inputs), torch.from_numpy(target)

    def _features(self, data: GenomeAnnotation, part: str) -> tuple[sparse.csr_matrix, np.ndarray]:
        windows, targets = [], []
        for block in data.blocks:
            if block.part == part:
                padded = np.pad(block.ids, self.context, constant_values=0)
                around = np.lib.stride_tricks.sliding_window_view(padded, 2 * self.context + 1)
                scored = block.target >= 0
                windows.append(_one_hot(around[scored]))
                targets.append(block.target[scored])
        return sparse.vstack(windows).tocsr(), np.concatenate(targets)


def _one_hot(ids: np.ndarray) -> sparse.csr_matrix:
    """Token ids `[M, T]` -> `[M, 4 T]`; a token that is none of the four bases has no one."""
    rows, columns = np.nonzero((ids >= A) & (ids < A + 4))
    ones = np.ones(len(rows), dtype=np.float32)
    place = 4 * columns + ids[rows, columns] - A
    return sparse.csr_matrix((ones, (rows, place)), shape=(len(ids), 4 * ids.shape[1]))


def _expect_classes(name: str, data: object) -> None:
    if not isinstance(data, SequenceData) or data.train.labels.ndim > 1:
        raise InputError(
            f"baseline: {name} is for sequences with one class each. Choose baseline.name=kmer_linear for labels and "
            "numbers, base_context for a language model, or baseline=null"
        )


def _fitted_labels(data: SequenceData) -> np.ndarray:
    return np.concatenate([data.train.labels, data.validation.labels])


def _with_other_strand(sequences: list[str]) -> list[str]:
    return [f"{sequence} {reverse_complement_string(sequence)}" for sequence in sequences]


def _log_probabilities(model: Any, features: Any) -> Tensor:
    return torch.from_numpy(np.log(model.predict_proba(features).clip(1e-12)))
