"""The training loop against a plain one, and what it promises."""

import io
import math

import helixwave.console
import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave_domains.forecasting.forecast_losses import squared_error
from helixwave_domains.forecasting.linear_networks import LTSFLinear
from helixwave_domains.forecasting.network_fit import Epoch, fit, forecasting, mean_loss, predict, seeded
from helixwave_domains.forecasting.training import Training
from helixwave_domains.forecasting.windows import Batch, Windows
from rich.console import Console
from torch import Tensor, nn
from torch.testing import assert_close

L, H = 6, 2


def waves(T: int = 60, seed: int = 0) -> Windows:
    noise = np.random.default_rng(seed).normal(size=(T, 2)) / 10
    return Windows([np.sin(np.arange(T)[:, None] * [0.3, 0.7]) + noise], context=L, horizon=H)


def network(seed: int = 0) -> LTSFLinear:
    with seeded(seed):
        return LTSFLinear(L, H, 2)


class Noisy(nn.Module):
    """A network with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = network(), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(x))


@pytest.mark.parametrize("drop_last", [False, True])
def test_equals_a_plain_loop(drop_last: bool) -> None:
    """Adam and the schedule of the benchmarks, written out; weights of the best epoch are kept."""
    train, validation = waves().split(0.3)
    assert len(train) % 8
    assert len(validation) % 8
    trained, plain = network(), network()
    training = Training(epochs=4, batch_size=8, lr=0.01, schedule="type1", drop_last=drop_last, seed=5)
    history = fit(trained, train, validation, training=training)

    optimizer = torch.optim.Adam(plain.parameters(), foreach=False)
    expected, kept = [], {}
    for epoch in range(1, 5):
        optimizer.param_groups[0]["lr"] = 0.01 * 0.5 ** max(epoch - 2, 0)
        losses = []
        for numbers in chunks(np.random.default_rng((5, epoch)).permutation(len(train)), drop_last):
            batch = train.batch(numbers)
            loss = (plain(batch.context) - batch.target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        numbers = np.concatenate(chunks(np.arange(len(validation)), drop_last))
        batch = validation.batch(numbers)
        judged = (plain(batch.context) - batch.target).square().mean().item()
        if not expected or judged < min(row[2] for row in expected):
            kept = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
        expected.append((epoch, np.mean(losses), judged))
    assert [(e.number, e.loss, e.validation_loss) for e in history] == [pytest.approx(row) for row in expected]
    assert_close(trained.state_dict(), kept)


def chunks(numbers: np.ndarray, drop_last: bool) -> list[np.ndarray]:
    parts = [numbers[i : i + 8] for i in range(0, len(numbers), 8)]
    return [part for part in parts if len(part) == 8 or not drop_last]


def test_a_linear_network_learns_a_linear_law() -> None:
    """Two sines obey a recurrence of order four, which six steps of context hold."""
    T = np.arange(200)
    windows = Windows([(np.sin(0.3 * T) + np.cos(1.1 * T))[:, None]], context=L, horizon=H)
    linear = LTSFLinear(L, H, 1)
    fit(linear, windows, training=Training(epochs=60, lr=0.05))
    assert mean_loss(linear, windows, forecasting(squared_error), Training()) < 1e-4


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        trained = Noisy()
        torch.rand(seed + 1)
        fit(trained, waves(), training=Training(epochs=2, seed=seed))
        return trained.linear.linear.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_global_generators_are_left_alone() -> None:
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained = Noisy()
    fit(trained, waves(), training=Training(epochs=1))
    predict(trained, waves())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


class Scripted:
    """Training adds one to every weight; validation reads its losses from a list."""

    def __init__(self, losses: list[float]):
        self.losses = iter(losses)

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        total = torch.stack([parameter.sum() for parameter in network.parameters()]).sum()
        return -total if network.training else torch.tensor(next(self.losses))


@pytest.mark.parametrize(
    ("losses", "patience", "n_epoch", "best"),
    [
        ([3, 2, 2.5, 2.1, 2.2, 0], 3, 5, 2),
        ([3, 2, 2.5, 2.1, 1, 4], 3, 6, 5),
        ([1, 2, 3, 4, 5, 6], None, 6, 1),
        ([1, 2, 3, 4, 5, 6], 1, 2, 1),
    ],
)
def test_early_stopping_keeps_the_best_weights(
    losses: list[float], patience: int | None, n_epoch: int, best: int
) -> None:
    trained = nn.Linear(1, 1)
    nn.init.zeros_(trained.weight)
    training = Training(epochs=6, batch_size=99, lr=1.0, schedule="constant", patience=patience)
    history = fit(trained, waves(), waves(20), objective=Scripted(losses), training=training)
    assert [epoch.validation_loss for epoch in history] == pytest.approx(losses[:n_epoch])
    # Adam moves by the learning rate where the gradient does not change
    assert trained.weight.item() == pytest.approx(best, rel=1e-5)


def test_without_validation_the_last_weights_stay() -> None:
    trained = nn.Linear(1, 1)
    nn.init.zeros_(trained.weight)
    training = Training(epochs=4, batch_size=99, lr=1.0, schedule="constant", patience=1)
    history = fit(trained, waves(), objective=Scripted([]), training=training)
    assert [epoch.validation_loss for epoch in history] == [None] * 4
    assert trained.weight.item() == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize(("max_steps", "n_step"), [(None, 7), (3, 3), (99, 7)])
def test_steps_of_an_epoch(max_steps: int | None, n_step: int) -> None:
    sizes = []

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        sizes.append(len(batch.context))
        return forecasting(squared_error)(network, batch)

    windows = waves()
    fit(network(), windows, objective=objective, training=Training(epochs=2, batch_size=8, max_steps=max_steps))
    assert len(sizes) == 2 * n_step
    assert sum(sizes[:n_step]) == min(len(windows), 8 * n_step)


@pytest.mark.parametrize(("min_steps", "reads"), [(1, [1]), (7, [1]), (8, [1, 2]), (16, [2, 3]), (14, [2, 3])])
def test_few_windows_are_read_over_again(min_steps: int, reads: list[int]) -> None:
    """Of 53 windows in batches of 8, as often as 7 or more steps take, and each about as often as any other."""
    seen = []

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        seen.append(batch.target[:, 0, 0])
        return forecasting(squared_error)(network, batch)

    fit(network(), waves(), objective=objective, training=Training(epochs=1, batch_size=8, min_steps=min_steps))
    assert len(seen) == max(min_steps, 7)
    counts = torch.cat(seen).unique(return_counts=True)[1]
    assert len(counts) == 53
    assert sorted(set(counts.tolist())) == reads


def test_long_gradients_are_shortened() -> None:
    trained = network()
    fit(trained, waves(), training=Training(epochs=1, max_norm=1e-3))
    norms = torch.stack([parameter.grad.norm() for parameter in trained.parameters()])
    assert norms.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_weight_decay_is_for_matrices() -> None:
    """With a loss that does not depend on the weights, decay alone moves them."""
    trained = network()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}

    def flat(network: nn.Module, batch: Batch) -> Tensor:
        return sum(parameter.sum() * 0 for parameter in network.parameters())

    training = Training(epochs=1, batch_size=99, lr=0.1, weight_decay=0.5, schedule="constant")
    fit(trained, waves(), objective=flat, training=training)
    assert_close(trained.linear.weight.detach(), before["linear.weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(trained.linear.bias, before["linear.bias"])


class Adds(nn.Module):
    """The last value plus the exogenous variable of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, exogenous: Tensor) -> Tensor:
        return x[:, -1:] + self.weight * exogenous[:, x.shape[1] :]


