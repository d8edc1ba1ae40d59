"""A hybrid of several families is one model: it learns, streams, exports and comes back from its checkpoint."""

import pytest
import torch
from helixwave.checkpoint import build_model, load, save
from helixwave.optimisation import parameter_groups
from helixwave.token_model import TokenModel

VOCABULARY = list("abcdefgh")
PATTERN = [{"name": "mamba", "d_state": 4}, {"name": "mamba", "d_state": 4}, {"name": "attention", "window": 16}]
CONFIG = {
    "model": {"name": "token_model"},
    "backbone": {"d_model": 16, "n_layer": 8, "blocks": [*PATTERN, {"name": "mlstm", "multiple": 16}]},
    "classes": VOCABULARY,
}


@pytest.fixture
def model() -> TokenModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


def text(T: int) -> torch.Tensor:
    """The alphabet over and over, from two places on."""
    return (torch.arange(T) + torch.tensor([[0], [3]])) % len(VOCABULARY)


def test_has_eight_layers_of_three_kinds(model):
    kinds = [type(block).__name__ for block in model.backbone.blocks]
    assert kinds == ["Mamba", "Mamba", "Attention", "MLSTM"] * 2


def test_learns_what_comes_next(model):
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, weight_decay=0.0))
    losses = []
    for _ in range(45):
        logits = model(text(40)[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text(40)[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.1
    assert model.eval().generate(text(10), n_new=12).ids.equal(text(22)[:, 10:])


def test_streams(model):
    model.eval()
    with torch.no_grad():
        whole = model(text(60))
        state, steps = None, []
        for token in text(60).unbind(1):
            logits, state = model.step(token, state)
            steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_exports(model):
    model.eval()
    program = torch.export.export(model, (text(40),))
    torch.testing.assert_close(program.module()(text(40)), model(text(40)))


def test_comes_back_from_its_checkpoint(model, tmp_path):
    model.eval()
    save(model, tmp_path)
    assert load(tmp_path)(text(40)).equal(model(text(40)))
