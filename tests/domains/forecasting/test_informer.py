"""Informer against a plain implementation written from the published formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave_domains.forecasting.informer import FORMS, Distil, Informer
from helixwave_domains.forecasting.informer_embedding import sinusoids
from helixwave_domains.forecasting.time_features import time_features, time_fields
from torch import Tensor
from torch.testing import assert_close

L, H, C, D, HEADS, LABEL = 24, 5, 3, 8, 2, 6
TIMES = np.datetime64("2024-02-28T20:00") + np.arange(L + H) * np.timedelta64(15, "m")
FORM = pytest.mark.parametrize("form", FORMS)


def informer(form: str = "informer2020", **options: object) -> Informer:
    torch.manual_seed(0)
    sizes = {"d_model": D, "n_head": HEADS, "d_ff": 12, "label": LABEL, "factor": 1}
    model = Informer(L, H, C, **{**sizes, **FORMS[form], **options})  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean)
    return model.double()


def inputs(B: int = 2, n_mark: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(B)
    x = torch.randn(B, L, C, generator=generator, dtype=torch.float64)
    return (x, torch.rand(B, L + H, n_mark, generator=generator, dtype=torch.float64)) if n_mark else (x,)


class Plain:
    """An Informer's forward pass in evaluation, from its tensors alone."""

    def __init__(self, model: Informer, form: str):
        self.tensors, self.form, self.seed = model.state_dict(), form, 0

    def __call__(self, x: Tensor, marks: Tensor | None, encoders: tuple[int, ...], n_decoder: int) -> Tensor:
        past, ahead = (None, None) if marks is None else (marks[:, :L], marks[:, L - LABEL :])
        x_embedded, read = self.embedding("encoder_embedding", x, past), []
        for e, n_layer in enumerate(encoders):
            h = x_embedded[:, L - L // 2**e :]
            for i in range(n_layer):
                h = self.layer(f"encoders.{e}.layers.{i}", h, None)
                if i < n_layer - 1:
                    h = self.distil(f"encoders.{e}.distils.{i}", h)
            read.append(self.norm(f"encoders.{e}.norm", h))
        zeros = torch.zeros(len(x), H, C, dtype=x.dtype)
        y = self.embedding("decoder_embedding", torch.cat([x[:, -LABEL:], zeros], 1), ahead)
        for i in range(n_decoder):
            y = self.layer(f"decoder.{i}", y, torch.cat(read, 1))
        return self.linear("head", self.norm("norm", y))[:, LABEL:]

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def conv(self, name: str, x: Tensor, padding: int) -> Tensor:
        """Circular, of width 3: output t reads inputs t - padding and the two after it."""
        weight = self.tensors[f"{name}.weight"]
        T = x.shape[1]
        places = range(T + 2 * padding - 2)
        rows = [sum(x[:, (t - padding + j) % T] @ weight[:, :, j].T for j in range(3)) for t in places]
        return torch.stack(rows, 1) + self.tensors.get(f"{name}.bias", 0)

    def embedding(self, name: str, x: Tensor, marks: Tensor | None) -> Tensor:
        places = torch.empty(x.shape[1], D, dtype=x.dtype)
        for t in range(x.shape[1]):
            for i in range(0, D, 2):
                places[t, i], places[t, i + 1] = math.sin(t / 10000 ** (i / D)), math.cos(t / 10000 ** (i / D))
        y = self.conv(f"{name}.values", x, 1) + places
        return y if marks is None else y + self.linear(f"{name}.times", marks)

    def layer(self, name: str, x: Tensor, read: Tensor | None) -> Tensor:
        is_decoder = read is not None
        mixed = is_decoder or self.form == "ltsf"
        x = self.norm(f"{name}.norm", x + self.attention(f"{name}.attention", x, x, True, mixed, is_decoder))
        if is_decoder:
            prob = self.form == "ltsf"
            x = self.norm(f"{name}.cross_norm", x + self.attention(f"{name}.cross", x, read, prob, prob, False))
        up = self.linear(f"{name}.feed_forward.up", x)
        gelu = up * (1 + torch.erf(up / math.sqrt(2))) / 2
        return self.norm(f"{name}.feed_forward.norm", x + self.linear(f"{name}.feed_forward.down", gelu))

    def distil(self, name: str, x: Tensor) -> Tensor:
        y = self.conv(f"{name}.conv", x, FORMS[self.form]["distil_padding"])
        norm = {key: self.tensors[f"{name}.norm.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        y = (y - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
        y = torch.where(y > 0, y, y.exp() - 1)
        T = y.shape[1]
        return torch.stack([y[:, max(t - 1, 0) : t + 2].amax(1) for t in range(0, T, 2)], 1)

    def attention(self, name: str, x: Tensor, read: Tensor, prob: bool, mixed: bool, causal: bool) -> Tensor:
        def heads(part: str, x: Tensor) -> Tensor:  # [B, H, T, K]
            return self.linear(f"{name}.{part}_proj", x).unflatten(-1, (HEADS, -1)).transpose(1, 2)

        q, k, v = heads("q", x), heads("k", read), heads("v", read)
        T, S = q.shape[2], k.shape[2]
        logits = q @ k.transpose(-1, -2)
        hidden = torch.ones(T, S).triu(1).bool() if causal else torch.zeros(T, S).bool()
        weights = (logits / math.sqrt(D / HEADS)).masked_fill(hidden, -math.inf).softmax(-1)
        if prob:
            draws = torch.Generator().manual_seed(self.seed)
            self.seed += 1
            n_key, n_query = (min(math.ceil(math.log(size)), size) for size in (S, T))
            sampled = torch.randint(S, (T, n_key), generator=draws)
            products = torch.stack([logits[:, :, t, sampled[t]] for t in range(T)], 2)
            scores = products.amax(-1) - products.sum(-1) / S
            active = scores >= scores.sort(-1, descending=True).values[..., n_query - 1, None]
            idle = (~hidden).to(v) if causal else torch.full((T, S), 1 / S, dtype=v.dtype)
            weights = torch.where(active[..., None], weights, idle)
        y = weights @ v
        y = y.reshape(x.shape) if mixed else y.transpose(1, 2).reshape(x.shape)
        return self.linear(f"{name}.out_proj", y)


@FORM
@pytest.mark.parametrize(("encoders", "n_decoder"), [((2,), 1), ((3, 2, 1), 2)])
@pytest.mark.parametrize("n_mark", [0, 4])
def test_equals_the_plain_implementation(form: str, encoders: tuple[int, ...], n_decoder: int, n_mark: int) -> None:
    model = informer(form, encoders=encoders, n_decoder_layer=n_decoder, n_mark=n_mark).eval()
    x = inputs(2, n_mark)
    y = model(*x)
    assert y.shape == (2, H, C)
    assert_close(y, Plain(model, form)(x[0], x[1] if n_mark else None, encoders, n_decoder))


def test_forms_differ() -> None:
    forecasts = {form: informer(form, embedding_bias=True).eval()(*inputs()) for form in FORMS}
    assert not torch.allclose(forecasts["informer2020"], forecasts["ltsf"])


@pytest.mark.parametrize(("form", "n_parameter"), [("informer2020", 11_330_055), ("ltsf", 11_328_007)])
def test_as_many_parameters_as_published(form: str, n_parameter: int) -> None:
    """11.33 million for seven channels and hourly features at the published sizes."""
    with torch.device("meta"):
        model = Informer(96, 96, 7, n_mark=4, **FORMS[form])
    assert sum(parameter.numel() for parameter in model.parameters()) == n_parameter


@pytest.mark.parametrize(("padding", "length"), [(1, 12), (2, 13)])
def test_distilling_halves(padding: int, length: int) -> None:
    assert Distil(4, padding)(torch.randn(2, 24, 4)).shape == (2, length, 4)


@FORM
def test_every_parameter_gets_a_gradient(form: str) -> None:
    model = informer(form, n_mark=4).train()
    x, marks = inputs(3, 4)
    F.mse_loss(model(x.requires_grad_(), marks), torch.ones(3, H, C).double()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # keys' biases shift all logits of a query alike
    assert all(name.endswith("k_proj.bias") for name in silent)
    assert x.grad is not None
    assert (x.grad.abs().amax((0, 2)) > 0).all()


@FORM
def test_forecasts_depend_on_the_window_alone(form: str) -> None:
    model = informer(form).eval()
    (x,) = inputs(4)
    first = model(x)
    # other draws from torch's generator in the meantime change nothing
    torch.rand(3)
    assert torch.equal(model(x), first)
    assert_close(model(x[1:2]), first[1:2])


def test_dropout_in_training_alone() -> None:
    model = informer(dropout=0.5, factor=9)
    (x,) = inputs()
    assert not torch.equal(model.train()(x), model(x))
    still = informer(dropout=0.0, factor=9, distil=False).train()
    # with all queries active nothing is drawn that could change the result
    assert_close(still(x), still(x))
    assert_close(still(x), still.eval()(x))


def test_time_features_reach_the_forecast() -> None:
    marks = torch.from_numpy(time_features(TIMES, "t")).double().expand(2, -1, -1)
    model = informer(n_mark=5).eval()
    (x,) = inputs()
    y = model(x, marks)
    for step in (0, L - 1, L + H - 1):
        other = marks.clone()
        other[:, step] += 0.3
        assert (model(x, other) - y).abs().max() > 1e-9


@pytest.mark.parametrize(("frequency", "n_mark"), [("h", 4), ("t", 5)])
@pytest.mark.parametrize("kind", ["fixed", "learned"])
def test_tables_of_the_calendar(kind: str, frequency: str, n_mark: int) -> None:
    fields = torch.from_numpy(time_fields(TIMES, frequency)).expand(2, -1, -1)
    model = informer(n_mark=n_mark, time_embedding=kind).eval()
    times = model.encoder_embedding.times
    assert times is not None
    if kind == "fixed":
        tables = [sinusoids(size, D).double() for size in (13, 32, 7, 24, 4)]
        assert not list(times.parameters())
    else:
        tables = [table.weight for table in times.tables]
    expected = sum(tables[i][fields[..., i]] for i in range(n_mark))
    assert_close(times(fields), expected)
    assert model(*inputs(), fields).shape == (2, H, C)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 9}, "d_model is 9, expected a multiple of n_head=2"),
        ({"label": 25}, "label is 25, expected from 0 to the context of 24"),
        ({"encoders": ()}, r"encoders is \(\), expected layers of each, as in \(2,\)"),
        ({"encoders": (6,)}, r"context is 24, encoders=\(6,\) need at least 32 steps"),
        ({"encoders": (1,) * 6, "distil": False}, "need at least 32 steps"),
        ({"n_mark": 3, "time_embedding": "learned"}, "reads 4 or 5 fields of the calendar, not 3 columns"),
    ],
)
def test_sizes_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"Informer: .*{message}"):
        informer(**options)


@FORM
@pytest.mark.parametrize("label", [0, 2])
def test_the_shortest_windows(form: str, label: int) -> None:
    model = Informer(2, 1, 1, d_model=4, n_head=2, d_ff=4, label=label, **FORMS[form]).train()
    assert model(torch.randn(1, 2, 1)).shape == (1, 1, 1)
