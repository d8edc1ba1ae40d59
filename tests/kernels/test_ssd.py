import importlib

import pytest
import torch
from helixwave_kernels import ssd
from helixwave_kernels.agreement import error, results
from helixwave_kernels.ssd.cases import random_inputs
from helixwave_kernels.ssd.peers import einsum_form
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

IMPLS = pytest.mark.parametrize("impl", [impl for impl in ssd.impls if impl != "triton"])


def dense_form(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y = M x with the semiseparable matrix M_ij = a_i ... a_{j+1} C_i B_j (Dao & Gu 2024, eq. 16)."""
    T, H, G = x.shape[1], x.shape[2], B.shape[2]
    sums = log_decay.cumsum(1)
    lower = torch.ones(T, T, dtype=torch.bool).tril()[:, :, None]
    decays = (sums[:, :, None] - sums[:, None]).exp().where(lower, 0)  # [B, T, T, H]
    scores = torch.einsum("bign,bjgn->bijg", C, B).repeat_interleave(H // G, dim=3)
    return torch.einsum("bijh,bjhp->bihp", decays * scores, x)


@IMPLS
@pytest.mark.parametrize("variant", ["mamba2", "grouped"])
def test_equals_the_semiseparable_matrix(impl, variant):
    inputs = random_inputs(variant, T=150, dtype=torch.float64)
    torch.testing.assert_close(ssd(**inputs, impl=impl)[0], dense_form(**inputs))


@IMPLS
def test_equals_the_published_einsums(impl):
    inputs = random_inputs("grouped", T=150, dtype=torch.float64)
    torch.testing.assert_close(ssd(**inputs, impl=impl), einsum_form(**inputs))


def strong_decays(inputs: dict[str, Tensor], name: str = "log_decay") -> dict[str, Tensor]:
    """Some decays that are next to nothing, some that clear the state, between others that are next to one."""
    inputs[name] = inputs[name] * 0.01
    strength = torch.rand_like(inputs[name])
    for chance, value in ((0.1, -17.0), (0.05, -90.0), (0.03, -1e4), (0.02, -1e30), (0.01, -torch.inf)):
        inputs[name] = inputs[name].masked_fill(strength < chance, value)
    return inputs


@IMPLS
def test_no_decay_is_too_strong(impl):
    torch.manual_seed(0)
    inputs = strong_decays(random_inputs(T=257, state=True))
    expected, actual = (results(ssd.impls[each], inputs) for each in ("reference", impl))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


@IMPLS
def test_growing_states_are_right_too(impl):
    torch.manual_seed(0)
    inputs = random_inputs(T=100, state=True)
    inputs["log_decay"] = -inputs["log_decay"] / 4
    expected, actual = (results(ssd.impls[each], inputs) for each in ("reference", impl))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


@IMPLS
def test_reset_is_a_decay_of_zero(impl):
    inputs = random_inputs(T=100, state=True, reset=True)
    reset = inputs.pop("reset")
    expected = ssd(**inputs, reset=reset, impl=impl)
    inputs["log_decay"] = inputs["log_decay"].masked_fill(reset.unsqueeze(-1), -torch.inf)
    torch.testing.assert_close(ssd(**inputs, impl=impl), expected)


@IMPLS
def test_what_was_cleared_has_no_influence_be_it_not_a_number(impl):
    """From the next chunk of 64 steps on; the steps of one chunk are multiplied with each other."""
    inputs = random_inputs(T=200, state=True)
    inputs["reset"] = (torch.arange(200) == 70).expand(2, 200)
    expected = results_after_reset(inputs, impl)
    inputs["x"][:, 10] = torch.nan
    inputs["initial_state"][0] = torch.inf
    torch.testing.assert_close(results_after_reset(inputs, impl), expected)


def results_after_reset(inputs: dict[str, Tensor], impl: str) -> list[Tensor]:
    tensors = {name: inputs[name].clone().requires_grad_() for name in ("x", "log_decay", "B", "C")}
    y, state = ssd(**inputs | tensors, impl=impl)
    (y[:, 70:].square().sum() + state.sum()).backward()
    return [y[:, 70:], state, *(tensor.grad[:, 70:] for tensor in tensors.values())]


@IMPLS
def test_nothing_happens_in_padded_steps(impl):
    """A logarithmic decay and an input of zero leave the state as it is."""
    inputs = random_inputs(T=90, state=True)
    short = {name: value[:, :70] if name != "initial_state" else value for name, value in inputs.items()}
    inputs["log_decay"][:, 70:] = 0
    inputs["x"][:, 70:] = 0
    torch.testing.assert_close(ssd(**inputs, impl=impl)[1], ssd(**short, impl=impl)[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: test_gpu.py runs the real kernels")
def test_triton_in_several_blocks(monkeypatch):
    """In the interpreter, with sizes that are no multiples of a block's."""
    pytest.importorskip("triton")
    monkeypatch.setattr(importlib.import_module("helixwave_kernels.ssd.triton"), "CHUNK", 32)
    inputs = random_inputs(B=1, T=37, H=1, N=36, P=34, state=True)
    inputs["log_decay"][:, 20, 0] = -1e30
    expected, actual = (results(ssd.impls[each], inputs) for each in ("reference", "triton"))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


def test_sequences_of_several_pieces(monkeypatch):
    """As long sequences are gone through, here with pieces of one chunk, for several lengths of rows."""
    monkeypatch.setattr(importlib.import_module("helixwave_kernels.ssd.pieces"), "PIECE", 64)
    for T in (40, 128, 150):
        inputs = random_inputs("grouped", T=T, state=True, reset=True, dtype=torch.float64)
        expected, actual = (results(ssd.impls[each], inputs) for each in ("reference", "chunked"))
        for name, value in actual.items():
            assert error(value, expected[name]) < 1e-10, (name, T)


def test_chunked_keeps_little_for_the_backward_pass():
    """Linear in T, and not much more than the inputs."""
    short, long = (random_inputs(B=1, T=T, P=32, N=32) for T in (8192, 16384))
    assert saved_bytes(long) / saved_bytes(short) == pytest.approx(2, rel=0.02)
    assert saved_bytes(long) < 2 * sum(value.nbytes for value in long.values())


def saved_bytes(inputs: dict[str, Tensor]) -> int:
    storages = {}

    def remember(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for value in inputs.values():
        value.requires_grad_()
    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = ssd(**inputs, impl="chunked")
    return sum(storages.values()) if output else 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"B": torch.zeros(2, 9, 1, 4)}, r"B has shape \[2, 9, 1, 4\], expected \[B, T, G, N\] with B=2, T=8"),
        ({"B": torch.zeros(2, 8, 3, 4), "C": torch.zeros(2, 8, 3, 4)}, "G=3 groups, which do not divide the H=2 heads"),
        (
            {"initial_state": torch.zeros(2, 2, 3, 4)},
            r"initial_state has shape \[2, 2, 3, 4\], expected \[B, H, N, P\]",
        ),
    ],
)
def test_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        ssd(**random_inputs(T=8) | change)
