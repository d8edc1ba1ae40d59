"""GE MUSE XML."""

import base64
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, recording_of, unreadable
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.leads import LEADS, missing_leads, with_leads
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.xml_text import parse_xml, root_name, text_of


class MUSE:
    """A resting ECG as MUSE exports it: eight leads, from which the other four are computed."""

    name = "GE MUSE"
    suffixes = (".xml",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is a RestingECG."""
        return root_name(head) == "RestingECG"

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording, not the median beat that is derived from it."""
        root = parse_xml(path)
        with unreadable(path, self.name):
            waveform, notes = _rhythm(path, root)
            leads = waveform.findall("./{*}LeadData")
            digits = np.stack([_digits(path, lead) for lead in leads])
            person = root.find(".//{*}PatientDemographics")
            age = f"{text_of(person, 'PatientAge')} {text_of(person, 'AgeUnits', 'YEARS')}"
            channels = Channels(
                path=path,
                format=self.name,
                names=[text_of(lead, "LeadID") for lead in leads],
                units=[_unit(lead) for lead in leads],
                rate=float(text_of(waveform, "SampleBase")) * 10.0 ** int(text_of(waveform, "SampleExponent") or 0),
                n_sample=digits.shape[1],
                read=held(digits.astype(np.float32)),
                facts=age_and_sex(age, text_of(person, "Gender")),
                notes=notes,
            )
        recording = recording_of(channels, declared)
        return recording if missing_leads(recording, LEADS) else with_leads(recording, LEADS)


def _rhythm(path: Path, root: Element) -> tuple[Element, list[str]]:
    found = root.findall(".//{*}Waveform")
    rhythms = [waveform for waveform in found if text_of(waveform, "WaveformType").lower() == "rhythm"]
    if not rhythms or not rhythms[0].findall("./{*}LeadData"):
        raise InputError(f"{path}: no waveform of type Rhythm, expected one with LeadData")
    others = [waveform for waveform in found if waveform is not rhythms[0]]
    return rhythms[0], [f"waveform {text_of(other, 'WaveformType')} is left out" for other in others]


def _digits(path: Path, lead: Element) -> NDArray[np.int16]:
    digits = np.frombuffer(base64.b64decode(text_of(lead, "WaveFormData")), "<i2")
    wanted = text_of(lead, "LeadSampleCountTotal")
    if not len(digits) or (wanted and len(digits) != int(wanted)):
        raise InputError(
            f"{path}: lead {text_of(lead, 'LeadID')} has {len(digits)} samples, expected {wanted or 'some'}"
        )
    return digits


def _unit(lead: Element) -> str | None:
    step, unit = text_of(lead, "LeadAmplitudeUnitsPerBit"), text_of(lead, "LeadAmplitudeUnits")
    return f"{step}{'uV' if unit.upper() == 'MICROVOLTS' else unit}" if step and unit else None
