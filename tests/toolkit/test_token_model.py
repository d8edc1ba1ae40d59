"""A model of tokens: whole sequences, single steps, checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave.checkpoint import build_model, load, save
from helixwave.errors import InputError
from helixwave.optimisation import parameter_groups
from helixwave.registry import MODELS
from helixwave.token_model import TokenModel
from safetensors.torch import load_file
from torch import Tensor

BACKBONE = {"d_model": 8, "n_layer": 2, "blocks": [{"name": "mamba", "d_state": 4}, {"name": "mlp"}]}
IDS = torch.tensor([[0, 1, 2, 1, 0], [2, 1, 1, 1, 1]])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_local", {"token_model": TokenModel})


def build(**options: Any) -> TokenModel:
    torch.manual_seed(0)
    config = {"model": {"name": "token_model", **options}, "backbone": BACKBONE, "classes": ["a", "b", "c"]}
    return build_model(config).eval()  # type: ignore[return-value]


@pytest.mark.parametrize("tie", [True, False])
def test_the_head_is_the_embedding_and_saved_once(tie: bool, tmp_path: Path) -> None:
    model = build(tie=tie)
    assert (model.head.weight is model.embedding.weight) == tie
    save(model, tmp_path)
    assert ("head.weight" in load_file(tmp_path / "model.safetensors")) != tie
    again = load(tmp_path)
    assert (again.head.weight is again.embedding.weight) == tie
    assert again(IDS).equal(model(IDS))


def test_a_tied_embedding_is_trained_once_and_without_decay() -> None:
    model = build()
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.1)
    (decay,) = [group["weight_decay"] for group in groups for p in group["params"] if p is model.embedding.weight]
    assert decay == 0


def test_logits_are_products_with_the_embedding() -> None:
    model = build(embedding_scale=3.0)
    hidden = model.hidden(IDS)
    assert hidden.equal(model.backbone(3 * model.embedding.weight[IDS])[0])
    torch.testing.assert_close(model(IDS), hidden @ model.embedding.weight.T)
    assert model.logits(IDS).equal(model(IDS))


def test_logits_run_into_their_limit() -> None:
    plain, capped = build(), build(logit_cap=0.01)
    torch.testing.assert_close(capped(IDS), 0.01 * (plain(IDS) / 0.01).tanh())
    with pytest.raises(InputError, match="logit_cap is 0, expected more than 0"):
        build(logit_cap=0)


def test_dropout_is_for_training() -> None:
    model = build(dropout=0.5)
    assert model(IDS).equal(build()(IDS))
    model.train()
    assert not model(IDS).equal(model(IDS))


def test_prefill_and_steps_equal_the_forward_pass() -> None:
    model, lengths = build(logit_cap=30.0), torch.tensor([3, 1])
    logits, state = model.prefill(IDS[:, :3], lengths)
    texts = [IDS[0, :3].tolist(), IDS[1, :1].tolist()]
    for _ in range(4):
        for row, text in enumerate(texts):
            torch.testing.assert_close(logits[row], model(torch.tensor([text]))[0, -1], rtol=1e-4, atol=1e-6)
        token = logits.argmax(-1)
        texts = [[*text, int(new)] for text, new in zip(texts, token, strict=True)]
        logits, state = model.step(token, state)


def test_padding_has_no_influence() -> None:
    model, lengths = build(), torch.tensor([5, 2])
    changed = IDS.clone()
    changed[1, 2:] = 0

    def valid(ids: Tensor) -> Tensor:
        return model(ids, lengths)[1, :2]

    assert valid(changed).equal(valid(IDS))
