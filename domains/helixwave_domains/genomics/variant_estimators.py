"""Which variants have an effect, without training a network: from a checkpoint's embeddings, or from letters alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from helixwave.data import Picture
from helixwave.errors import InputError
from helixwave.start import read_model
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from helixwave_domains.genomics.allele_embeddings import embed_alleles
from helixwave_domains.genomics.alphabet import BASES
from helixwave_domains.genomics.strands import BothStrands
from helixwave_domains.genomics.variant_effect import VariantEffect, VariantPart

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1)


class EmbeddingSVM:
    """Support vector machines with a Gaussian kernel on what a checkpoint makes of both alleles.

    The features of a variant are the means of the last hidden states around it with the reference's letter and with the
    other, averaged over both strands, and the number of its tissue if there are several; standardised. For each bin of
    distance several machines learn as many random training rows; C is chosen on the validation rows, and a logistic
    curve through the mean of their decisions there makes probabilities of it. Source: Schiff et al., "Caduceus", 2024,
    section 5.3, whose code chooses C on the test rows.

    Args:
        checkpoint: a checkpoint or run of ours, or a published model of DNA.
        strengths: values of C to choose from.
        rows: training rows of one machine.
        repeats: machines for each bin.
        around: positions on each side of the variant that the mean is taken over, as far as the window goes.
        tokens: positions that the model reads at once; null: as is good for the machine.
        seed: draws the training rows.
    """

    def __init__(
        self,
        *,
        checkpoint: str,
        strengths: Sequence[float] = (1.0, 5.0, 10.0),
        rows: int = 5000,
        repeats: int = 5,
        around: int = 768,
        tokens: int | None = None,
        seed: int = 0,
    ):
        if min(rows, repeats) < 1 or around < 0:
            raise InputError(
                f"estimator: rows {rows}, repeats {repeats} and around {around}, expected at least 1, 1 and 0"
            )
        self.checkpoint, self.strengths, self.rows, self.repeats = checkpoint, strengths, rows, repeats
        self.around, self.tokens, self.seed, self.description = around, tokens, seed, ""
        self.scores: dict[str, list[Any]] = {}

    def predict(self, data: VariantEffect) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, 2]` and targets `[M]` of the test rows."""
        embeddings = embed_alleles(self._model(), data, around=self.around, tokens=self.tokens)
        self.scores = {key: [] for key in ("distance", "C", "machine", "auroc", "auroc_of_predictions")}
        outputs = np.zeros((len(data.test), len(data.classes)))
        for number in range(len(data.bins)):
            tested = data.test.bins == number
            if tested.any():
                outputs[tested] = self._predict_bin(data, embeddings, number)
        chosen = dict(zip(self.scores["distance"], self.scores["C"], strict=True))
        self.description = (
            f"{self.repeats} support vector machines on embeddings of {self.checkpoint}, "
            f"{', '.join(f'C={strength:g} ({name})' for name, strength in chosen.items())} by the validation rows"
        )
        return torch.from_numpy(outputs), torch.from_numpy(data.test.labels)

    def pictures(self) -> list[Picture]:
        """How well each machine does at each distance."""
        from helixwave_domains.genomics.genome_page import distance_picture

        return [distance_picture(self.scores)]

    def _model(self) -> BothStrands:
        model = read_model(self.checkpoint)
        if not isinstance(model, BothStrands):
            raise InputError(f"estimator: {self.checkpoint} is a {type(model).__name__}, expected a model of DNA")
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _predict_bin(self, data: VariantEffect, embeddings: NDArray[np.float32], number: int) -> NDArray[np.float64]:
        train, held_out, tested = (_in_bin(data, name, number) for name in ("train", "validation", "test"))
        drawn = [train.subset(rows) for rows in self._draws(len(train), number)]
        with_tissue = len(data.tissues) > 1
        x_held_out, x_tested = (_features(embeddings, part, with_tissue) for part in (held_out, tested))
        fitted = {}
        for strength in self.strengths:
            machines = [_machine(strength).fit(_features(embeddings, part, with_tissue), part.labels) for part in drawn]
            scores = [roc_auc_score(held_out.labels, machine.decision_function(x_held_out)) for machine in machines]
            fitted[strength] = float(np.mean(scores)), machines
        strength = max(fitted, key=lambda c: fitted[c][0])
        machines = fitted[strength][1]
        self._keep_scores(data.bins[number], strength, machines, x_tested, tested)
        seen, asked = (_decisions(machines, x)[:, None] for x in (x_held_out, x_tested))
        return LogisticRegression().fit(seen, held_out.labels).predict_log_proba(asked)

    def _draws(self, count: int, number: int) -> list[NDArray[np.int64]]:
        """Random rows for each machine."""
        generators = [np.random.default_rng((self.seed, number, repeat)) for repeat in range(self.repeats)]
        return [rng.permutation(count)[: self.rows] for rng in generators]

    def _keep_scores(
        self, name: str, strength: float, machines: Sequence[Pipeline], x: NDArray[np.float32], tested: VariantPart
    ) -> None:
        if len(np.unique(tested.labels)) < 2:
            return
        for i, machine in enumerate(machines):
            area = roc_auc_score(tested.labels, machine.decision_function(x))
            row = (name, strength, i + 1, area, roc_auc_score(tested.labels, machine.predict(x)))
            for column, value in zip(self.scores.values(), row, strict=True):
                column.append(value)


