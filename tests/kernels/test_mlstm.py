import time

import pytest
import torch
import torch.nn.functional as F
from helixwave_kernels import mlstm
from helixwave_kernels.agreement import error, results
from helixwave_kernels.mlstm.cases import VARIANTS, comparable, random_inputs
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map

IMPLS = pytest.mark.parametrize("impl", ["reference", "chunked"])
EACH = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@IMPLS
@EACH
def test_equals_the_parallel_form(impl, variant):
    """All pairs of steps at once, with the stabiliser that is the largest weight of a row."""
    inputs = random_inputs(variant, T=150, dtype=torch.float64)
    q, k, v, i, f = (inputs[name].transpose(1, 2) for name in "qkvif")
    logs = F.logsigmoid(f).unsqueeze(-1).expand(*f.shape, f.shape[-1]).tril(-1).cumsum(-2)
    logs = logs + (i if variant == "exp" else F.logsigmoid(i)).unsqueeze(-2)
    logs = logs.masked_fill(torch.ones_like(logs).triu(1).bool(), -torch.inf)
    m = logs.amax(-1, keepdim=True) if variant == "exp" else 0
    weights = (logs - m).exp() * (q @ k.mT) * k.shape[-1] ** -0.5
    if inputs.get("normalize", True):
        size = weights.sum(-1, keepdim=True).abs()
        weights = weights / (torch.maximum(size, torch.exp(-torch.as_tensor(m))) + 1e-6)
    y, _ = mlstm(**inputs, impl=impl)
    torch.testing.assert_close(y, (weights @ v).transpose(1, 2))


@IMPLS
@EACH
def test_the_stabiliser_of_a_state_may_be_any(impl, variant):
    inputs = random_inputs(variant, T=70, state=True, dtype=torch.float64)
    C, n, m = inputs["initial_state"]
    shift = torch.tensor(3.0, dtype=torch.float64)
    other = inputs | {"initial_state": (C * shift.exp(), n * shift.exp(), m - shift), "eps": 0.0}
    outputs, others = (comparable(mlstm(**each, impl=impl)) for each in (inputs | {"eps": 0.0}, other))
    for value, expected in zip(tree_leaves(others), tree_leaves(outputs), strict=True):
        torch.testing.assert_close(value, expected)


@IMPLS
@EACH
def test_the_empty_state_is_that_before_the_first_step(impl, variant):
    inputs = random_inputs(variant, T=5, dtype=torch.float64)
    C, n = torch.zeros(2, 2, 4, 6, dtype=torch.float64), torch.zeros(2, 2, 4, dtype=torch.float64)
    state = (C, n, torch.full((2, 2), -torch.inf, dtype=torch.float64))
    given, none = (mlstm(**inputs, initial_state=each, impl=impl) for each in (state, None))
    torch.testing.assert_close(given, none, rtol=0, atol=0)


@IMPLS
@EACH
def test_one_step_at_a_time(impl, variant):
    inputs = random_inputs(variant, T=70, dtype=torch.float64)
    options = {name: value for name, value in inputs.items() if name not in "qkvif"}
    state, ys = None, []
    for t in range(70):
        step = {name: inputs[name][:, t : t + 1] for name in "qkvif"}
        y, state = mlstm(**step, **options, initial_state=state, impl=impl)
        ys.append(y)
    y, whole = mlstm(**inputs, impl=impl)
    torch.testing.assert_close(torch.cat(ys, 1), y)
    torch.testing.assert_close(comparable((y, state)), comparable((y, whole)))


