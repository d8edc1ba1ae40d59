"""Laws of all models of an ECG: padding, lengths, gradients, lead dropout, files, export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import build_model, load, named_tensors, save
from helixwave.errors import InputError
from helixwave.outputs import Predicts
from helixwave_domains.ecg import xresnet
from helixwave_domains.ecg.inception import Inception1d
from helixwave_domains.ecg.networks import ECGModel, ECGNetwork
from helixwave_domains.ecg.s4_ecg import S4ECG
from helixwave_domains.ecg.vision_mamba import ECGMamba
from helixwave_domains.ecg.xlstm_ecg import XLSTMECG
from torch import Tensor
from torch.testing import assert_close

CLASSES = ["NORM", "MI", "STTC"]
STEM: dict[str, Any] = {"widths": [8], "kernels": [5, 3], "strides": [2, 2]}


def ecg_model(**arguments: Any) -> ECGModel:
    blocks = [{"name": "bidirectional", "block": {"name": "s4d", "d_state": 4}}]
    return ECGModel(backbone=Backbone(8, n_layer=1, blocks=blocks), **{**STEM, **arguments})


MODELS: dict[str, Callable[..., ECGNetwork]] = {
    "ecg_model": ecg_model,
    "beats": lambda **given: ecg_model(head="beat", pool="max", **given),
    "signal": lambda **given: ecg_model(head="signal", **given),
    "ecg_mamba": lambda **given: ECGMamba(d_model=8, n_layer=1, d_state=4, max_length=64, **STEM, **given),
    "s4_ecg": lambda **given: S4ECG(d_model=8, n_layer=1, d_state=4, **given),
    "xlstm_ecg": lambda **given: XLSTMECG(d_model=8, n_layer=1, n_head=2, n_fft=16, hop=4, **given),
    "xresnet1d": lambda **given: xresnet.XResNet1d(depth=50, **given),
    "inception1d": lambda **given: Inception1d(n_layer=3, **given),
}


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ECGNetwork]:
    # a block of each kind is enough
    monkeypatch.setattr(xresnet, "_BLOCKS", {50: (1, 1)})
    torch.manual_seed(0)
    return MODELS[request.param]


def signals(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Root mean square of the error over that of the values."""
    ratio = float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    assert ratio < 1e-5, ratio


