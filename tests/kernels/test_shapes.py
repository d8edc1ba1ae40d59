import pytest
import torch
from helixwave_kernels import (
    expect_shapes,
    linear_scan,
    long_conv,
    mlstm,
    prefix_attention,
    selective_scan,
    short_conv,
)
from hypothesis import given
from hypothesis import strategies as st


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("decay", "message"),
    [
        (zeros(2, 62, 8), "linear_scan: decay has shape [2, 62, 8], expected [B, T, D] with B=2, T=63, D=8"),
        (zeros(2, 63), "linear_scan: decay has shape [2, 63], expected [B, T, D] with B=2, T=63, D=8"),
    ],
)
def test_message(decay, message):
    with pytest.raises(ValueError) as error:
        linear_scan(zeros(2, 63, 8), decay)
    assert str(error.value) == message


def test_first_tensor_of_wrong_rank():
    with pytest.raises(ValueError, match=r"^scan: x has shape \[3\], expected \[B, T, D\]$"):
        expect_shapes("scan", x=(zeros(3), "B T D"))


def test_none_is_skipped():
    expect_shapes("scan", x=(zeros(2, 3), "B T"), state=(None, "B D"))


def test_numbers_arithmetic_and_sizes():
    expect_shapes("rule", n=2, q=(zeros(5, 3), "T W"), k=(zeros(10, 2), "T*n W-1"), pair=(zeros(2, 6), "2 T+1"))
    with pytest.raises(ValueError, match=r"k has shape \[9\], expected \[T\*n\] with n=2, T=5"):
        expect_shapes("rule", n=2, q=(zeros(5), "T"), k=(zeros(9), "T*n"))


@given(shape=st.lists(st.integers(1, 4), min_size=3, max_size=3), other=st.lists(st.integers(1, 4), max_size=4))
def test_accepts_exactly_the_same_shape(shape, other):
    def check() -> None:
        expect_shapes("scan", x=(zeros(*shape), "B T D"), y=(zeros(*other), "B T D"))

    if shape == other:
        check()
    else:
        with pytest.raises(ValueError, match="y has shape"):
            check()


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda **kw: short_conv(zeros(2, 5, 8), zeros(8, 4), initial_state=zeros(2, 8, 4), **kw), "[B, D, W-1] with"),
        (lambda **kw: short_conv(zeros(2, 5, 8), zeros(8, 4), activation="relu", **kw), "expected None or 'silu'"),
        (lambda **kw: long_conv(zeros(2, 5, 8), zeros(8, 4), mode="valid", **kw), "'circular' or 'same'"),
        (lambda **kw: long_conv(zeros(2, 5, 8), zeros(8, 4), mode="same", return_state=True, **kw), "has no state"),
        (lambda **kw: selective_scan(*scan_inputs(G=3), **kw), "B has G=3 groups, which do not divide D=8"),
        (lambda **kw: selective_scan(*scan_inputs(G=2)[:3], zeros(2), zeros(2), **kw), "B has shape [2], expected"),
    ],
    ids=["state", "activation", "mode", "no-state", "groups", "map"],
)
def test_refusals_say_what_is_wrong(call, message, impl):
    with pytest.raises(ValueError) as error:
        call(impl=impl)
    assert message in str(error.value)


def scan_inputs(*, G: int) -> tuple[torch.Tensor, ...]:
    return zeros(2, 5, 8), zeros(2, 5, 8), zeros(8, 4), zeros(2, 5, G, 4), zeros(2, 5, G, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda state: mlstm(*[zeros(1, 3, 2, 4)] * 3, *[zeros(1, 3, 2)] * 2, initial_state=state),
            "mlstm: initial_state has {}, expected a tuple of 3: C, n, m",
        ),
        (
            lambda state: prefix_attention(zeros(2, 4), *[zeros(1, 3, 2, 4)] * 2, initial_state=state),
            "prefix_attention: initial_state has {}, expected a tuple of 3: m, u, w",
        ),
    ],
    ids=["mlstm", "prefix_attention"],
)
def test_a_state_of_the_wrong_number_of_parts(call, message):
    for state, came in ((zeros(1, 2), "one tensor"), ((zeros(1, 2), zeros(1, 2)), "2 parts")):
        with pytest.raises(ValueError) as error:
            call(state)
        assert str(error.value) == message.format(came)