@IMPLS
@EACH
@pytest.mark.parametrize("start", [0, 41])
def test_padding_freezes_the_state(impl, variant, start):
    """How a block keeps padding out of the state: i is -inf and f +inf, at the right end or before the first step."""
    inputs = random_inputs(variant, T=70, dtype=torch.float64)
    padding = (torch.arange(70) >= start) & (torch.arange(70) < start + 29)
    inputs["i"][:, padding], inputs["f"][:, padding] = -torch.inf, torch.inf
    short = {name: value[:, ~padding] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    tensors = {name: inputs[name].requires_grad_() for name in "qkvif"}
    y, state = mlstm(**inputs, impl=impl)
    expected_y, expected = mlstm(**short, impl=impl)
    torch.testing.assert_close(y[:, ~padding], expected_y)
    torch.testing.assert_close(state, expected)
    if start == 0:
        assert not y[:, padding].any()
    sum(leaf.square().sum() for leaf in tree_leaves(comparable((y[:, ~padding], state)))).backward()
    for name, value in tensors.items():
        assert value.grad.isfinite().all(), name
        assert value.grad[:, ~padding].any(), name
        assert not value.grad[:, padding].any(), name


@IMPLS
@EACH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e38])
def test_nothing_of_an_earlier_document_remains(impl, variant, bad):
    """Not even in the chunk in which the next one starts."""
    inputs = random_inputs(variant, T=90, state=True)
    reset = torch.zeros(2, 90, dtype=torch.bool)
    reset[0, 20], reset[1, 50] = True, True
    late = inputs | {"reset": reset}
    spoilt = tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, late)
    for row, end in ((0, 20), (1, 50)):
        for name in "qkvif":
            spoilt[name][row, end - 10 : end] = bad
        spoilt["initial_state"][0][row] = bad
    expected, actual = (
        results(lambda **each: _after(mlstm(**each, impl=impl), reset), each) for each in (late, spoilt)
    )
    kept = reset.cumsum(1).bool()
    for name in expected:
        if name.startswith("gradient") and name[-1] in "qkvif":
            actual[name], expected[name] = actual[name][kept], expected[name][kept]
        if "initial_state" not in name:
            assert error(actual[name], expected[name]) < 1e-5, name


def _after(outputs, reset):
    y, (C, n, m) = outputs
    return comparable((y[reset.cumsum(1).bool()], (C, n, m)))


@EACH
def test_what_is_no_number_stays_visible(variant):
    """Within its document."""
    inputs = random_inputs(variant, T=90, reset=True)
    inputs["reset"][:] = torch.arange(90) % 30 == 0
    inputs["v"][0, 40, 0] = torch.nan
    y, _ = mlstm(**inputs, impl="chunked")
    assert y[0, 40:60, 0].isnan().all()
    assert y.isnan().sum() == 20 * y.shape[-1]


@IMPLS
@EACH
def test_extreme_gates_stay_finite(impl, variant):
    for i, f in ((50.0, 5.0), (-50.0, 5.0), (50.0, -50.0), (-50.0, -50.0), (-200.0, 5.0), (0.0, -torch.inf)):
        inputs = random_inputs(variant, T=100)
        inputs["i"] = inputs["i"] + i
        inputs["f"] = inputs["f"] + f
        for name, value in results(lambda **each: mlstm(**each, impl=impl), inputs, comparable).items():
            assert value.isfinite().all(), (i, f, name)


@EACH
def test_strong_gates_are_as_exact_as_weak_ones(variant):
    """Also after steps that forget everything: sums of their logarithms are large, differences of those small."""
    inputs = random_inputs(variant, T=200, dtype=torch.float32)
    # scores of one sign, so that no sum of them is close to zero
    inputs |= {"q": inputs["q"].abs(), "k": inputs["k"].abs()}
    inputs["f"][:, ::9] = -80
    inputs["i"] = inputs["i"] + 30 * torch.randn_like(inputs["i"])
    expected, actual = _both(inputs)
    for name in ("y", "gradient of v"):
        assert error(actual[name], expected[name]) < 5e-6, name


@EACH
@pytest.mark.parametrize("reset", [False, True], ids=["", "reset"])
def test_gradients_are_exact_without_a_norm_behind(variant, reset):
    """Those of the gates and of the state too, in float32 against float64 through the recurrence."""
    inputs = random_inputs(variant, T=256, K=32, V=32, state=True, reset=reset)
    expected, actual = _both(inputs)
    assert {"gradient of i", "gradient of f", "gradient of initial_state 2"} <= actual.keys()
    for name, value in actual.items():
        assert error(value, expected[name]) < 5e-6, name


def _both(inputs):
    """Results of the reference in float64, and of `chunked`."""
    wide = tree_map(lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, inputs)
    expected = results(lambda **each: mlstm(**each, impl="reference"), wide, comparable)
    return expected, results(lambda **each: mlstm(**each, impl="chunked"), inputs, comparable)


