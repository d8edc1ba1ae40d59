"""BiMamba: two Mambas between shared projections, in the forms of Caduceus, Vim and VideoMamba."""

import pytest
import torch
from helixwave.blocks.bimamba import BiMamba
from helixwave.blocks.mamba import Mamba
from torch import Tensor

SHARED = ("in_proj.weight", "out_proj.weight")


def two_mambas(block: BiMamba, d_model: int) -> tuple[Mamba, Mamba]:
    """Both directions as whole Mambas, as Caduceus holds them: if tied, both with the projections of the first."""
    weights = block.state_dict()
    if block.tied:
        weights |= {f"mamba_rev.{name}": weights[f"mamba_fwd.{name}"] for name in SHARED}
    directions = Mamba(d_model, d_state=3), Mamba(d_model, d_state=3)
    for mamba, name in zip(directions, ("mamba_fwd.", "mamba_rev."), strict=True):
        mamba.load_state_dict({key.removeprefix(name): w for key, w in weights.items() if key.startswith(name)})
    return directions


def varied(combine: str, *, tied: bool = True) -> tuple[BiMamba, Tensor]:
    torch.manual_seed(0)
    block = BiMamba(8, d_state=3, combine=combine, tied=tied)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return block, torch.randn(2, 12, 8)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("combine", ["add", "ew_multiply"])
def test_is_the_bimamba_of_caduceus(combine: str, tied: bool) -> None:
    """`mamba_fwd(x)` and the reverse of `mamba_rev` of the reversed x, each with its projections."""
    block, x = varied(combine, tied=tied)
    forwards, backwards = two_mambas(block, 8)
    ahead, behind = forwards(x)[0], backwards(x.flip(1))[0].flip(1)
    expected = ahead + behind if combine == "add" else ahead * behind
    torch.testing.assert_close(block(x)[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("combine", "divisor"), [("add", 1), ("mean", 2)])
def test_is_the_bimamba_of_vim(combine: str, divisor: int) -> None:
    """Both directions of the same inner channels, added (VideoMamba) or halved too (Vim) before the last projection."""
    block, x = varied(combine)
    forwards, backwards = two_mambas(block, 8)
    inputs, z = forwards.in_proj(x).chunk(2, dim=-1)
    inner = forwards.scan(inputs, z)[0] + backwards.scan(inputs.flip(1), z.flip(1))[0].flip(1)
    torch.testing.assert_close(block(x)[0], forwards.out_proj(inner / divisor), rtol=1e-4, atol=1e-6)


def test_parameters_are_named_as_in_caduceus() -> None:
    """As in its published safetensors, which hold the shared projections once."""
    scans = ["conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D"]
    expected = {f"mamba_{direction}.{name}" for direction in ("fwd", "rev") for name in scans}
    assert {*BiMamba(16).state_dict()} == expected | {f"mamba_fwd.{name}" for name in SHARED}
    own = {f"mamba_{direction}.{name}" for direction in ("fwd", "rev") for name in SHARED}
    assert {*BiMamba(16, tied=False).state_dict()} == expected | own


def test_untied_sequences_of_a_padded_batch_are_read_alone() -> None:
    """The law of all blocks, for the option that is not the registered default."""
    block, x = varied("add", tied=False)
    y, _ = block(x, lengths=torch.tensor([12, 5]))
    torch.testing.assert_close(y[1:, :5], block(x[1:, :5])[0])


def test_refuses_a_state() -> None:
    with pytest.raises(ValueError, match="bimamba: a state cannot be carried over"):
        BiMamba(16)(torch.zeros(1, 4, 16), state=(None,))
