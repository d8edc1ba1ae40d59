"""Scored diagnoses and their rewards, beside the official tables."""

import csv

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.snomed import (
    DIAGNOSES,
    class_names,
    classes_named,
    reward_matrix,
    scored_classes,
)


@pytest.mark.parametrize("year", [2020, 2021])
def test_codes_order_and_rewards_are_those_of_the_official_table(year, data_folder):
    with open(data_folder / "cinc_tables" / f"weights_{year}.csv") as f:
        rows = list(csv.reader(f))
    ours, official = reward_matrix(year), np.array([row[1:] for row in rows[1:]], dtype=float)
    numbers = [classes_named(name, year) for name in rows[0][1:]]
    assert all(len(number) == 1 for number in numbers)
    each = np.concatenate(numbers)
    # in 2020, equivalent codes have rows of their own
    assert (ours[np.ix_(each, each)] == official).all()
    assert list(dict.fromkeys(each)) == list(range(len(ours)))
    found = {code for scored in scored_classes(year) for code in scored.code.split("|")}
    assert found == {code for name in rows[0][1:] for code in name.split("|")}


def test_codes_abbreviations_and_names_are_the_official_ones(data_folder):
    with open(data_folder / "cinc_tables" / "dx_mapping_scored.csv") as f:
        rows = {row["SNOMEDCTCode"]: (row["Abbreviation"], row["Dx"].lower()) for row in csv.DictReader(f)}
    assert {each.code: (each.abbreviation, each.name.lower()) for each in DIAGNOSES} == rows


@pytest.mark.parametrize(("year", "n_class", "n_code"), [(2020, 24, 27), (2021, 26, 30)])
def test_rewards_are_symmetric_and_equivalent_codes_are_one_class(year, n_class, n_code):
    rewards = reward_matrix(year)
    assert rewards.shape == (n_class, n_class)
    assert (rewards == rewards.T).all()
    assert (rewards.diagonal() == 1).all()
    assert rewards[~np.eye(n_class, dtype=bool)].max() == 0.5
    assert sum(len(scored.members) for scored in scored_classes(year)) == n_code
    for scored in scored_classes(year):
        assert len({member.distance for member in scored.members}) == 1
        assert classes_named(scored.name, year) == classes_named(scored.code, year)


def test_left_bundle_branch_blocks_are_one_only_in_2021():
    assert "LBBB" in class_names(2020)
    assert classes_named("CLBBB", 2020) == []
    assert classes_named("CLBBB", 2021) == classes_named("164909002", 2021) == [4]
    assert classes_named("59118001|AF|unknown", 2021) == [0, 5]


def test_another_year_is_refused():
    with pytest.raises(InputError, match="year 2019: there are scores of the challenges of 2020 and 2021"):
        class_names(2019)
