"""The XML formats: values against a plain reading of the text, and files that would harm."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.ecg.formats import format_of
from helixwave_domains.ecg.formats.aecg import HL7
from helixwave_domains.ecg.formats.channels import Declared
from helixwave_domains.ecg.formats.muse import MUSE
from helixwave_domains.ecg.formats.sierra import Sierra
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.xml_text import parse_xml, root_name

BOMB = """<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY a "ha">{entities}]>
<{root}>&j;</{root}>"""
ENTITIES = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
EIGHT = ("I", "II", *LEADS[6:])


def aecg(sequences: str, code: str = "RHYTHM") -> str:
    """An annotated ECG with one series."""
    return (
        f'<!-- a comment --><AnnotatedECG xmlns="urn:hl7-org:v3"><component><series><code code="{code}"/><component>'
        f"<sequenceSet>{sequences}</sequenceSet></component></series></component></AnnotatedECG>"
    )


def sequence(code: str, value: str) -> str:
    return f'<component><sequence><code code="{code}"/><value>{value}</value></sequence></component>'


TIME = sequence("TIME_RELATIVE", '<head value="0" unit="s"/><increment value="4" unit="ms"/>')


def muse(digits: dict[str, np.ndarray], step: str = "4.88", count: int | None = None) -> str:
    """A RestingECG with a median and a rhythm."""
    rows = "".join(
        f"<LeadData><LeadSampleCountTotal>{count or len(values)}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{step}</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadID>{lead}</LeadID>"
        f"<WaveFormData>\n{base64.encodebytes(values.astype('<i2').tobytes()).decode()}</WaveFormData></LeadData>"
        for lead, values in digits.items()
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
        "<PatientDemographics><PatientID>4711</PatientID><PatientAge>54</PatientAge><AgeUnits>YEARS</AgeUnits>"
        "<Gender>FEMALE</Gender><PatientLastName>Doe</PatientLastName></PatientDemographics>"
        "<Waveform><WaveformType>Median</WaveformType><SampleBase>500</SampleBase></Waveform>"
        f"<Waveform><WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase><SampleExponent>0</SampleExponent>"
        f"{rows}</Waveform></RestingECG>"
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "ecg.xml"
    path.write_text(text)
    return path


def test_aecg_of_the_fda_equals_its_text(data_folder):
    path = data_folder / "ecg_formats/aecg_fda_subject1_0.xml"
    text = path.read_text()
    rhythm = text[: text.index("REPRESENTATIVE_BEAT")]
    found = HL7().read(path, Declared())
    assert (found.leads, found.rate, found.n_sample) == (LEADS, 500, 5000)
    for lead, values in zip(LEADS, found.signal, strict=True):
        row = re.search(rf'MDC_ECG_LEAD_{lead.upper()}".*?<digits>(.*?)</digits>', rhythm, re.DOTALL)
        np.testing.assert_allclose(values, np.array(row[1].split(), float) * 2.5 / 1000, atol=1e-6)
    assert found.facts == {"sex": "male"}
    assert found.notes == ("series REPRESENTATIVE_BEAT is left out", "167 annotations of the file are not read")


@pytest.mark.parametrize(
    ("scale", "origin", "expected"),
    [
        ('value="5" unit="uV"', 'value="0" unit="uV"', [0.005, -0.01, 0.015]),
        ('value="0.005" unit="mV"', 'value="1" unit="mV"', [1.005, 0.99, 1.015]),
        ('value="5" unit="uV"', 'value="1" unit="mV"', [1.005, 0.99, 1.015]),
    ],
)
def test_aecg_scales_and_origins(tmp_path, scale, origin, expected):
    value = f"<origin {origin}/><scale {scale}/><digits>1 -2 3</digits>"
    found = HL7().read(written(tmp_path, aecg(TIME + sequence("MDC_ECG_LEAD_AVF", value))), Declared())
    assert (found.leads, found.rate) == (("aVF",), 250)
    np.testing.assert_allclose(found.signal[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aecg(TIME), "its rhythm series has no leads"),
        ("<AnnotatedECG/>", "an annotated ECG without a series"),
        (
            aecg(
                sequence("MDC_ECG_LEAD_I", '<scale value="1" unit="uV"/><digits>1 2</digits>')
                + sequence("MDC_ECG_LEAD_II", '<scale value="1" unit="uV"/><digits>1</digits>')
            ),
            "its leads have 1 and 2 samples",
        ),
        (
            aecg(sequence("MDC_ECG_LEAD_I", '<scale value="1" unit="uV"/><digits>1 2</digits>')),
            "it does not say its sampling rate. Pass --rate",
        ),
        (
            aecg(TIME + sequence("MDC_ECG_LEAD_I", '<scale value="1" unit="uV"/><digits>1 x</digits>')),
            "not readable as HL7 aECG",
        ),
        (aecg(TIME)[:150], "not well-formed XML"),
    ],
)
def test_aecg_that_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        HL7().read(written(tmp_path, text), Declared())


@pytest.mark.parametrize("name", ["philips_sierra_1_03_129DYPRG.xml", "philips_sierra_1_04_3191723.xml"])
def test_sierra_is_calibrated_by_its_own_pulse(data_folder, name):
    import sierraecg

    path = data_folder / "ecg_formats" / name
    raw = np.stack([lead.samples for lead in sierraecg.read_file(str(path)).leads])
    # the electrocardiograph ends a recording with a pulse of 1 mV
    height = raw[:, -150:-50]
    assert (height == height[0, 0]).all()
    found = Sierra().read(path, Declared())
    assert (found.leads, found.rate) == (LEADS, 500)
    np.testing.assert_allclose(found.signal, raw[:, : found.n_sample] / height[0, 0], atol=1e-6)
    assert 10 < found.seconds < 10.7
    assert found.notes == (f"the calibration pulse behind {found.seconds:g} s is left out",)
    assert set(found.facts) <= {"age", "sex"}


def test_sierra_has_the_amplitudes_that_the_electrocardiograph_measured(data_folder):
    path = data_folder / "ecg_formats/philips_sierra_1_04_3191723.xml"
    measured = dict(
        re.findall(r'leadmeasurement leadname="(V\d)".*?<samp>(-?\d+)', path.read_text("utf-16"), re.DOTALL)
    )
    found = Sierra().read(path, Declared())
    lowest = dict(zip(found.leads, found.signal.min(axis=1) * 1000, strict=True))
    for lead in ("V1", "V2", "V3"):
        assert abs(lowest[lead] - float(measured[lead])) < 0.15 * abs(lowest[lead])


def test_sierra_without_a_resolution_is_an_error(data_folder, tmp_path):
    text = (data_folder / "ecg_formats/philips_sierra_1_03_129DYPRG.xml").read_text()
    path = written(tmp_path, text.replace("<signalresolution>5<", "<signalresolution>0<"))
    with pytest.raises(InputError, match="its resolution is 0, expected microvolts of one step"):
        Sierra().read(path, Declared())


def test_muse_has_eight_leads_and_four_computed_ones(tmp_path):
    generator = np.random.default_rng(0)
    digits = {lead: generator.integers(-300, 300, 40) for lead in EIGHT}
    path = written(tmp_path, muse(digits))
    assert isinstance(format_of(path), MUSE)
    found = MUSE().read(path, Declared())
    one, two = digits["I"] * 0.00488, digits["II"] * 0.00488
    computed = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    assert (found.leads, found.rate) == (LEADS, 500)
    for lead, values in zip(LEADS, found.signal, strict=True):
        np.testing.assert_allclose(values, computed.get(lead, digits.get(lead, one) * 0.00488), atol=1e-6)
    assert found.names[2:6] == ("computed",) * 4
    assert found.facts == {"age": 54, "sex": "female"}
    assert found.notes == ("waveform Median is left out", "leads III, aVR, aVL, aVF computed from I and II")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (muse({"I": np.arange(9)}, count=10), "lead I has 9 samples, expected 10"),
        (muse({"I": np.arange(9)}, step=""), "I has no units. Pass --units"),
        (muse({}), "no waveform of type Rhythm, expected one with LeadData"),
        (muse({"I": np.arange(9)}).replace("<WaveFormData>", "<WaveFormData>A"), "not readable as GE MUSE"),
    ],
)
def test_muse_that_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        MUSE().read(written(tmp_path, text), Declared())


@pytest.mark.parametrize(("kind", "root"), [(HL7, "AnnotatedECG"), (Sierra, "restingecgdata"), (MUSE, "RestingECG")])
@pytest.mark.parametrize("entities", [ENTITIES, '<!ENTITY j SYSTEM "file:///etc/passwd">'], ids=["bomb", "external"])
def test_entities_are_refused(tmp_path, kind, root, entities):
    path = written(tmp_path, BOMB.format(root=root, entities=entities))
    assert isinstance(format_of(path), kind)
    with pytest.raises(InputError, match=r"it defines XML entities, which no ECG needs\. The file is not read$"):
        kind().read(path, Declared())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_name_of_the_root(tmp_path, encoding):
    text = '<?xml version="1.0"?>\n<!-- <no> --><!DOCTYPE a SYSTEM "a.dtd">\n<v3:Root xmlns:v3="urn"><b/></v3:Root>'
    assert root_name(text.encode(encoding)) == "Root"
    assert root_name(b"I,II\n<1,2") == ""


def test_a_large_file_is_read(tmp_path):
    digits = " ".join(["12"] * 400_000)
    path = written(
        tmp_path, aecg(TIME + sequence("MDC_ECG_LEAD_I", f'<scale value="1" unit="uV"/><digits>{digits}</digits>'))
    )
    assert HL7().read(path, Declared()).n_sample == 400_000
    assert parse_xml(path).tag == "{urn:hl7-org:v3}AnnotatedECG"
