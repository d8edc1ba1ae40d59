"""pLSTM: equal to its recurrence at any length, with transitions that never grow."""

import pytest
import torch
from helixwave.blocks import plstm
from helixwave.blocks.plstm import PLSTM, Transition, transition_scan
from helixwave.errors import InputError
from torch import Tensor

H, K, V, J = 2, 5, 3, 4


def gates(T: int, *, state: bool = False) -> tuple[Tensor, ...]:
    """q, k, w, the transitions and an initial state, in float64."""
    generator = torch.Generator().manual_seed(T)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    transition = torch.linalg.qr(randn(2, T, H, J, J))[0] * randn(2, T, H, 1, J).tanh()
    start = (randn(2, H, K, V, J),) if state else ()
    return randn(2, T, H, K), randn(2, T, H, K), randn(2, T, H, V, J), transition, *start


def scan_by_steps(
    q: Tensor, k: Tensor, w: Tensor, transition: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    C = q.new_zeros(2, H, K, V, J) if state is None else state
    ys = []
    for t in range(q.shape[1]):
        ys.append((q[:, t, :, :, None, None] * C).sum(2))
        mixed = (transition[:, t, :, None, None] * C.unsqueeze(-2)).sum(-1)
        C = mixed + k[:, t, :, :, None, None] * w[:, t].unsqueeze(2)
    return torch.stack(ys, dim=1), C


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3, 63, 64, 65, 130])
def test_scan_equals_the_recurrence(T: int, state: bool) -> None:
    """Outputs, the last state and all gradients; lengths that are no powers of two among them."""
    inputs = tuple(x.requires_grad_() for x in gates(T, state=state))
    expected, found = scan_by_steps(*inputs), transition_scan(*inputs)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10)
    weights = [torch.randn_like(part) for part in expected]
    gradients = [
        torch.autograd.grad(sum((x * weight).sum() for x, weight in zip(result, weights, strict=True)), inputs)
        for result in (found, expected)
    ]
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-8)


