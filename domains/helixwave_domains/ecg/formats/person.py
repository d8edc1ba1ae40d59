"""Age and sex, the only things that a recording keeps of a person."""

import math
import re

_AGE = re.compile(r"([\d.]+)\s*([YMWD])?[a-z]*", re.IGNORECASE)
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_SEX = {"f": "female", "female": "female", "m": "male", "male": "male"}


def age_and_sex(age: object, sex: object) -> dict[str, str | float]:
    """Facts from what a file says, such as `84`, `042Y` or `6 months` and `F`; what it does not say is left out."""
    facts: dict[str, str | float] = {}
    found = _AGE.fullmatch(str(age).strip())
    years = float(found[1]) * _YEARS[(found[2] or "Y").upper()] if found else math.nan
    if math.isfinite(years):
        facts["age"] = round(years, 2)
    known = _SEX.get(str(sex).strip().lower())
    if known:
        facts["sex"] = known
    return facts
