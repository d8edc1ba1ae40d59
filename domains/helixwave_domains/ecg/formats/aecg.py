"""HL7 annotated ECG, the XML of submissions to the FDA."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, millivolts, recording_of, unreadable
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.xml_text import parse_xml, root_name

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class HL7:
    """An annotated ECG: its rhythm series, not the representative beat that is derived from it."""

    name = "HL7 aECG"
    suffixes = (".xml",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is an AnnotatedECG."""
        return root_name(head) == "AnnotatedECG"

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording."""
        root = parse_xml(path)
        with unreadable(path, self.name):
            series, notes = _rhythm(path, root)
            parts = series.findall("./{*}component/{*}sequenceSet")
            notes += [f"sequence set {place + 1} is left out" for place in range(1, len(parts))]
            sequences = parts[0].findall("./{*}component/{*}sequence") if parts else []
            leads = [sequence for sequence in sequences if sequence.find("./{*}value/{*}digits") is not None]
            if not leads:
                raise InputError(f"{path}: its rhythm series has no leads")
            values = _leads(path, leads)
            sex = root.find(".//{*}administrativeGenderCode")
            channels = Channels(
                path=path,
                format=self.name,
                names=[_code(sequence) for sequence in leads],
                units=[_quantity(sequence, "scale")[1] for sequence in leads],
                rate=_rate(sequences),
                n_sample=values.shape[1],
                read=held(values),
                facts=age_and_sex(None, None if sex is None else sex.get("code")),
                notes=[*notes, *_unread(root)],
            )
        return recording_of(channels, declared)


def _rhythm(path: Path, root: Element) -> tuple[Element, list[str]]:
    """The first rhythm series, or the first series of all, and what is left out."""
    found = root.findall(".//{*}series") + root.findall(".//{*}derivedSeries")
    if not found:
        raise InputError(f"{path}: an annotated ECG without a series")
    chosen = next((series for series in found if _code(series) == "RHYTHM"), found[0])
    return chosen, [f"series {_code(series)} is left out" for series in found if series is not chosen]


def _unread(root: Element) -> list[str]:
    count = len(root.findall(".//{*}annotation"))
    return [f"{count} annotations of the file are not read"] if count else []


def _code(element: Element) -> str:
    code = element.find("./{*}code")
    return "" if code is None else code.get("code", "")


def _quantity(sequence: Element, name: str) -> tuple[float, str]:
    found = sequence.find(f"./{{*}}value/{{*}}{name}")
    return (0.0, "") if found is None else (float(found.get("value", 0)), found.get("unit", ""))


def _leads(path: Path, sequences: Sequence[Element]) -> NDArray[np.float32]:
    """Values in the unit of each scale: origin + scale * digits."""
    rows = []
    for sequence in sequences:
        digits = sequence.find("./{*}value/{*}digits")
        (origin, said), (scale, unit) = _quantity(sequence, "origin"), _quantity(sequence, "scale")
        shift = origin and origin * (millivolts(said) or np.nan) / (millivolts(unit) or np.nan)
        text = "" if digits is None else digits.text or ""
        rows.append((np.array(text.split(), np.float64) * scale + shift).astype(np.float32))
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or not lengths[0]:
        raise InputError(f"{path}: its leads have {' and '.join(map(str, lengths))} samples, expected the same of each")
    return np.stack(rows)


def _rate(sequences: Sequence[Element]) -> float | None:
    for sequence in sequences:
        step, unit = _quantity(sequence, "increment")
        if step and unit in _SECONDS:
            return round(1 / (step * _SECONDS[unit]), 6)
    return None