def test_backward_is_linear_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the chunks are at most about twice the nodes of the graph: no chunk touches all others."""
    monkeypatch.setattr(plstm, "CHUNK", 4)

    def count(T: int) -> int:
        y, _ = transition_scan(*(x.requires_grad_() for x in gates(T)))
        seen, queue = set(), [y.grad_fn]
        while queue:
            node = queue.pop()
            if node is not None and node not in seen:
                seen.add(node)
                queue += [following for following, _ in node.next_functions]
        return len(seen)

    assert count(64) - count(32) <= count(32) * 1.1


def build(**options: bool | float) -> PLSTM:
    torch.manual_seed(0)
    block = PLSTM(16, **options).eval()
    with torch.no_grad():
        # away from the start, where the memory adds little to the skip
        for gate in (block.source, block.mark, block.direct):
            gate.bias.normal_()
            if gate.weight is not None:
                gate.weight.normal_(std=0.1)
        block.transition.proj.weight.normal_(std=0.3)
        block.transition.proj.bias.normal_()
        block.skip.normal_()
    return block


def by_steps(block: PLSTM, x: Tensor) -> Tensor:
    """The published equations in float64, one step after another; gates and maps written out."""
    p = {name: value.double() for name, value in block.named_parameters()}
    n_head, J = block.n_head, block.d_track
    inputs, z = (x.double() @ p["up_proj.weight"].T + p["up_proj.bias"]).chunk(2, dim=-1)
    B, T, D = inputs.shape
    K, V = D // n_head, D // n_head // J
    filters = p["conv1d.weight"].squeeze(1)

    def blocks(name: str, x: Tensor) -> Tensor:
        return x @ torch.block_diag(*p[f"{name}.weight"]).T + p[f"{name}.bias"]

    def gate(name: str, u: Tensor) -> Tensor:
        logit = p[f"{name}.bias"].expand(B, -1, -1, -1)
        if f"{name}.weight" in p:
            logit = logit + (p[f"{name}.weight"] * u[:, None, None, None]).sum(-1)
        return torch.exp(torch.nn.functional.logsigmoid(logit))

    def orthogonal(angles: Tensor) -> Tensor:
        skew = angles.new_zeros(B, n_head, J, J)
        for n, (i, j) in enumerate(torch.tril_indices(J, J, -1).T.tolist()):
            skew[:, :, i, j], skew[:, :, j, i] = angles[..., n], -angles[..., n]
        return torch.linalg.matrix_exp(skew)

    C = inputs.new_zeros(B, n_head, K, V, J)
    ys = []
    for t in range(T):
        u = sum((inputs[:, t - 3 + j] * filters[:, j] for j in range(max(0, 3 - t), 4)), p["conv1d.bias"])
        q, k = blocks("query", u).view(B, n_head, K), blocks("key", u).view(B, n_head, K)
        v = blocks("value", inputs[:, t]).view(B, n_head, V, J)
        S, M, D_t = gate("source", u), gate("mark", u), gate("direct", u)
        logits = (u @ p["transition.proj.weight"].T + p["transition.proj.bias"]).view(B, n_head, -1)
        n = J * (J - 1) // 2
        left, right = orthogonal(logits[..., :n]), orthogonal(logits[..., n : 2 * n])
        transition = left @ torch.diag_embed(torch.tanh(5 * logits[..., 2 * n :])) @ right
        read = torch.einsum("bhk,bhoi,bhkvi->bhvo", q, M, C)
        y = (read + torch.einsum("bhk,bhk,bhoj,bhvj->bhvo", q, k, D_t, v)) / K**0.5
        C = torch.einsum("bhij,bhkvj->bhkvi", transition, C) + torch.einsum("bhij,bhk,bhvj->bhkvi", S, k, v)
        heads = y.flatten(2)
        normed = (heads / (heads.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(1) * p["norm.weight"]
        ys.append((normed + p["skip"] * u) * z[:, t] * z[:, t].sigmoid())
    return torch.stack(ys, dim=1) @ p["down_proj.weight"].T + p["down_proj.bias"]


@pytest.mark.parametrize(
    "options", [{}, {"input_gates": True, "n_head": 2}, {"d_track": 2}, {"d_track": 1, "qkv_block": 8}]
)
def test_equals_the_published_equations_step_by_step(options: dict[str, bool | float]) -> None:
    block = build(**options)
    x = torch.randn(2, 37, 16)
    torch.testing.assert_close(block(x)[0].double(), by_steps(block, x), rtol=1e-3, atol=1e-4)


def test_padding_and_state_with_a_memory_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws at the start of training see little of the memory: here it is most of the output."""
    monkeypatch.setattr(plstm, "CHUNK", 8)
    block = build(input_gates=True)
    x, lengths = torch.randn(3, 45, 16), [45, 19, 1]
    for i, length in enumerate(lengths):
        x[i, length:] = 1e3
    y, state = block(x, lengths=torch.tensor(lengths))
    more = torch.randn(3, 7, 16)
    y_more, _ = block(more, state)
    for i, length in enumerate(lengths):
        alone, _ = block(torch.cat([x[i : i + 1, :length], more[i : i + 1]], dim=1))
        torch.testing.assert_close(y[i : i + 1, :length], alone[:, :length], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(y_more[i : i + 1], alone[:, length:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [0.1, 1.0, 100.0])
def test_transitions_never_grow(size: float) -> None:
    """The largest singular value is at most one, however large the logits."""
    torch.manual_seed(0)
    layer = Transition(8, 3, 4)
    torch.nn.init.normal_(layer.proj.weight, std=size)
    transition = layer(torch.randn(2, 50, 8), None)
    assert torch.linalg.matrix_norm(transition, 2).max() <= 1 + 1e-5


def test_starts_as_published_but_for_the_spread() -> None:
    torch.manual_seed(0)
    block = PLSTM(128, gate_spread=0.0)
    for gate in (block.source, block.mark, block.direct):
        assert (gate.bias == -5).all()
    transition = block.transition(torch.randn(1, 3, 256), None)
    expected = torch.eye(4) * torch.tanh(torch.tensor(5.0))
    torch.testing.assert_close(transition, expected.expand_as(transition))
    assert block.up_proj.weight.std().item() == pytest.approx((2 / (5 * 128)) ** 0.5, rel=0.05)


def test_only_a_spread_of_the_gates_tells_the_parts_apart() -> None:
    """With all gates alike the gradient keeps them alike, and no rotation of the transition is learnt."""

    def rotation(spread: float) -> float:
        torch.manual_seed(0)
        block = PLSTM(16, gate_spread=spread)
        (block(torch.randn(2, 20, 16))[0] * torch.randn(2, 20, 16)).sum().backward()
        gradient = block.transition.proj.bias.grad.unflatten(-1, (4, 16))
        return (gradient[:, :12].norm() / gradient[:, 12:].norm()).item()

    assert rotation(0.0) < 1e-4
    assert rotation(1.0) > 1e-2


def test_options_must_fit() -> None:
    with pytest.raises(InputError, match="n_head is 3 and d_track 4, expected their product to divide the 64 inner"):
        PLSTM(16, n_head=3)
    with pytest.raises(InputError, match="d_track is 3, expected 1, 2 or 4"):
        PLSTM(16, d_track=3)
    with pytest.raises(InputError, match="qkv_block is 5, expected a divisor of the 64 inner channels"):
        PLSTM(16, qkv_block=5)
