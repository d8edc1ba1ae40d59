"""Philips Sierra XML, 1.03 and 1.04 (sierraecg)."""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from helixwave.errors import InputError
from numpy.typing import NDArray

from helixwave_domains.ecg.formats.channels import Channels, Declared, package, recording_of, unreadable
from helixwave_domains.ecg.formats.person import age_and_sex
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.xml_text import parse_xml, root_name, text_of

# microvolts of the pulse that the electrocardiograph adds to the end
_PULSE = 1000


class Sierra:
    """A resting ECG of a Philips electrocardiograph, without the calibration pulse at its end."""

    name = "Philips Sierra"
    suffixes = (".xml",)

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is resting ECG data."""
        return root_name(head) == "restingecgdata"

    def read(self, path: Path, declared: Declared) -> Recording:
        """The recording, its steps as large as the file says."""
        root = parse_xml(path)
        with unreadable(path, self.name), np.errstate(over="ignore"):
            leads = package("sierraecg").read_file(str(path)).leads
            digits = np.stack([lead.samples for lead in leads])
            step = _step(path, root)
            length = _without_pulse(digits, _PULSE / step)
            pulse = [f"the calibration pulse behind {length / leads[0].sampling_freq:g} s is left out"]
            channels = Channels(
                path=path,
                format=self.name,
                names=[lead.label for lead in leads],
                units=[f"{step:g}uV"] * len(leads),
                rate=float(leads[0].sampling_freq),
                n_sample=length,
                read=held(digits[:, :length].astype(np.float32)),
                said="signalcharacteristics",
                facts=age_and_sex(text_of(root, "years"), text_of(root, "sex")),
                notes=pulse if length < digits.shape[1] else [],
            )
        return recording_of(channels, declared)


def _step(path: Path, root: Element) -> float:
    """Microvolts of one step."""
    said = root.find(".//{*}signalcharacteristics")
    text = text_of(said, "signalresolution") or text_of(said, "resolution")
    if not text or not float(text) > 0:
        raise InputError(f"{path}: its resolution is {text or 'not said'}, expected microvolts of one step")
    return float(text)


def _without_pulse(digits: NDArray[np.int16], height: float) -> int:
    """Samples before the end at which all leads are the same: a pulse of `height` between two pieces of zeros."""
    differing = np.flatnonzero((digits != digits[0]).any(axis=0))
    start = int(differing[-1]) + 1 if len(differing) else 0
    end = set(digits[0, start:].tolist())
    return start if end == {0, round(height)} else digits.shape[1]