def test_exogenous_variables_reach_the_network() -> None:
    y, z = np.random.default_rng(0).normal(size=(2, 30, 1))
    windows = Windows([y], context=3, horizon=2, exogenous=[z])
    batch = windows.batch(np.arange(len(windows)))
    expected = batch.context[:, -1:] + batch.exogenous[:, 3:]
    assert_close(torch.from_numpy(predict(Adds(), windows)), expected)
    fit(Adds(), windows, training=Training(epochs=1))


def test_predictions_are_in_order_whatever_the_batch() -> None:
    windows, trained = waves(), network()
    together = trained(windows.batch(np.arange(len(windows))).context).detach().numpy()
    for batch_size in (1, 7, 1000):
        np.testing.assert_allclose(predict(trained.train(), windows, batch_size=batch_size), together, atol=1e-6)
        assert not trained.training


def test_validation_loss_of_an_unequal_last_batch() -> None:
    """Every window counts alike."""
    windows, trained = waves(), network()
    batch = windows.batch(np.arange(len(windows)))
    expected = (trained(batch.context) - batch.target).square().mean().item()
    assert mean_loss(trained, windows, forecasting(squared_error), Training(batch_size=7)) == pytest.approx(expected)


def test_a_series_that_is_too_short() -> None:
    short = Windows([np.zeros((7, 2)), np.zeros((3, 2))], context=L, horizon=H)
    with pytest.raises(InputError, match=r"training: no window of 6 \+ 2 steps fits .* the longest has 7 steps"):
        fit(network(), short)
    with pytest.raises(InputError, match="validation: no window"):
        fit(network(), waves(), short)


def test_no_whole_batch() -> None:
    with pytest.raises(InputError, match=r"training: 53 windows make no batch of 64. Pass drop_last=False"):
        fit(network(), waves(), training=Training(batch_size=64, drop_last=True))


def test_a_loss_that_is_not_finite() -> None:
    def diverges(network: nn.Module, batch: Batch) -> Tensor:
        return forecasting(squared_error)(network, batch) * math.inf

    with pytest.raises(InputError, match=r"the loss of epoch 1 is (inf|nan), of validation None. Lower lr \(now 0.5\)"):
        fit(network(), waves(), objective=diverges, training=Training(lr=0.5))


def test_a_bar_on_a_terminal_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, progress, shown in [(True, True, True), (False, True, False), (True, False, False)]:
        written = io.StringIO()
        console = Console(file=written, force_terminal=is_terminal)
        monkeypatch.setattr(helixwave.console, "console", console)
        fit(network(), waves(), training=Training(epochs=2, progress=progress))
        assert ("epoch 2/2" in written.getvalue()) is shown


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")
def test_on_a_gpu_the_weights_are_those_of_the_cpu() -> None:
    train, validation = waves().split(0.3)
    before = torch.cuda.get_rng_state()
    trained = [network(), network()]
    for each, device in zip(trained, ("cpu", "cuda"), strict=True):
        fit(each, train, validation, training=Training(epochs=3, device=device))
    assert_close(trained[1].state_dict(), trained[0].state_dict(), rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    np.testing.assert_allclose(predict(trained[1], train, device="cuda"), predict(trained[0], train), atol=1e-4)
    # dropout on the GPU follows the seed as well
    noisy = [Noisy(), Noisy()]
    for each in noisy:
        fit(each, train, training=Training(epochs=2, device="cuda"))
    assert_close(noisy[1].state_dict(), noisy[0].state_dict(), rtol=0, atol=0)


def test_history_has_an_entry_for_each_epoch() -> None:
    history = fit(network(), waves(), training=Training(epochs=3))
    assert [epoch.number for epoch in history] == [1, 2, 3]
    assert all(isinstance(epoch, Epoch) for epoch in history)
