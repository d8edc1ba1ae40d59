"""S4-ECG: its size, and a layer that reads both ways as two kernels do."""

import torch
import torch.nn.functional as F
from helixwave.blocks.dense_state_space import dense_state_space
from helixwave_domains.ecg.s4_ecg import S4ECG, BiS4
from torch.testing import assert_close


def test_parameters() -> None:
    """2.2 million, as the published model is said to have."""
    model = S4ECG(classes=[str(i) for i in range(71)])
    layer = 512 * (1 + 2 * 8 // 2 * 2 + 2) + 512 * 1024 + 1024 + 2 * 512  # steps, C and D of both ways; gate; norm
    dynamics = 2 * 4 + 2 * 2 * 4  # A; B and P, complex
    wanted = (12 * 512 + 512) + 4 * (layer + dynamics) + 512 * 71 + 71
    assert sum(p.numel() for p in model.parameters()) == wanted == 2_187_431


def test_both_ways_by_kernels() -> None:
    torch.manual_seed(0)
    block, x = BiS4(4, d_state=4).eval(), torch.randn(2, 9, 4)
    maps = block.maps(16)
    impulse = torch.zeros(1, 9, 4)
    impulse[:, 0] = 1
    kernels, _ = dense_state_space(impulse, maps)  # [1, 9, 2, 4]
    y = torch.zeros(2, 9, 4)
    for t in range(9):
        for s in range(9):
            if s <= t:
                y[:, t] += kernels[0, t - s, 0] * x[:, s]
            if s >= t:
                y[:, t] += kernels[0, s - t, 1] * x[:, s]
    wanted = F.glu(block.output_linear(F.gelu(y)), dim=-1)
    assert_close(block(x)[0], wanted, rtol=1e-4, atol=1e-5)


def test_time_has_a_direction() -> None:
    """A model of which both ways share all maps would take a beat and its mirror image for the same."""
    torch.manual_seed(0)
    model = S4ECG(classes=["a", "b"], d_model=8, n_layer=1, channels=1).eval()
    x = torch.randn(1, 40, 1)
    assert (model(x) - model(x.flip(1))).abs().max() > 1e-3
