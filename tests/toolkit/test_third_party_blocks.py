"""A block that another package adds through its entry point is listed, and tested by the laws of all blocks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LAWS = Path(__file__).with_name("test_blocks.py")
BLOCK = '''
"""A package of somebody else."""

import torch
from torch import nn


class Decay(nn.Module):
    """A running sum that fades (decay)."""

    causal = True

    def __init__(self, d_model: int, *, rate: float = 0.5):
        super().__init__()
        self.rate = rate
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x, state=None, lengths=None):
        from helixwave_kernels import linear_scan

        decay = torch.full_like(x, self.rate)
        if lengths is not None:
            padded = torch.arange(x.shape[1])[None, :, None] >= lengths[:, None, None]
            x, decay = x.masked_fill(padded, 0), decay.masked_fill(padded, 1)
        h, end = linear_scan(x, decay, initial_state=state)
        return self.out_proj(h), end


class Forgetful(Decay):
    """The same without its state (forgetful)."""

    def __init__(self, d_model: int):
        super().__init__(d_model)

    def forward(self, x, state=None, lengths=None):
        return super().forward(x, None, lengths)
'''


@pytest.mark.slow
def test_laws_judge_blocks_of_another_package(tmp_path):
    (tmp_path / "acme_blocks.py").write_text(BLOCK)
    info = tmp_path / "acme_blocks-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-blocks\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[helixwave.blocks]\ndecay = acme_blocks:Decay\nforgetful = acme_blocks:Forgetful\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rpf", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(
        [*command, str(LAWS), "-k", "decay or forgetful"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=LAWS.parents[2],
        check=False,
    )
    outcomes = re.findall(r"^(PASSED|FAILED) \S+::(\w+)\[(decay|forgetful)", result.stdout, re.MULTILINE)
    laws = {law for _, law, _ in outcomes}
    assert len(laws) >= 12, result.stdout + result.stderr
    failed = {(law, block) for outcome, law, block in outcomes if outcome == "FAILED"}
    of_states = (
        "test_state_carry",
        "test_state_carry_of_a_padded_batch",
        "test_state_belongs_to_its_sequence",
        "test_streaming_equals_the_parallel_form",
        "test_gradient_flows_through_the_state",
    )
    assert failed == {(law, "forgetful") for law in of_states}, result.stdout
