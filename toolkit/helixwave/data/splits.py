"""What is trained on and what is tested: whole groups, with every class on all sides where there are enough."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from helixwave.errors import InputError

PARTS = ("train", "validation", "test")

Labels = Sequence[int] | NDArray[np.int64] | NDArray[np.float32]
"""A class each `[M]`, or labels `[M, n]` in 0 and 1."""


def split_groups(
    groups: Sequence[str], labels: Labels, *, validation: float, test: float, seed: int
) -> dict[str, list[int]]:
    """Places of the examples of each part; a group, such as a patient's recordings, is in one of them as a whole.

    Groups with the rarest labels are dealt out first, each to the part that is furthest from its share of the groups
    with this label and of all. Among equals, a hash of the name and the seed decides, so that the split depends neither
    on the order of files nor on the machine. Source: after Sechidis et al., "On the stratification of multi-label
    data", 2011, section 3.3.

    Args:
        groups: of each example.
        labels: of each example.
        validation, test: shares of the groups.
        seed: of the split.

    Raises:
        InputError: shares that leave nothing, or too few groups for three parts.
    """
    if min(validation, test) <= 0 or validation + test >= 1:
        raise InputError(f"data: validation {validation} and test {test}, expected shares that leave some to train")
    share = np.array([1 - validation - test, validation, test])
    places = defaultdict(list)
    for place, group in enumerate(groups):
        places[group].append(place)
    if len(places) < len(PARTS):
        raise InputError(f"data: {len(places)} groups such as patients, expected at least 3 for the three parts")
    strata = _strata(places, _indicators(labels))
    dealt: dict[str, list[int]] = {name: [] for name in PARTS}
    total = np.zeros(3)
    for stratum in sorted(set(strata.values())):
        count = np.zeros(3)
        for group in sorted((g for g in places if strata[g] == stratum), key=lambda g: _hash(g, seed)):
            wanted = share * (count.sum() + 1) - count + share * (total.sum() + 1) - total
            part = int(np.argmax(wanted))
            count[part] += 1
            total[part] += 1
            dealt[PARTS[part]] += places[group]
    return {name: sorted(chosen) for name, chosen in dealt.items()}


def given_parts(named: Sequence[str], *, where: str) -> dict[str, list[int]]:
    """Places of the examples of each part, as a column of a table says it.

    Raises:
        InputError: another word than train, validation (or val) and test, or a part without any.
    """
    aliases = {"val": "validation", "valid": "validation", "training": "train"}
    words = [aliases.get(word.strip().lower(), word.strip().lower()) for word in named]
    foreign = sorted({word for word in words if word not in PARTS})
    if foreign:
        raise InputError(f"{where}: {foreign[0]!r} is no part, expected {', '.join(PARTS)}")
    parts = {name: [place for place, word in enumerate(words) if word == name] for name in PARTS}
    empty = [name for name, places in parts.items() if not places]
    if empty:
        raise InputError(f"{where}: none is for {empty[0]}. Give some to each of {', '.join(PARTS)}")
    return parts


def _indicators(labels: Labels) -> NDArray[np.bool_]:
    """Labels as `[M, n]`."""
    found = np.asarray(labels)
    if found.ndim == 1:
        return found[:, None] == np.unique(found)
    return np.nan_to_num(found) > 0


def _strata(places: Mapping[str, list[int]], labels: NDArray[np.bool_]) -> dict[str, int]:
    """For each group, how rare the rarest of its labels is among groups: 0 for the rarest; those without come last."""
    has = {group: labels[rows].any(0) for group, rows in places.items()}
    order = np.argsort(np.sum(list(has.values()), axis=0), kind="stable")
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    return {group: int(rank[found].min()) if found.any() else len(order) for group, found in has.items()}


def _hash(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {group}".encode()).digest()