@IMPLS
def test_gradients_are_those_of_the_stabiliser_as_well(impl):
    """Of a consumer that takes m for itself, and of an eps that is felt."""
    inputs = random_inputs(T=40, B=1, H=1, state=True, dtype=torch.float64)
    inputs |= {"eps": 0.1, "reset": torch.arange(40)[None] == 25}
    tensors = [inputs[name] for name in "qkvif"] + list(inputs["initial_state"])

    def call(*values):
        named = dict(zip("qkvif", values[:5], strict=True))
        return tuple(tree_leaves(mlstm(**inputs | named | {"initial_state": values[5:]}, impl=impl)))

    assert torch.autograd.gradcheck(call, [value.requires_grad_() for value in tensors], fast_mode=True)


@pytest.mark.parametrize("impl", ["chunked"])
def test_memory_for_the_backward_pass_is_linear(impl):
    def saved(T):
        sizes = []
        inputs = {name: value.requires_grad_() for name, value in random_inputs(T=T, K=32, V=32).items()}
        with saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            mlstm(**inputs, impl=impl)
        return sum(sizes)

    inputs = sum(value.numel() for value in random_inputs(T=2048, K=32, V=32).values())
    assert saved(2048) < 2 * inputs
    assert saved(2048) < 2.1 * saved(1024)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: test_gpu.py runs the real kernels")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("K", "V"), [(70, 20), (20, 70)])
def test_several_tiles_in_a_chunk_on_a_gpu(K, V, monkeypatch):
    """In the interpreter, with several blocks of keys or values too, the last of them not full."""
    pytest.importorskip("triton")
    from helixwave_kernels.mlstm import triton

    monkeypatch.setattr(triton, "CHUNK", 32)
    monkeypatch.setattr(triton, "TILE", 16)
    inputs = random_inputs(T=40, B=1, H=1, K=K, V=V, state=True, reset=True)
    expected, actual = (results(mlstm.impls[impl], inputs, comparable) for impl in ("reference", "triton"))
    for name, value in actual.items():
        assert error(value, expected[name]) < 1e-5, name


def test_wrong_arguments_are_named():
    inputs = random_inputs(T=5)
    with pytest.raises(ValueError, match="input_gate is 'softmax', expected one of exp, sigmoid"):
        mlstm(**inputs, input_gate="softmax")
    with pytest.raises(ValueError, match="normalize=False needs input_gate='sigmoid'"):
        mlstm(**inputs, normalize=False)
    with pytest.raises(ValueError, match=r"mlstm: v has shape \[2, 4, 2, 6\]"):
        mlstm(**inputs | {"v": inputs["v"][:, 1:]})
    state = (torch.zeros(2, 2, 6, 4), torch.zeros(2, 2, 4), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"mlstm: C has shape \[2, 2, 6, 4\]"):
        mlstm(**inputs, initial_state=state)


@pytest.mark.parametrize("T", [1, 64, 192])
def test_is_that_of_the_xlstm_package(T):
    backends = pytest.importorskip("xlstm.blocks.mlstm.backends")
    inputs = random_inputs(T=T, V=4)
    q, k, v, i, f = (inputs[name].transpose(1, 2) for name in "qkvif")
    expected = backends.parallel_stabilized_simple(q, k, v, i.unsqueeze(-1), f.unsqueeze(-1)).transpose(1, 2)
    for impl in ("reference", "chunked"):
        assert error(mlstm(**inputs, impl=impl)[0], expected) < 1e-5


@pytest.mark.slow
def test_faster_than_the_xlstm_package():
    pytest.importorskip("xlstm")
    from helixwave_kernels.mlstm.peers import xlstm_chunkwise

    def ours(**inputs):
        return mlstm(**inputs, impl="chunked")[0]

    torch.manual_seed(0)
    long, short = (random_inputs(T=T, H=4, K=64, V=64) for T in (8192, 2048))
    runs = {"ours": (ours, long), "xlstm": (xlstm_chunkwise, long), "ours at 2k": (ours, short)}
    seconds = {name: float("inf") for name in runs}
    for _ in range(3):
        for name, (run, inputs) in runs.items():
            seconds[name] = min(seconds[name], cpu_seconds(run, inputs))
    assert seconds["ours"] <= 0.25 * seconds["xlstm"], seconds
    assert seconds["ours"] <= 5 * seconds["ours at 2k"], seconds


def cpu_seconds(run, inputs) -> float:
    tensors = {name: value.requires_grad_() for name, value in inputs.items()}
    start = time.process_time()
    torch.autograd.grad(run(**tensors).sum(), list(tensors.values()))
    return time.process_time() - start
