import importlib

import pytest
import torch
from helixwave_kernels import gated_linear_attention, ssd
from helixwave_kernels.agreement import error, results
from helixwave_kernels.gated_linear_attention.cases import random_inputs
from torch import Tensor

IMPLS = pytest.mark.parametrize("impl", [impl for impl in gated_linear_attention.impls if impl != "triton"])


@IMPLS
def test_one_decay_for_each_head_is_ssd(impl):
    inputs = random_inputs("scalar", T=100, state=True, reset=True, dtype=torch.float64)
    q, k, v, log_decay = (inputs.pop(name) for name in ("q", "k", "v", "log_decay"))
    y, S = gated_linear_attention(q, k, v, log_decay, scale=0.3, **inputs, impl=impl)
    torch.testing.assert_close((y, S), ssd(v, log_decay, k, 0.3 * q, **inputs))


@IMPLS
def test_equal_decays_of_all_dimensions_are_one_of_the_head(impl):
    inputs = random_inputs("scalar", T=100, state=True, reset=True, dtype=torch.float64)
    expected = gated_linear_attention(**inputs, impl="reference")
    inputs["log_decay"] = inputs["log_decay"].unsqueeze(-1).expand_as(inputs["k"])
    torch.testing.assert_close(gated_linear_attention(**inputs, impl=impl), expected)


@IMPLS
def test_without_decay_is_linear_attention(impl):
    inputs = random_inputs(T=100, dtype=torch.float64)
    inputs["log_decay"] = torch.zeros_like(inputs["log_decay"])
    scores = torch.einsum("bihk,bjhk->bhij", inputs["q"], inputs["k"]).tril() / 2  # K = 4
    expected = torch.einsum("bhij,bjhv->bihv", scores, inputs["v"])
    torch.testing.assert_close(gated_linear_attention(**inputs, impl=impl)[0], expected)


@IMPLS
@pytest.mark.parametrize("variant", ["vector", "scalar"])
def test_no_decay_is_too_strong(impl, variant):
    torch.manual_seed(0)
    inputs = random_inputs(variant, T=257, state=True)
    inputs["log_decay"] *= 0.01
    strength = torch.rand_like(inputs["log_decay"])
    for chance, value in ((0.1, -17.0), (0.05, -90.0), (0.03, -1e4), (0.02, -1e30), (0.01, -torch.inf)):
        inputs["log_decay"].masked_fill_(strength < chance, value)
    expected, actual = (results(gated_linear_attention.impls[each], inputs) for each in ("reference", impl))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


@IMPLS
def test_all_decays_strong(impl):
    """Where exp(-cumsum) would overflow after three steps."""
    inputs = random_inputs(T=100)
    inputs["log_decay"] -= 40
    expected, actual = (results(gated_linear_attention.impls[each], inputs) for each in ("reference", impl))
    assert error(actual["y"], expected["y"]) < 1e-6
    assert all(value.isfinite().all() for value in actual.values())


@IMPLS
@pytest.mark.parametrize("variant", ["vector", "scalar"])
def test_growing_states_are_right_too(impl, variant):
    torch.manual_seed(0)
    inputs = random_inputs(variant, T=100, state=True)
    inputs["log_decay"] = -inputs["log_decay"] / 4
    expected, actual = (results(gated_linear_attention.impls[each], inputs) for each in ("reference", impl))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


@IMPLS
@pytest.mark.parametrize("variant", ["vector", "scalar"])
def test_what_was_cleared_has_no_influence_be_it_not_a_number(impl, variant):
    """From the next chunk of 64 steps on; the steps of one chunk are multiplied with each other."""
    inputs = random_inputs(variant, T=200, state=True)
    inputs["reset"] = (torch.arange(200) == 70).expand(2, 200)
    expected = results_after_reset(inputs, impl)
    inputs["v"][:, 10] = torch.nan
    inputs["k"][:, 20] = torch.nan
    inputs["initial_state"][0] = torch.inf
    torch.testing.assert_close(results_after_reset(inputs, impl), expected)


def results_after_reset(inputs: dict[str, Tensor], impl: str) -> list[Tensor]:
    tensors = {name: inputs[name].clone().requires_grad_() for name in ("q", "k", "v", "log_decay")}
    y, S = gated_linear_attention(**inputs | tensors, impl=impl)
    (y[:, 70:].square().sum() + S.sum()).backward()
    return [y[:, 70:], S, *(tensor.grad[:, 70:] for tensor in tensors.values())]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: test_gpu.py runs the real kernels")
def test_triton_in_several_blocks(monkeypatch):
    """In the interpreter, with sizes that are no multiples of a block's."""
    pytest.importorskip("triton")
    monkeypatch.setattr(importlib.import_module("helixwave_kernels.gated_linear_attention.triton"), "CHUNK", 32)
    inputs = random_inputs(B=1, T=37, H=1, K=36, V=34, state=True)
    inputs["log_decay"][:, 20, 0] = -1e30
    expected, actual = (results(gated_linear_attention.impls[each], inputs) for each in ("reference", "triton"))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


def test_sequences_of_several_pieces(monkeypatch):
    """As long sequences are gone through, here with pieces of one chunk, for several lengths of rows."""
    monkeypatch.setattr(importlib.import_module("helixwave_kernels.ssd.pieces"), "PIECE", 64)
    for T in (33, 128, 150):
        inputs = random_inputs(T=T, state=True, reset=True, dtype=torch.float64)
        expected, actual = (results(gated_linear_attention.impls[each], inputs) for each in ("reference", "chunked"))
        for name, value in actual.items():
            assert error(value, expected[name]) < 1e-10, (name, T)


@IMPLS
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_flash_linear_attention(impl):
    naive = pytest.importorskip("fla.ops.gla.naive")
    inputs = random_inputs(T=80, state=True)
    q, k, v, log_decay, S = inputs.values()
    expected = naive.naive_recurrent_gla(q, k, v, log_decay, S, output_final_state=True)
    torch.testing.assert_close(gated_linear_attention(**inputs, impl=impl), expected, rtol=1e-4, atol=1e-5)


@IMPLS
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_flash_linear_attention_with_one_decay_for_each_head(impl):
    pytest.importorskip("fla")
    naive = importlib.import_module("fla.ops.simple_gla.naive")
    inputs = random_inputs("scalar", T=128, state=True)
    q, k, v, log_decay, S = inputs.values()
    expected = naive.naive_chunk_simple_gla(q, k, v, log_decay, S, output_final_state=True)
    torch.testing.assert_close(gated_linear_attention(**inputs, impl=impl), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k": torch.zeros(2, 8, 2, 5)},
            r"k has shape \[2, 8, 2, 5\], expected \[B, T, H, K\] with B=2, T=8, H=2, K=4",
        ),
        ({"log_decay": torch.zeros(2, 8, 3)}, r"log_decay has shape \[2, 8, 3\], expected \[B, T, H\]"),
        ({"log_decay": torch.zeros(2, 8)}, r"log_decay has shape \[2, 8\], expected \[B, T, H, K\]"),
    ],
)
def test_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        gated_linear_attention(**random_inputs(T=8) | change)
