"""What a model looked at: attributions that add up, and that leave the model alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helixwave_domains.ecg.preprocessing import Prepared, Preprocessing
from helixwave_domains.ecg.recording import Recording, held
from helixwave_domains.ecg.saliency import Saliency, attributions, explain, saliency
from torch import nn

RATE, T, C = 100.0, 200, 3
SPAN, LEAD = slice(80, 90), 1


class Listening(nn.Module):
    """Reads one span of one lead, through a saturating function."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, SPAN.stop - SPAN.start))
        self.norm = nn.BatchNorm1d(C)
        self.dropout = nn.Dropout(0.5)
        self.norm.eval()
        self.config = {"predicts": "labels", "classes": ["no", "yes", "neither"]}

    def forward(self, inputs, lengths=None):  # [B, T, C] -> [B, 3]
        heard = torch.tanh(self.dropout(inputs)[:, SPAN, LEAD] @ self.weight)
        return torch.stack([-heard, 2 * heard + 1, 0 * heard], dim=1)


@pytest.fixture
def inputs():
    return np.random.default_rng(0).normal(size=(T, C)).astype(np.float32)


def log_odds(model, inputs, class_number, predicts):
    with torch.no_grad():
        logits = model.eval()(torch.as_tensor(inputs)[None])[0]
    others = [logit for i, logit in enumerate(logits) if i != class_number]
    return (logits[class_number] - (torch.stack(others).logsumexp(0) if predicts == "class" else 0)).item()


@pytest.mark.parametrize("predicts", ["labels", "class"])
@pytest.mark.parametrize("class_number", [0, 1])
def test_attributions_add_up_to_the_change_of_the_log_odds(inputs, class_number, predicts):
    model = Listening()
    found = attributions(model, inputs, class_number, predicts=predicts, steps=200)
    ends = [log_odds(model, each, class_number, predicts) for each in (inputs, np.zeros_like(inputs))]
    assert found.sum() == pytest.approx(ends[0] - ends[1], rel=1e-3)


def test_a_linear_model_is_explained_by_its_weights(inputs):
    linear = nn.Linear(T * C, 2)
    model = nn.Sequential(nn.Flatten(), linear)
    model.forward = lambda inputs, lengths=None: linear(inputs.flatten(1))  # type: ignore[method-assign]
    found = attributions(model, inputs, 1, steps=1)
    expected = inputs * linear.weight[1].detach().numpy().reshape(T, C)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_only_what_the_model_reads_is_marked(inputs):
    marked = saliency(Listening(), inputs, 1, rate=RATE, smoothing=0.05)
    assert marked.shape == (T, C)
    assert marked.dtype == np.float32
    assert (marked >= 0).all()
    reach = slice(SPAN.start - 2, SPAN.stop + 2)
    assert (marked[reach, LEAD] > 0).all()
    marked[reach, LEAD] = 0
    assert not marked.any()


def test_smoothing_is_a_mean_over_what_is_inside(inputs):
    raw = np.abs(attributions(Listening(), inputs, 0))
    found = saliency(Listening(), inputs, 0, rate=RATE, smoothing=0.09)
    for t in range(T):
        np.testing.assert_allclose(found[t], raw[max(t - 4, 0) : t + 5].mean(0), atol=1e-6)


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_stays_as_it_was_and_the_answer_the_same(inputs, outside):
    model = Listening().train()
    model.norm.eval()
    model.weight.grad = torch.ones_like(model.weight)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with outside():
        first, second = (saliency(model, inputs, 0, rate=RATE) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.training
    assert model.dropout.training
    assert not model.norm.training
    assert (model.weight.grad == 1).all()
    assert model.weight.requires_grad
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_explains_the_window_of_a_recording():
    signal = np.random.default_rng(1).normal(size=(C, 500)).astype(np.float32)
    leads = ("I", "II", "V1")
    recording = Recording(leads, RATE, 500, held(signal), Path("a.hea"), "WFDB", leads, ("mV",) * C)
    preprocessing = Preprocessing(rate=RATE, leads=list(leads), window=T / RATE)
    found = explain(Listening(), Prepared(recording, preprocessing), 1, first=250)
    expected = saliency(Listening(), preprocessing.scaled(signal[:, 250 : 250 + T]), 1, rate=RATE)
    np.testing.assert_array_equal(found.values, expected)
    assert (found.start, found.what, list(found.leads)) == (2.5, "yes", list(leads))
    assert found.at("aVR", np.zeros(1)) is None
    at = found.at("II", np.asarray([0.0, 2.5 + 0.85, 4.6]))
    assert at[0] == at[2] == 0
    assert 0 < at[1] <= 1


@dataclass
class Case:
    at: float
    whole: float
    page: float


@pytest.mark.parametrize("case", [Case(0.5, 60, 0), Case(33, 60, 28), Case(59, 60, 50), Case(3, 4, 0)], ids=str)
def test_the_strongest_page_holds_the_peak(case):
    t = np.arange(round(case.whole * RATE)) / RATE
    values = np.exp(-(((t - case.at) / 2) ** 2))[:, None].astype(np.float32)
    found = Saliency(values, None, RATE, 0.0, "a").strongest(10.0, case.whole)
    assert found == pytest.approx(case.page, abs=0.02)
