"""Diagnoses of the PhysioNet/CinC Challenges 2020 and 2021: which are scored, which are one, what an error is worth.

Codes, names, order and rewards are those of the organisers' evaluation code (physionetchallenges/evaluation-2020 and
evaluation-2021, BSD 2-Clause, copyright 2020, 2021 PhysioNet/Computing in Cardiology Challenges), here in a form of
our own: nearly all rewards follow from one number of each diagnosis.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

Year = Literal[2020, 2021]


@dataclass(frozen=True)
class Diagnosis:
    """A code of SNOMED CT that is scored.

    Args:
        code: such as `426783006`.
        abbreviation: such as `NSR`.
        name: such as `sinus rhythm`.
        distance: how far its outcome and treatment are from those of sinus rhythm.
    """

    code: str
    abbreviation: str
    name: str
    distance: float


@dataclass(frozen=True)
class ScoredClass:
    """One diagnosis, or several that are scored as the same."""

    members: tuple[Diagnosis, ...]

    @property
    def name(self) -> str:
        """Abbreviations, such as `NSR` or `CLBBB|LBBB`."""
        return "|".join(member.abbreviation for member in self.members)

    @property
    def code(self) -> str:
        """Codes, such as `426783006` or `733534002|164909002`."""
        return "|".join(member.code for member in self.members)

    @property
    def title(self) -> str:
        """Full names."""
        return ", ".join(member.name for member in self.members)


DIAGNOSES = (
    Diagnosis("164889003", "AF", "atrial fibrillation", 0.25),
    Diagnosis("164890007", "AFL", "atrial flutter", 0.25),
    Diagnosis("6374002", "BBB", "bundle branch block", 0.225),
    Diagnosis("426627000", "Brady", "bradycardia", 0.05),
    Diagnosis("733534002", "CLBBB", "complete left bundle branch block", 0.225),
    Diagnosis("713427006", "CRBBB", "complete right bundle branch block", 0.15),
    Diagnosis("270492004", "IAVB", "1st degree av block", 0.05),
    Diagnosis("713426002", "IRBBB", "incomplete right bundle branch block", 0.05),
    Diagnosis("39732003", "LAD", "left axis deviation", 0.1),
    Diagnosis("445118002", "LAnFB", "left anterior fascicular block", 0.1),
    Diagnosis("164909002", "LBBB", "left bundle branch block", 0.225),
    Diagnosis("251146004", "LQRSV", "low qrs voltages", 0.175),
    Diagnosis("698252002", "NSIVCB", "nonspecific intraventricular conduction disorder", 0.1),
    Diagnosis("426783006", "NSR", "sinus rhythm", 0.0),
    Diagnosis("284470004", "PAC", "premature atrial contraction", 0.0875),
    Diagnosis("10370003", "PR", "pacing rhythm", 0.125),
    Diagnosis("365413008", "PRWP", "poor R wave progression", 0.175),
    Diagnosis("427172004", "PVC", "premature ventricular contractions", 0.125),
    Diagnosis("164947007", "LPR", "prolonged pr interval", 0.05),
    Diagnosis("111975006", "LQT", "prolonged qt interval", 0.2),
    Diagnosis("164917005", "QAb", "qwave abnormal", 0.35),
    Diagnosis("47665007", "RAD", "right axis deviation", 0.1),
    Diagnosis("59118001", "RBBB", "right bundle branch block", 0.15),
    Diagnosis("427393009", "SA", "sinus arrhythmia", 0.05),
    Diagnosis("426177001", "SB", "sinus bradycardia", 0.05),
    Diagnosis("427084000", "STach", "sinus tachycardia", 0.125),
    Diagnosis("63593006", "SVPB", "supraventricular premature beats", 0.0875),
    Diagnosis("164934002", "TAb", "t wave abnormal", 0.25),
    Diagnosis("59931005", "TInv", "t wave inversion", 0.25),
    Diagnosis("17338001", "VPB", "ventricular premature beats", 0.125),
)

SINUS_RHYTHM = "NSR"

# in the order of the rows of the official tables; of equivalent diagnoses, the first stands for all
_CLASSES: dict[int, str] = {
    2020: (
        "IAVB AF AFL Brady CRBBB|RBBB IRBBB LAnFB LAD LBBB LQRSV NSIVCB PR PAC|SVPB PVC|VPB LPR LQT QAb RAD SA SB NSR "
        "STach TAb TInv"
    ),
    2021: (
        "AF AFL BBB Brady CLBBB|LBBB CRBBB|RBBB IAVB IRBBB LAD LAnFB LPR LQRSV LQT NSIVCB NSR PAC|SVPB PR PRWP PVC|VPB "
        "QAb RAD SA SB STach TAb TInv"
    ),
}
# the only rewards that do not follow from the distances
_EXCEPTIONS = {("BBB", "CLBBB|LBBB"): 0.475, ("LQRSV", "PRWP"): 0.475}


@cache
def scored_classes(year: int) -> tuple[ScoredClass, ...]:
    """The 24 classes of 2020 or the 26 of 2021, in the order of the official evaluation.

    Raises:
        InputError: another year.
    """
    if year not in _CLASSES:
        raise InputError(f"year {year}: there are scores of the challenges of 2020 and 2021. Give one of these")
    by_name = {diagnosis.abbreviation: diagnosis for diagnosis in DIAGNOSES}
    return tuple(ScoredClass(tuple(by_name[one] for one in name.split("|"))) for name in _CLASSES[year].split())


def class_names(year: int) -> list[str]:
    """Abbreviations of the scored classes: `AF`, `CLBBB|LBBB`, ..."""
    return [scored.name for scored in scored_classes(year)]


def classes_named(name: str, year: int) -> list[int]:
    """Numbers of the scored classes that a code or abbreviation means, or several of them joined by `|`."""
    known = _numbers(year)
    return sorted({known[part] for part in map(str.strip, name.split("|")) if part in known})


def reward_matrix(year: int) -> NDArray[np.float64]:
    """What the output of one class (column) is worth where another one (row) is true: `[n_class, n_class]`, symmetric.

    Source: Perez Alday et al., "Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020",
    2020; Reyna et al., "Will Two Do? Varying Dimensions in Electrocardiography", 2021.
    """
    scored = scored_classes(year)
    distances = np.array([one.members[0].distance for one in scored])
    rewards = np.round(0.5 - np.abs(distances[:, None] - distances), 4)
    np.fill_diagonal(rewards, 1.0)
    number = {one.name: place for place, one in enumerate(scored)}
    for (row, column), reward in _EXCEPTIONS.items():
        if row in number and column in number:
            rewards[number[row], number[column]] = rewards[number[column], number[row]] = reward
    return rewards


@cache
def _numbers(year: int) -> dict[str, int]:
    """The class of each code and of each abbreviation."""
    return {
        word: number
        for number, scored in enumerate(scored_classes(year))
        for member in scored.members
        for word in (member.code, member.abbreviation)
    }