def lively(model: ECGNetwork) -> ECGNetwork:
    """With norms as after some training: none at zero, no statistics at their start."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
    return model.eval()


@torch.inference_mode()
def test_scores_depend_neither_on_padding_nor_on_the_batch(make: Callable[..., ECGNetwork]) -> None:
    model = lively(make(classes=CLASSES, channels=2))
    lengths = [1, 2, 7, 30, 41]
    batch = signals(len(lengths), 45, 2)
    outputs = model(batch, torch.tensor(lengths))
    embedded = model.embed(batch, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone = batch[i : i + 1, :length]
        scored = outputs[i, :length] if outputs.ndim == 3 else outputs[i]
        assert_near(scored, model(alone)[0])
        assert_near(embedded[i], model.embed(alone)[0])


def test_shapes_and_gradients(make: Callable[..., ECGNetwork]) -> None:
    """In training too, nothing behind the end of a signal counts, and every gradient is finite."""
    model = make(classes=CLASSES, predicts="labels", channels=2)
    batch, lengths = signals(4, 40, 2), torch.tensor([40, 3, 1, 17])
    batch.requires_grad_()
    outputs = model(batch, lengths)
    valid = torch.arange(40) < lengths[:, None]
    per_sample = outputs.ndim == 3
    assert outputs.shape == ((4, 40, 3) if per_sample else (4, 3))
    (outputs[valid] if per_sample else outputs).square().sum().backward()
    assert batch.grad is not None
    assert batch.grad[valid].abs().sum() > 0
    assert (batch.grad[~valid] == 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_lead_dropout_in_training_alone(make: Callable[..., ECGNetwork]) -> None:
    model = make(classes=CLASSES, channels=4, n_lead=3, lead_dropout=0.5)
    seen: list[Tensor] = []
    model.embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = signals(16, 20, 4)
    for _ in range(2):
        torch.manual_seed(5)
        model.train()(batch)
    model.eval()(batch)
    first, again, evaluated = seen
    assert torch.equal(first, again)
    assert torch.equal(evaluated, batch)
    kept = (first != 0).any(1)
    assert kept[:, 3].all(), "what is no lead is never dropped"
    assert kept[:, :3].any(1).all(), "one lead is left"
    assert not kept.all()


SMALL: dict[str, dict[str, Any]] = {
    "ecg_model": {**STEM, "head": "beat"},
    "ecg_mamba": {**STEM, "d_model": 8, "n_layer": 1, "max_length": 64},
    "s4_ecg": {"d_model": 8, "n_layer": 1},
    "xlstm_ecg": {"d_model": 8, "n_layer": 1, "n_fft": 16, "hop": 4},
    "xresnet1d": {"depth": 50},
    "inception1d": {"n_layer": 3},
}


@pytest.mark.parametrize("name", SMALL)
def test_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = build_model(
        {
            "model": {"name": name, "channels": 3, "n_lead": 2, **SMALL[name]},
            "backbone": {"d_model": 8, "n_layer": 1, "blocks": [{"name": "mlp"}]} if name == "ecg_model" else None,
            "classes": CLASSES,
            "predicts": "labels",
        }
    ).eval()
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert (loaded.predicts, loaded.channels, loaded.n_lead) == ("labels", 3, 2)
    batch = signals(2, 30, 3)
    assert torch.equal(loaded(batch), model(batch))
    assert loaded.reads.items() <= {"channels": 3, "n_lead": 2, **SMALL[name]}.items()


def test_parts_have_the_names_that_a_start_copies(make: Callable[..., ECGNetwork]) -> None:
    model = make(classes=CLASSES, channels=2)
    assert {name.split(".")[0] for name in named_tensors(model)} <= {"embedding", "backbone", "head"}


# a recurrence behind a stem, and what has layers of its own
QUICKLY_EXPORTED = {"ecg_model", "inception1d"}
EXPORTED = [
    name if name in QUICKLY_EXPORTED else pytest.param(name, marks=pytest.mark.slow)
    for name in MODELS
    if name not in {"beats", "signal"}
]


@torch.no_grad()
@pytest.mark.parametrize("make", EXPORTED, indirect=True)
def test_export_with_any_batch(make: Callable[..., ECGNetwork]) -> None:
    model = lively(make(classes=CLASSES, channels=2))
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (signals(2, 32, 2),), dynamic_shapes=({0: batch},)).module()
    other = signals(5, 32, 2)
    assert_near(exported(other), model(other))


@pytest.mark.parametrize("predicts", ["class", "labels", "numbers"])
def test_says_what_it_predicts(predicts: Predicts) -> None:
    model = ecg_model(classes=CLASSES, predicts=predicts)
    assert (model.classes, model.predicts, model.channels, model.n_lead) == (CLASSES, predicts, 12, 12)


def test_a_beat_is_scored_at_its_sample() -> None:
    model = ecg_model(classes=CLASSES, head="beat", channels=2).eval()
    batch = signals(1, 22, 2)
    hidden, _ = model.hidden(batch)
    for sample, scores in enumerate(model(batch)[0]):
        assert_close(scores, model.head.linear(hidden[0, sample // 4]))  # type: ignore[operator]


def test_errors() -> None:
    model = ecg_model(classes=CLASSES, channels=2)
    with pytest.raises(InputError, match="reads 2 channels, the inputs have 12"):
        model(signals(1, 30, 12))
    with pytest.raises(InputError, match="n_lead is 3, expected 1 to 2"):
        ecg_model(classes=CLASSES, channels=2, n_lead=3)
    with pytest.raises(InputError, match="lead_dropout is 1, expected at least 0"):
        ecg_model(classes=CLASSES, lead_dropout=1)
