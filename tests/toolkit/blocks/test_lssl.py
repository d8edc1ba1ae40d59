"""LSSL against its recurrence in float64."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.lssl import LSSL
from helixwave.initialisers import hippo
from torch import Tensor

D, N = 6, 8


def build(**options: object) -> LSSL:
    torch.manual_seed(0)
    return LSSL(D, d_state=N, **options)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < tolerance, f"relative error {error:.1e}"


def recurrence(block: LSSL, u: Tensor) -> Tensor:
    """The bilinear rule in both its halves, `[B, T, D]` -> `[B, T, D M]` before the activation."""
    outputs = []
    for channel in range(D):
        own = channel if len(block.A) > 1 else 0
        A, B, dt = block.A[own].double(), block.B[own].double(), block.log_dt[channel].double().exp()
        h, ys = torch.zeros(len(u), N, dtype=torch.float64), []
        for u_t in u[..., channel].double().unbind(1):
            half = h + dt / 2 * (h @ A.T) + dt * B * u_t[:, None]
            h = torch.linalg.solve(torch.eye(N) - dt / 2 * A, half.T).T
            ys.append(h @ block.C[channel].double().T + block.D[channel].double() * u_t[:, None])
        outputs.append(torch.stack(ys, dim=1))
    return torch.stack(outputs, dim=2).flatten(2)


@pytest.mark.parametrize(
    "options",
    [{"measure": "legs"}, {"measure": "legt", "channels": 3}, {"learn": "shared"}, {"learn": "feature"}],
    ids=lambda options: "-".join(map(str, options.values())),
)
@torch.no_grad()
def test_equals_the_recurrence(options: dict[str, object]) -> None:
    block, x = build(**options), torch.randn(2, 130, D)
    if "learn" in options:
        block.A += 0.05 * torch.randn_like(block.A)
    y, _ = block(x)
    linear = block.output_linear.double()
    assert_close(y, linear(F.gelu(recurrence(block, x))))


@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_starts_as_published(measure: str) -> None:
    block = LSSL(64, measure=measure)
    A, B = hippo(measure, 64)
    assert block.A.equal(A.float()[None])
    assert block.B.equal(B.float()[None])
    assert block.log_dt.exp().min() >= 1e-3 * 0.99
    assert block.log_dt.exp().max() <= 0.1 * 1.01
    assert block.C.shape == (64, 1, 64)
    assert block.D.shape == (64, 1)


@pytest.mark.parametrize(
    ("options", "learned"),
    [
        ({}, set()),
        ({"learn": "shared"}, {"A", "B"}),
        ({"learn": "feature", "learn_dt": True}, {"A", "B", "log_dt"}),
    ],
)
def test_learns_what_it_is_told_to(options: dict[str, object], learned: set[str]) -> None:
    block = build(**options)
    names = {name for name, _ in block.named_parameters()}
    assert names & {"A", "B", "log_dt"} == learned
    assert set(block.optimisation) == learned
    assert {"A", "B", "log_dt"} <= set(block.state_dict())
    assert len(block.A) == (D if options.get("learn") == "feature" else 1)
    block(torch.randn(1, 70, D))[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_what_is_fixed_is_computed_once_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    block, calls = build(), []
    compute = block._compute_powers
    monkeypatch.setattr(block, "_compute_powers", lambda chunk: calls.append(1) or compute(chunk))
    for _ in range(3):
        block(torch.randn(1, 5, D))[0].sum().backward()
    assert len(calls) == 1
    block.log_dt += 1
    block(torch.randn(1, 5, D))
    assert len(calls) == 2


@torch.no_grad()
def test_lengths_together_with_a_state() -> None:
    block, x, more = build(channels=2), torch.randn(3, 70, D), torch.randn(3, 90, D)
    lengths = torch.tensor([90, 65, 1])
    padded = more.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 1e3
    _, state = block(x)
    y, end = block(padded, state, lengths)
    for row, length in enumerate(lengths):
        alone, alone_end = block(torch.cat([x[row], more[row, :length]])[None])
        assert_close(y[row, :length], alone[0, 70:])
        assert_close(end[row], alone_end[0])


def test_errors_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="learn is 'all', expected 'fixed', 'shared' or 'feature'"):
        build(learn="all")
