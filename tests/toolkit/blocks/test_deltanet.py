import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.deltanet import DeltaNet, DeltaProduct, DeltaRule, GatedDeltaNet
from helixwave.errors import InputError
from torch import Tensor

D = 16
VARIANTS = [
    (DeltaNet, {}),
    (DeltaNet, {"negative_eigenvalues": True, "output_gate": True, "n_head": 2, "expand_v": 2.0}),
    (GatedDeltaNet, {}),
    (GatedDeltaNet, {"negative_eigenvalues": True, "output_gate": False, "d_conv": 2}),
    (DeltaProduct, {}),
    (DeltaProduct, {"n_householder": 3, "forget_gate": True, "output_gate": False}),
]


def build(kind: type[DeltaRule], **options: object) -> DeltaRule:
    torch.manual_seed(0)
    return kind(D, **options).eval()  # type: ignore[arg-type]


def by_step(block: DeltaRule, x: Tensor) -> Tensor:
    """One sequence `[T, D]`: the Householder products written out, in float64."""
    w = {name: parameter.double() for name, parameter in block.named_parameters()}
    x, H, n = x.double(), block.n_head, block.n_householder

    def mixed(name: str) -> Tensor:
        taps = w[f"{name}_conv1d.weight"][:, 0]
        values = x @ w[f"{name}_proj.weight"].T
        before = torch.cat([values.new_zeros(taps.shape[1] - 1, values.shape[1]), values])
        return F.silu(sum(before[i : i + len(x)] * taps[:, i] for i in range(taps.shape[1])))

    q, k, v = mixed("q").unflatten(-1, (H, -1)), *(mixed(name).unflatten(-1, (n, H, -1)) for name in "kv")
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    beta = (x @ w["b_proj.weight"].T).sigmoid().unflatten(-1, (n, H)) * block.beta_max
    a = x.new_ones(len(x), H)
    if "A_log" in w:
        a = (-w["A_log"].exp() * F.softplus(x @ w["a_proj.weight"].T + w["dt_bias"])).exp()
    S = x.new_zeros(H, k.shape[-1], v.shape[-1])
    eye = torch.eye(k.shape[-1], dtype=torch.float64)
    ys = []
    for t in range(len(x)):
        reads = []
        for h in range(H):
            S[h] *= a[t, h]
            for r in range(n):
                key, b = k[t, r, h], beta[t, r, h]
                S[h] = (eye - b * torch.outer(key, key)) @ S[h] + b * torch.outer(key, v[t, r, h])
            reads.append(q[t, h] @ S[h] / k.shape[-1] ** 0.5)
        read = torch.stack(reads)
        ys.append((read / (read.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten() * w["o_norm.weight"])
    y = torch.stack(ys)
    if "g_proj.weight" in w:
        y = y * F.silu(x @ w["g_proj.weight"].T)
    return y @ w["o_proj.weight"].T


def transition(block: DeltaRule, x: Tensor) -> Tensor:
    """The matrices that one token `[D]` multiplies the state of each head with, `[H, K, K]`."""
    K = block.q_proj.out_features // block.n_head
    V = block.v_proj.out_features // block.n_head // block.n_householder
    _, (*convs, _) = block(torch.zeros(1, 1, D))
    eye, zero = torch.eye(K, V).expand(1, block.n_head, K, V), torch.zeros(1, block.n_head, K, V)
    ends = [block(x.view(1, 1, D), (*convs, S))[1][3] for S in (eye, zero)]
    return (ends[0] - ends[1])[0, :, :, :K].double()


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
@torch.no_grad()
def test_equals_the_recurrence(kind: type[DeltaRule], options: dict[str, object]) -> None:
    block = build(kind, **options)
    x = 4 * torch.randn(2, 40, D)
    y, _ = block(x)
    for i in range(2):
        torch.testing.assert_close(y[i].double(), by_step(block, x[i]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_padded_batches_go_on_from_their_own_end(kind: type[DeltaRule], options: dict[str, object]) -> None:
    block = build(kind, **options)
    x, more, lengths = torch.randn(2, 20, D), torch.randn(2, 4, D), torch.tensor([20, 2])
    x[1, 2:] = 1e30
    _, state = block(x, lengths=lengths)
    y, _ = block(more, state)
    for i, length in enumerate(lengths.tolist()):
        alone = block(torch.cat([x[i, :length], more[i]])[None])[0][0]
        torch.testing.assert_close(y[i], alone[length:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("negative", [False, True])
def test_one_eigenvalue_of_a_step_is_1_minus_beta(negative: bool) -> None:
    """The others are 1. In (-1, 1) with negative eigenvalues, else in (0, 1)."""
    block = build(DeltaNet, negative_eigenvalues=negative)
    found = []
    for x in 20 * torch.randn(20, D, generator=torch.Generator().manual_seed(0)):
        eigenvalues = torch.linalg.eigvalsh(transition(block, x))
        beta = block.b_proj(x).sigmoid() * (2 if negative else 1)
        torch.testing.assert_close(eigenvalues[:, 0], (1 - beta).double(), rtol=0, atol=1e-3)
        torch.testing.assert_close(eigenvalues[:, 1:], torch.ones_like(eigenvalues[:, 1:]), rtol=0, atol=1e-5)
        found.append(eigenvalues[:, 0])
    lowest, highest = torch.stack(found).aminmax()
    assert -1 - 1e-3 <= lowest <= (-0.9 if negative else 0.1)
    assert lowest < 0 if negative else lowest >= -1e-3
    assert 0.9 <= highest <= 1 + 1e-3


def test_two_writes_turn_the_state() -> None:
    """One Householder matrix has real eigenvalues; a product of two reflections is a rotation."""
    x = 20 * torch.randn(8, D, generator=torch.Generator().manual_seed(0))
    one, two = (build(DeltaProduct, n_householder=n) for n in (1, 2))
    assert max(torch.linalg.eigvals(transition(one, part)).imag.abs().max().item() for part in x) < 1e-4
    assert max(torch.linalg.eigvals(transition(two, part)).imag.abs().max().item() for part in x) > 0.5


def test_forget_gate_starts_as_published() -> None:
    """exp(A_log) uniform in (0, 16], softplus(dt_bias) log-uniform in [0.001, 0.1]."""
    torch.manual_seed(0)
    block = GatedDeltaNet(400, n_head=300)
    A, dt = block.A_log.exp(), F.softplus(block.dt_bias)
    assert 0 < A.min() < 1
    assert 15 < A.max() <= 16.001
    assert A.mean().item() == pytest.approx(8, abs=1)
    assert 0.99e-3 < dt.min() < 2e-3
    assert 0.08 < dt.max() < 0.101
    assert dt.log().mean().item() == pytest.approx(torch.tensor([1e-3, 0.1]).log().mean().item(), abs=0.4)


def test_log_decay_of_a_step() -> None:
    """A token whose writes are zero leaves `exp(-A softplus(dt_bias))` of the state."""
    block = build(GatedDeltaNet)
    S = torch.randn(1, 3, 4, 8)
    _, (*convs, _) = block(torch.zeros(1, 1, D))
    _, (*_, kept) = block(torch.zeros(1, 1, D), (*convs, S))
    decay = torch.exp(-block.A_log.exp() * F.softplus(block.dt_bias))
    torch.testing.assert_close(kept, decay[:, None, None] * S)


def test_published_sizes() -> None:
    """Heads of 256 with values of 512 at a width of 2048, and something that comes out even at any multiple of 4."""
    with torch.device("meta"):
        block = GatedDeltaNet(2048)
        assert (block.n_head, block.q_proj.out_features, block.v_proj.out_features) == (6, 6 * 256, 6 * 512)
    assert [GatedDeltaNet(width).n_head for width in (16, 20, 64)] == [3, 3, 3]
    names = {name for name, _ in DeltaProduct(D, forget_gate=True).named_parameters()}
    projections = {f"{part}_proj.weight" for part in "qkvabgo"} | {f"{part}_conv1d.weight" for part in "qkv"}
    assert names == projections | {"A_log", "dt_bias", "o_norm.weight"}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DeltaNet, {"n_head": 3}, "n_head is 3, expected a divisor of the 16 channels of the keys"),
        (
            GatedDeltaNet,
            {"n_head": 4, "expand_v": 1.125},
            "n_head is 4, expected a divisor of the 18 channels",
        ),
        (DeltaProduct, {"n_householder": 0}, "n_householder is 0, expected at least 1 write per token"),
    ],
)
def test_errors(kind: type[DeltaRule], options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(kind, **options)
