"""Diagnoses as labels of a recording, judged as the PhysioNet/CinC Challenges judge them."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from helixwave.data import Picture
from helixwave.errors import InputError
from helixwave.objectives import MultiLabel
from helixwave.objectives.collected import Collected
from helixwave.objectives.objective import expect_targets
from torch import Tensor

from helixwave_domains.ecg.challenge import Flags, Floats, challenge_metric, f_measure, mean_of_defined
from helixwave_domains.ecg.ptbxl_metrics import macro_auroc_interval
from helixwave_domains.ecg.snomed import class_names, classes_named, reward_matrix, scored_classes

Monitor = Literal["auroc", "auprc", "f", "challenge"]
Loss = Literal["cross_entropy", "asymmetric", "challenge"]

# of the asymmetric loss: exponent of the negatives and the probability below which they cost nothing
_GAMMA, _MARGIN = 4, 0.05


class EcgDiagnoses(MultiLabel):
    """Which diagnoses a recording has, judged by macro AUROC, AUPRC and F, and by the metric of the CinC challenges.

    The metric of a challenge is there if the classes are just those that it scores, in any order, by abbreviation or
    code as in `CLBBB|LBBB`. A label is predicted if its probability is above a half. Recordings with an unknown label
    (NaN) enter neither that metric nor the interval.

    Args:
        monitor: the metric on the validation split that chooses the weights to keep.
        loss: mean binary cross entropy; or the same with rare labels in mind, where confident negatives hardly count
            (Ridnik et al., "Asymmetric Loss for Multi-Label Classification", 2021, with gamma- = 4, gamma+ = 0,
            m = 0.05); or cross entropy less the mean reward of the challenge, probabilities taken for outputs and
            `y + p - y p` for the count of classes that are either.
        intervals: resamples of a bootstrap on the test split: 0.05 and 0.95 quantiles of the macro AUROC as
            `auroc_low` and `auroc_high`; NaN where hardly any resample has every label; 0: none. PTB-XL's
            benchmark has 1,000.

    Raises:
        InputError: the metric or the loss of a challenge is asked for, and the classes are of none.
    """

    def __init__(
        self, classes: list[str], *, monitor: Monitor = "auroc", loss: Loss = "cross_entropy", intervals: int = 0
    ):
        super().__init__(classes)
        self.monitor, self.kind, self.intervals = monitor, loss, intervals
        self.year = challenge_year(classes)
        if intervals < 0:
            raise InputError(f"objective (ecg_diagnoses): intervals is {intervals}, expected 0 or more resamples")
        asked = [key for key, value in (("monitor", monitor), ("loss", loss)) if value == "challenge"]
        if asked and self.year is None:
            raise InputError(
                f"objective (ecg_diagnoses): {asked[0]} is challenge, and the {len(classes)} classes of the data are "
                f"not those of a challenge (26 of 2021, 24 of 2020). Set {asked[0]} to another value"
            )
        self.order = [] if self.year is None else official_order(classes, self.year)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The mean over what is known; zero if that is nothing."""
        if self.kind == "asymmetric":
            expect_targets(outputs, target, per_place=1)
            known = ~target.isnan()
            return asymmetric_loss(outputs[known], target[known].to(outputs.dtype)) / known.sum().clamp(min=1)
        found = super().loss(outputs, target)
        if self.kind == "challenge":
            found = (
                found - soft_reward(outputs[..., self.order], target[..., self.order], self._rewards(outputs)).mean()
            )
        return found

    def metrics(self) -> Collected:
        return _DiagnosisScores(super().metrics(), self.order, self.year)

    def score(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """All metrics of what `scored` returned, with the interval of the macro AUROC if it is asked for."""
        found = super().score(outputs, target)
        if self.intervals:
            rows = ~target.isnan().any(-1)
            low, high = self._interval(target[rows].numpy() == 1, outputs[rows].double().numpy())
            found |= {"auroc_low": low, "auroc_high": high}
        return found

    def pictures(self, outputs: Tensor, target: Tensor) -> list[Picture]:
        """Scores of each label, then curves and calibration."""
        from helixwave_domains.ecg.class_pictures import diagnoses_picture

        probabilities = outputs.double().sigmoid().numpy()
        return [diagnoses_picture(target.numpy(), probabilities, self.classes), *super().pictures(outputs, target)]

    def _interval(self, labels: Flags, outputs: Floats) -> tuple[float, float]:
        try:
            found = macro_auroc_interval(labels, outputs, resamples=self.intervals)
        except InputError:
            # as with the score itself, what is not defined must not end a run that is trained
            return math.nan, math.nan
        return found.low, found.high

    def _rewards(self, like: Tensor) -> Tensor:
        assert self.year is not None
        return torch.as_tensor(reward_matrix(self.year)).to(like)


def challenge_year(classes: list[str]) -> int | None:
    """The challenge that scores just these classes, given by abbreviation or code in any order; None: neither."""
    for year in (2021, 2020):
        meant = [classes_named(name, year) for name in classes]
        if sorted(meant) == [[number] for number in range(len(scored_classes(year)))]:
            return year
    return None


def official_order(classes: list[str], year: int) -> list[int]:
    """Where each scored class stands in `classes`, which are those of the challenge of `year`."""
    place = {classes_named(name, year)[0]: index for index, name in enumerate(classes)}
    return [place[number] for number in range(len(class_names(year)))]


def asymmetric_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Sum over logits and labels of any one shape (Ridnik et al. 2021, gamma+ = 0)."""
    shifted = (outputs.sigmoid() - _MARGIN).clamp(min=0)
    return (target * F.softplus(-outputs) - (1 - target) * shifted**_GAMMA * torch.log1p(-shifted)).sum()


def soft_reward(outputs: Tensor, target: Tensor, rewards: Tensor) -> Tensor:
    """The challenge's reward `[...]` of logits and labels `[..., n_class]` in official order; NaN has no part."""
    known = ~target.isnan()
    labels = target.nan_to_num(0.0).to(outputs.dtype)
    chance = outputs.sigmoid() * known
    either = (labels + chance - labels * chance).sum(-1).clamp(min=1)
    return ((labels @ rewards) * chance).sum(-1) / either


class _DiagnosisScores(Collected):
    """Scores of single labels, and those of all labels together."""

    def __init__(self, single: Collected, order: list[int], year: int | None):
        super().__init__(single.scores)
        self.order, self.year = order, year

    def compute(self) -> dict[str, Tensor]:
        outputs, targets = (torch.cat(pieces).numpy() for pieces in (self.outputs, self.targets))
        known = ~np.isnan(targets)
        labels, given = targets == 1, (outputs > 0) & known
        found = super().compute() | {"f": torch.tensor(mean_of_defined(f_measure(labels, given)))}
        if self.year is not None:
            rows = np.flatnonzero(known.all(axis=1))
            truth, said = (flags[rows][:, self.order] for flags in (labels, given))
            found["challenge"] = torch.tensor(challenge_metric(truth, said, self.year) if len(rows) else np.nan)
        return found
