import copy
import inspect
import pickle

import helixwave_kernels
import pytest
import torch
from helixwave_kernels import OPS, Op, linear_scan


@pytest.fixture
def double():
    """An operator of our own, that is not left in the registry."""

    @Op
    def double(x: torch.Tensor) -> str:
        """Twice x."""
        return "reference"

    yield double
    OPS.remove(double)


@pytest.fixture
def faster(double):
    double.implementation("chunked")(lambda x: "chunked")
    double.implementation("triton", accepts=lambda x: None if x.is_cuda else f"x is on {x.device}")(lambda x: "triton")
    return double


def test_reference_alone_runs(double):
    assert double(torch.ones(1)) == "reference"
    assert (double.__name__, double.__doc__) == ("double", "Twice x.")
    assert str(inspect.signature(double)).startswith("(x: torch.Tensor, *, impl: str | None = None)")


def test_last_implementation_that_accepts_runs(faster):
    assert faster(torch.ones(1)) == "chunked"
    assert list(faster.impls) == ["reference", "chunked", "triton"]


@pytest.mark.parametrize("forced", ["reference", "chunked", "triton,reference"])
def test_forced_by_argument_and_environment(faster, forced, monkeypatch):
    assert faster(torch.ones(1), impl=forced) == forced.split(",")[-1]
    monkeypatch.setenv("HELIXWAVE_IMPL", forced)
    assert faster(torch.ones(1)) == forced.split(",")[-1]


def test_argument_wins_over_environment(faster, monkeypatch):
    monkeypatch.setenv("HELIXWAVE_IMPL", "triton")
    assert faster(torch.ones(1), impl="reference") == "reference"


def test_forced_implementation_that_cannot_run_fails(faster):
    with pytest.raises(ValueError, match=r"^double: 'triton' cannot run this call: x is on cpu$"):
        faster(torch.ones(1), impl="triton")


def test_unknown_name_offers_the_nearest(faster, monkeypatch):
    monkeypatch.setenv("HELIXWAVE_IMPL", "chunkd")
    message = "double: no implementation named 'chunkd'. Did you mean 'chunked'? Known: reference, chunked, triton."
    with pytest.raises(ValueError) as error:
        faster(torch.ones(1))
    assert str(error.value) == message


def test_check_runs_before_every_implementation(faster):
    @faster.check
    def check(x: torch.Tensor) -> None:
        if x.ndim != 1:
            raise ValueError("double: one axis, please")

    for impl in (None, "reference", "chunked"):
        with pytest.raises(ValueError, match="one axis"):
            faster(torch.ones(1, 1), impl=impl)


def test_operators_copy_and_pickle_by_name():
    assert copy.deepcopy(linear_scan) is linear_scan
    assert pickle.loads(pickle.dumps(linear_scan)) is linear_scan  # noqa: S301


def test_registry_is_what_is_public():
    public = {name for name in helixwave_kernels.__all__ if isinstance(getattr(helixwave_kernels, name), Op)}
    assert public == {op.__name__ for op in OPS}


def test_every_operator_is_documented():
    for op in OPS:
        assert "Args:" in op.__doc__, op
        assert "Returns:" in op.__doc__, op
        assert {"reference", "chunked"} <= set(op.impls), op