class VariantLogisticRegression:
    """Logistic regression on the letters around a variant, the letters it exchanges, its tissue and its distance.

    Args:
        context: bases on each side.
        strengths: inverse regularisation strengths to choose from.
        most: training rows, drawn at random, to keep the fit quick.
    """

    def __init__(self, *, context: int = 10, strengths: Sequence[float] = _STRENGTHS, most: int = 20000):
        self.context, self.strengths, self.most, self.description = context, strengths, most, ""

    def predict(self, data: VariantEffect) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[M, 2]` and targets `[M]` of the test rows; fitted on a draw of all others."""
        known = data.train.joined(data.validation)
        drawn = known.subset(np.random.default_rng(0).permutation(len(known))[: self.most])
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        grid = {"logisticregression__C": list(self.strengths)}
        search = GridSearchCV(model, grid, cv=folds, scoring="roc_auc")
        search.fit(self._features(data, drawn), drawn.labels)
        self.description = (
            f"logistic regression on {self.context} bases on each side, the letters that are exchanged, tissue and "
            f"distance, C={search.best_params_['logisticregression__C']:g} by 5-fold cross-validation"
        )
        outputs = np.log(search.predict_proba(self._features(data, data.test)).clip(1e-12))
        return torch.from_numpy(outputs), torch.from_numpy(data.test.labels)

    def _features(self, data: VariantEffect, part: VariantPart) -> NDArray[np.float64]:
        numbers, row = np.unique(part.alleles, return_inverse=True)
        letters = np.stack([self._letters(data, int(number)) for number in numbers])
        tissues, bins = np.eye(len(data.tissues)), np.eye(len(data.bins))
        return np.column_stack([letters[row], tissues[part.tissues], bins[part.bins]])

    def _letters(self, data: VariantEffect, number: int) -> NDArray[np.float64]:
        """Bases around an allele, the pair that is exchanged, and the share of G and C in the window."""
        found = data.windows(number)
        begin = data.window // 2 - self.context
        around = found.ref[max(begin, 0) : begin + 2 * self.context + 1].ljust(2 * self.context + 1, "N")
        exchanged = np.outer(_one_hot(found.ref[data.window // 2]), _one_hot(found.alt[data.window // 2]))
        share = sum(map(found.ref.count, "GC")) / data.window
        return np.concatenate([*map(_one_hot, around), exchanged.ravel(), [share]])


def _in_bin(data: VariantEffect, name: str, number: int) -> VariantPart:
    part: VariantPart = getattr(data, name)
    part = part.subset(part.bins == number)
    if name != "test" and len(np.unique(part.labels)) < 2:
        raise InputError(
            f"data: the {name} part has not both classes at the distance {data.bins[number]!r} ({len(part)} variants). "
            "Give more variants, or another data.validation"
        )
    return part


def _features(embeddings: NDArray[np.float32], part: VariantPart, with_tissue: bool) -> NDArray[np.float32]:
    found = embeddings[part.alleles]
    return np.column_stack([found, part.tissues]).astype(np.float32) if with_tissue else found


def _machine(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(C=strength))


def _decisions(machines: Sequence[Pipeline], x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.mean([machine.decision_function(x) for machine in machines], axis=0)


def _one_hot(letter: str) -> NDArray[np.float64]:
    return np.array([letter == base for base in BASES], dtype=np.float64)
