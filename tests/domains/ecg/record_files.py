"""WFDB records as the challenges have them, written by hand."""

from pathlib import Path

import numpy as np
from helixwave_domains.ecg.leads import LEADS


def write_record(path: Path, diagnoses: str | None, rate: int = 100, seconds: float = 2) -> np.ndarray:
    """Write twelve leads of noise and return their millivolts `[12, T]`.

    Args:
        diagnoses: what stands behind `# Dx: `; None: no such line.
    """
    n = round(rate * seconds)
    counts = np.random.default_rng(len(path.stem)).integers(-900, 900, (n, 12)).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".dat").write_bytes(counts.tobytes())
    lines = [f"{path.stem} 12 {rate} {n}"]
    lines += [f"{path.stem}.dat 16 1000.0(0)/mV 16 0 {counts[0, i]} 0 0 {lead}" for i, lead in enumerate(LEADS)]
    lines += [] if diagnoses is None else [f"# Dx: {diagnoses}"]
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")
    return counts.T / 1000
