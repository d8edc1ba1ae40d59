import pytest
import torch
from helixwave_kernels import prefix_attention
from helixwave_kernels.prefix_attention.cases import comparable, random_inputs
from torch.autograd.graph import saved_tensors_hooks

IMPLS = pytest.mark.parametrize("impl", list(prefix_attention.impls))


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = torch.einsum("hk,bthk->bht", q, k) / k.shape[-1] ** 0.5
    later = torch.ones(k.shape[1], k.shape[1], dtype=torch.bool).triu(1)
    weights = scores.unsqueeze(-2).masked_fill(later, -torch.inf).softmax(-1)
    return torch.einsum("bhts,bshv->bthv", weights, v)


@IMPLS
@pytest.mark.parametrize("size", [1, 1e4])
def test_equals_softmax_attention_with_a_causal_mask(impl, size):
    """For scores of any size: neither does a large one overflow, nor does it hide those of other prefixes."""
    inputs = random_inputs(T=150, dtype=torch.float64)
    inputs["q"] = (inputs["q"] * size).requires_grad_()
    inputs["v"].requires_grad_()
    expected, (actual, _) = causal_attention(**inputs), prefix_attention(**inputs, impl=impl)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn_like(expected)
    for value, wanted in zip(
        *(torch.autograd.grad((y * weights).sum(), [inputs["q"], inputs["v"]]) for y in (actual, expected)), strict=True
    ):
        torch.testing.assert_close(value, wanted)


@IMPLS
@pytest.mark.parametrize("falling", [False, True], ids=["rising", "falling"])
def test_scores_of_ten_thousand_stay_exact_in_float32(impl, falling):
    """The first prefixes see only the smallest scores, or the last steps weigh nothing."""
    T = 100
    k = torch.linspace(-1e4, 1e4, T).flip(0 if falling else ()).view(1, T, 1, 1)
    v = torch.randn(1, T, 1, 2)
    q = torch.ones(1, 1, requires_grad=True)
    y, state = prefix_attention(q, k, v, impl=impl)
    torch.testing.assert_close(y, v[:, :1].expand_as(v) if falling else v)
    (y.sum() + sum(part.sum() for part in state)).backward()
    assert q.grad.isfinite().all()


@IMPLS
def test_masked_keys_have_no_weight(impl):
    inputs = random_inputs(T=70, dtype=torch.float64)
    masked = torch.rand(70) < 0.4
    masked[:3] = True
    inputs["k"][:, masked] = -torch.inf
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    y, state = prefix_attention(**tensors, impl=impl)
    assert not y[:, :3].any()
    short = {name: inputs[name][:, ~masked] for name in ("k", "v")} | {"q": inputs["q"]}
    expected_y, expected_state = prefix_attention(**short, impl=impl)
    torch.testing.assert_close(y[:, ~masked], expected_y)
    torch.testing.assert_close(state, expected_state)
    (y.square().sum() + sum(part.sum() for part in state)).backward()
    for name, value in tensors.items():
        assert value.grad.isfinite().all(), name
    assert not tensors["k"].grad[:, masked].any()
    assert not tensors["v"].grad[:, masked].any()


@IMPLS
def test_nothing_seen_yields_zero_and_the_empty_state(impl):
    inputs = random_inputs(T=5)
    inputs["k"][:] = -torch.inf
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    y, (m, u, w) = prefix_attention(**tensors, impl=impl)
    assert not y.any()
    assert m.isneginf().all()
    assert not u.any()
    assert not w.any()
    (y.sum() + u.sum() + w.sum()).backward()
    assert all(value.grad.isfinite().all() for value in tensors.values())


@IMPLS
@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
def test_gradients_of_the_state_as_it_is(impl, reset):
    """Also where the maximum itself is read, and for a state that is not made comparable before."""
    inputs = random_inputs(B=2, T=37, H=1, K=3, V=2, state=True, reset=reset, dtype=torch.float64)
    m, u, w = inputs.pop("initial_state")
    q, k, v = (inputs.pop(name) for name in "qkv")

    def call(q, k, v, m, u, w):
        y, state = prefix_attention(q, k, v, initial_state=(m, u, w), **inputs, impl=impl)
        return y, *state

    tensors = tuple(value.requires_grad_() for value in (q, k, v, m, u, w))
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)


@IMPLS
def test_states_mean_the_same_over_another_maximum(impl):
    inputs = random_inputs(T=50, state=True, dtype=torch.float64)
    m, u, w = inputs["initial_state"]
    expected = comparable(prefix_attention(**inputs, impl=impl))
    inputs["initial_state"] = (m - 7, u * torch.e**7, w * torch.e**7)
    torch.testing.assert_close(comparable(prefix_attention(**inputs, impl=impl)), expected)


@IMPLS
def test_a_reset_stops_what_is_not_a_number(impl):
    inputs = random_inputs(T=80, state=True)
    inputs["initial_state"] = tuple(torch.full_like(part, torch.nan) for part in inputs["initial_state"])
    inputs["reset"] = torch.zeros(2, 80, dtype=torch.bool).index_fill(1, torch.tensor([0]), True)
    y, state = prefix_attention(**inputs, impl=impl)
    assert all(value.isfinite().all() for value in (y, *state))


def test_chunked_keeps_memory_linear_in_time():
    short, long = (saved_bytes(random_inputs(B=1, T=T, K=16, V=16)) for T in (512, 1024))
    assert long / short == pytest.approx(2, rel=0.05)


def saved_bytes(inputs: dict[str, torch.Tensor]) -> int:
    storages = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(remember, lambda tensor: tensor):
        output = prefix_attention(**{name: value.requires_grad_() for name, value in inputs.items()}, impl="chunked")
    return sum(storages.values()) if output else 0
