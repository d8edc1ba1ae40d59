"""HyenaDNA in every published naming, against its formulas written out: sums for convolutions, no block of ours."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.checkpoint import load, save
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave.pretrained.families import Published
from helixwave.pretrained.settings import Settings
from helixwave_domains.genomics.embedding import embed
from helixwave_domains.genomics.published.hyenadna import HyenaDNA
from torch import Tensor

D, D_INNER, E, M, L, N_LAYER = 8, 16, 5, 6, 24, 2
Tensors = dict[str, Tensor]
Write = Callable[..., Path]
IDS = torch.tensor([[7, 8, 9, 10, 11, 6, 7, 7, 10, 8, 1, 9], [9, 9, 8, 10, 7, 8, 0, 7, 10, 11, 8, 9]])


# the formulas


def positions() -> Tensor:  # [L, E]: time, cosines, minus sines
    t, w = torch.linspace(0, 1, L), 2 * math.pi * torch.linspace(0, L - 1, L) / L
    angle = w[:, None] * torch.linspace(1e-4, (E - 1) // 2 - 1, (E - 1) // 2)
    return torch.cat([t[:, None], torch.cos(angle), -torch.sin(angle)], dim=-1)


def deltas(channels: int) -> Tensor:
    return torch.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, channels)


def linear(x: Tensor, w: Tensors, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def layer_norm(x: Tensor, w: Tensors, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def filters(w: Tensors, T: int, shift: float) -> Tensor:  # [T, (o - 1) D]
    h = positions()[:T]
    for i in (0, 2, 4):
        h = torch.sin(w["implicit_filter.1.freq"] * linear(h, w, f"implicit_filter.{i}"))
    h = linear(h, w, "implicit_filter.6")
    return h * (torch.exp(-positions()[:T, :1] * deltas(h.shape[1]).abs()) + shift)


def convolved(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:  # [B, T, D], [T, D], [D]
    y = skip * u
    for t in range(u.shape[1]):
        for s in range(t + 1):
            y[:, t] += k[t - s] * u[:, s]
    return y


def mixer(x: Tensor, w: Tensors, order: int, shift: float) -> Tensor:
    u = F.pad(linear(x, w, "in_proj"), (0, 0, 2, 0))
    T, taps = x.shape[1], w["short_filter.weight"][:, 0]
    u = sum(u[:, i : i + T] * taps[:, i] for i in range(3)) + w["short_filter.bias"]
    *gates, v = u.split(D, dim=-1)
    k = filters(under("filter_fn.", w), T, shift)
    for i, gate in enumerate(reversed(gates[1:])):
        part = slice(i * D, (i + 1) * D)
        v = convolved(v * gate, k[:, part], w["filter_fn.bias"][part])
    return linear(v * gates[0], w, "out_proj")


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def hidden(w: Tensors, ids: Tensor, order: int, shift: float) -> Tensor:
    x = w["backbone.embeddings.word_embeddings.weight"][ids]
    for i in range(N_LAYER):
        layer = under(f"backbone.layers.{i}.", w)
        x = x + mixer(layer_norm(x, layer, "norm1"), under("mixer.", layer), order, shift)
        x = x + linear(gelu(linear(layer_norm(x, layer, "norm2"), layer, "mlp.fc1")), layer, "mlp.fc2")
    return layer_norm(x, w, "backbone.ln_f")


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# the files


def draw(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def weights(order: int = 2) -> Tensors:
    """Under the names of the standalone code, tables and aliases included."""
    filter_fn = {"bias": ((order - 1) * D,), "implicit_filter.0.weight": (M, E), "implicit_filter.1.freq": (1, M)}
    filter_fn |= {f"implicit_filter.{i}.weight": (M, M) for i in (2, 4)} | {
        "implicit_filter.6.weight": ((order - 1) * D, M)
    }
    filter_fn |= {f"implicit_filter.{i}.bias": (M,) for i in (0, 2, 4)}
    inner = (order + 1) * D
    layer = {f"mixer.filter_fn.{name}": shape for name, shape in filter_fn.items()}
    layer |= {"mixer.in_proj.weight": (inner, D), "mixer.in_proj.bias": (inner,), "mixer.out_proj.weight": (D, D)}
    layer |= {
        "mixer.out_proj.bias": (D,),
        "mixer.short_filter.weight": (inner, 1, 3),
        "mixer.short_filter.bias": (inner,),
    }
    layer |= {f"{norm}.{part}": (D,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    layer |= {
        "mlp.fc1.weight": (D_INNER, D),
        "mlp.fc1.bias": (D_INNER,),
        "mlp.fc2.weight": (D, D_INNER),
        "mlp.fc2.bias": (D,),
    }
    shapes = {f"backbone.layers.{i}.{name}": shape for i in range(N_LAYER) for name, shape in layer.items()}
    shapes |= {"backbone.embeddings.word_embeddings.weight": (16, D)}
    w = draw(shapes | {"backbone.ln_f.weight": (D,), "backbone.ln_f.bias": (D,)})
    for i in range(N_LAYER):
        name = f"backbone.layers.{i}.mixer.filter_fn"
        w[f"{name}.implicit_filter.1.freq"] = frequencies = 10 + w[f"{name}.implicit_filter.1.freq"]
        w |= {f"{name}.implicit_filter.{alias}.freq": frequencies for alias in (3, 5)}
        w |= {f"{name}.pos_emb.z": positions()[None], f"{name}.pos_emb.t": positions()[None, :, :1]}
        w[f"{name}.modulation.deltas"] = deltas((order - 1) * D)[None, None]
    return w


def standalone(order: int) -> tuple[dict[str, Any], Tensors, str]:
    layer = {"_name_": "hyena", "emb_dim": E, "filter_order": M, "local_order": 3, "l_max": L, "modulate": True}
    layer |= {"w": 10, "lr": 6e-4, "wd": 0.0, "lr_pos_emb": 0.0, "order": order}
    config = {"d_model": D, "n_layer": N_LAYER, "d_inner": D_INNER, "vocab_size": 12, "pad_vocab_size_multiple": 8}
    config |= {"layer": layer, "resid_dropout": 0.0, "embed_dropout": 0.1, "residual_in_fp32": True, "fused_mlp": False}
    return config, weights(order), "pytorch_model.bin"


def lightning(order: int) -> tuple[dict[str, Any], Tensors, str]:
    config, w, _ = standalone(order)
    return config, w | {"lm_head.weight": w["backbone.embeddings.word_embeddings.weight"]}, "weights.ckpt"


def wrapped(order: int) -> tuple[dict[str, Any], Tensors, str]:
    """With gradient checkpointing around mixers and networks."""
    config, w, file = lightning(order)
    names = {name: re.sub(r"\.(mixer|mlp)\.", r".\1.layer.", name) for name in w}
    return config | {"checkpoint_mixer": True, "checkpoint_mlp": True}, {names[name]: w[name] for name in w}, file


def hub(order: int) -> tuple[dict[str, Any], Tensors, str]:
    """Of transformers: a head of its own, and one name for the frequencies."""
    config = {"model_type": "hyenadna", "d_model": D, "d_inner": D_INNER, "n_layer": N_LAYER, "vocab_size": 12}
    config |= {"pad_vocab_size_multiple": 8, "max_seq_len": L, "emb_dim": E, "filter_order": M, "hyena_order": order}
    config |= {
        "num_inner_mlps": 2,
        "short_filter_order": 3,
        "use_bias": True,
        "train_freq": True,
        "activation_freq": 10,
    }
    config |= {"layer_norm_epsilon": 1e-5, "embed_dropout": 0.1, "pad_token_id": 4, "tie_word_embeddings": False}
    w = {f"hyena.{name}": tensor for name, tensor in weights(order).items() if not name.endswith(("3.freq", "5.freq"))}
    return (
        config,
        w | {"lm_head.weight": weights()["backbone.embeddings.word_embeddings.weight"].flip(0)},
        "model.safetensors",
    )


LAYOUTS = (standalone, lightning, wrapped, hub)
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
Layout = Callable[[int], tuple[dict[str, Any], Tensors, str]]


def with_head(layout: Layout) -> tuple[dict[str, Any], Tensors, str]:
    """A classification head of three classes."""
    config, w, file = layout(2)
    name = "head" if layout is standalone else "decoder.0"
    return config, w | draw({f"{name}.output_transform.weight": (3, D), f"{name}.output_transform.bias": (3,)}), file


def largest(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@every_layout
@pytest.mark.parametrize("order", [2, 3])
def test_computes_what_was_published(layout: Layout, order: int, write: Write) -> None:
    config, w, file = layout(order)
    folder = write(config, w, file)
    head = w.get("lm_head.weight", weights(order)["backbone.embeddings.word_embeddings.weight"])
    for options, shift in (({}, 0.05), ({"shift": 0.0}, 0.0)):
        model = load_pretrained(folder, **options)
        expected = hidden(weights(order), IDS, order, shift)
        with torch.no_grad():
            assert largest(model.hidden(IDS), expected) < 2e-5
            assert largest(model.logits(IDS), expected @ head.T) < 2e-5
    assert largest(hidden(weights(order), IDS, order, 0.05), expected) > 1e-2
    assert model.tokenizer.style == ("hyenadna_hf" if layout is hub else "hyenadna")
    assert (model.head.weight is model.embedding.weight) == (layout is not hub)
    assert (model.context, len(model.classes)) == (L, 16)


@pytest.mark.parametrize("layout", [standalone, lightning])
def test_a_classification_head(layout: Layout, write: Write, tmp_path: Path) -> None:
    config, w, file = with_head(layout)
    model = load_pretrained(write(config, w, file))
    states = hidden(weights(), IDS, 2, 0.05)
    name = next(name.removesuffix(".weight") for name in w if name.endswith("output_transform.weight"))
    with torch.no_grad():
        assert largest(model(IDS), linear(states.mean(1), w, name)) < 2e-5
        # over the valid positions alone, where the published code takes all
        short = linear(hidden(weights(), IDS[1:, :7], 2, 0.05).mean(1), w, name)
        assert largest(model(IDS, torch.tensor([12, 7]))[1:], short) < 2e-5
    save(model, tmp_path / "ours")
    assert torch.equal(load(tmp_path / "ours")(IDS), model(IDS))


@every_layout
def test_is_saved_and_loaded_as_ours(layout: Layout, write: Write, tmp_path: Path) -> None:
    model = load_pretrained(write(*layout(2)), shift=0.0)
    save(model, tmp_path / "ours")
    ours = load(tmp_path / "ours")
    assert torch.equal(ours.logits(IDS), model.logits(IDS))
    assert (ours.context, ours.tokenizer.style) == (model.context, model.tokenizer.style)


def test_an_embedding_is_of_its_sequence_alone(write: Write) -> None:
    model = load_pretrained(write(*hub(2)))
    ids, lengths = torch.full((2, 20), 4), torch.tensor([9, 20])
    ids[0, :9], ids[1] = IDS[0, :9], torch.cat([IDS[1], IDS[0, :8]])
    with torch.no_grad():
        alone, batch = model.hidden(IDS[:1, :9]), model.hidden(ids, lengths)[:1, :9]
        assert largest(batch, alone) <= 1e-6
        ids[0, 9:] = 7
        assert torch.equal(model.hidden(ids, lengths)[:1, :9], batch)


@every_layout
def test_embed_gives_the_means_of_the_formulas(layout: Layout, write: Write) -> None:
    """Whatever else is embedded, in whatever order and case."""
    model = load_pretrained(write(*layout(2)))
    records = [("a", "ACGTTGCAACG"), ("b", "ACNRA"), ("c", "GATTACAGATTACAGATTA"), ("d", "ttgcaacgtac")]
    codes = {"A": 7, "C": 8, "G": 9, "T": 10, "N": 11, "R": 6}
    ids = [torch.tensor([[codes[letter] for letter in letters.upper()]]) for _, letters in records]
    expected = torch.cat([hidden(weights(), one, 2, 0.05).mean(1) for one in ids])
    order = [2, 0, 3, 1]
    (together,), (shuffled,) = embed(records, model), embed([records[i] for i in order], model)
    assert largest(torch.from_numpy(together.pooled["mean"]), expected) < 2e-5
    for i, record in enumerate(records):
        (alone,) = embed([(record[0], record[1].lower())], model)
        for other in (together.pooled["mean"][i], shuffled.pooled["mean"][order.index(i)]):
            assert largest(torch.from_numpy(other), torch.from_numpy(alone.pooled["mean"][0])) <= 1e-6


# what does not fit


@every_layout
@pytest.mark.parametrize(
    "ending",
    ["in_proj.weight", "1.freq", "pos_emb.z", "pos_emb.t", "modulation.deltas", "norm1.bias", "word_embeddings.weight"],
)
def test_one_tensor_less(layout: Layout, ending: str, write: Write) -> None:
    config, w, file = layout(2)
    name = next(name for name in w if name.endswith(ending))
    del w[name]
    # without the embedding the prefix is not known, and everything else is missing too
    with pytest.raises(
        InputError, match=r"lacks tensor '" if "word" in name else rf"lacks tensor '(model\.)?{re.escape(name)}'$"
    ):
        load_pretrained(write(config, w, file), family="hyenadna")


@every_layout
def test_one_tensor_more_or_of_another_shape(layout: Layout, write: Write) -> None:
    config, w, file = layout(2)
    with pytest.raises(InputError, match=r"has the unexpected tensor '(model\.)?backbone\.more'$"):
        load_pretrained(write(config, w | {"backbone.more": torch.ones(1)}, file))
    name = next(
        name for name in w if name.endswith("mlp.fc1.weight" if layout is not wrapped else "mlp.layer.fc1.weight")
    )
    with pytest.raises(
        InputError, match=rf"{re.escape(name)} has shape \[3, 3\], the configuration makes it \[16, 8\]"
    ):
        load_pretrained(write(config, w | {name: torch.ones(3, 3)}, file))


def test_a_head_that_the_configuration_does_not_have(write: Write) -> None:
    config, w, file = hub(2)
    del w["lm_head.weight"]
    with pytest.raises(InputError, match=r"lacks tensor 'lm_head\.weight'$"):
        load_pretrained(write(config, w, file))


def test_a_head_that_is_not_the_embedding(write: Write) -> None:
    config, w, file = lightning(2)
    with pytest.raises(InputError, match=r"model\.lm_head\.weight differs from model\.backbone\.emb.* ties them"):
        load_pretrained(write(config, w | {"lm_head.weight": torch.ones(16, D)}, file))


def test_frequencies_that_are_not_one_tensor(write: Write) -> None:
    config, w, file = standalone(2)
    name = "backbone.layers.1.mixer.filter_fn.implicit_filter.5.freq"
    with pytest.raises(InputError, match=r"5\.freq differs from backbone.*1\.freq, but the configuration ties them"):
        load_pretrained(write(config, w | {name: w[name] + 1}, file))


@pytest.mark.parametrize("table", ["pos_emb.z", "pos_emb.t", "modulation.deltas"])
def test_tables_of_another_function(table: str, write: Write) -> None:
    config, w, file = hub(2)
    name = f"hyena.backbone.layers.1.mixer.filter_fn.{table}"
    w[name] = w[name] * 1.001
    with pytest.raises(InputError, match=rf"{re.escape(name)} holds other values than follow from the configuration"):
        load_pretrained(write(config, w, file))


def test_half_precision(write: Write) -> None:
    """Tables too are rounded then, and the filter's sines are computed in float32 all the same."""
    config, w, file = hub(2)
    halves = {name: tensor.bfloat16() for name, tensor in w.items()}
    model = load_pretrained(write(config, halves, file), dtype=torch.bfloat16)
    wide = {name.removeprefix("hyena."): tensor.float() for name, tensor in halves.items()}
    with torch.no_grad():
        difference = model.hidden(IDS).float() - hidden(wide, IDS, 2, 0.05)
    assert difference.square().mean().sqrt() < 0.03


# options


def test_another_length_on_request(write: Write) -> None:
    """Positions are scaled by it, so what is computed is another function."""
    folder = write(*standalone(2))
    model, longer = load_pretrained(folder), load_pretrained(folder, l_max=2 * L)
    assert longer.context == 2 * L
    assert largest(longer.hidden(IDS), model.hidden(IDS)) > 1e-3
    config, w, file = standalone(2)
    config["layer"]["l_max"] = 2 * L
    with pytest.raises(InputError, match=r"pos_emb\.z has shape \[1, 24, 5\], the configuration makes it \[1, 48, 5\]"):
        load_pretrained(write(config, w, file))


def test_generates_on_request(write: Write) -> None:
    folder = write(*hub(2))
    with pytest.raises(InputError, match=r"block 0 \(Hyena\) keeps no state .* stateful=True"):
        load_pretrained(folder).generate(IDS, n_new=3)
    model = load_pretrained(folder, stateful=True)
    ids = model.generate(IDS, n_new=3).ids
    assert torch.equal(ids[:, 0], model.logits(IDS)[:, -1].argmax(-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": "low"}, "load_pretrained: shift is 'low', expected a number"),
        ({"l_max": 0}, "load_pretrained: l_max is 0, expected a whole number from 1"),
        ({"stateful": 1}, "stateful is 1, expected bool"),
        ({"shfit": 0.0}, "hyenadna has no option 'shfit'. Did you mean 'shift'?"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str, write: Write) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_pretrained(write(*hub(2)), **options)


# configurations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 8}, "vocab_size makes 8 tokens, expected 12: [CLS]"),
        ({"d_inner": 12}, "d_inner is 12, expected a multiple of d_model, which is 8"),
        ({"layer": {"_name_": "hyena", "l_max": L, "modulate": False}}, "layer: modulate is False"),
        ({"layer": {"_name_": "long-conv", "l_max": L}}, "layer: _name_ is 'long-conv'"),
        ({"layer": {"_name_": "hyena", "l_max": L, "bidirectional": True}}, "layer: bidirectional is True"),
        ({"layer": {"_name_": "hyena", "l_max": L, "depth": 3}}, "layer: unknown entry 'depth'"),
        ({"layer": {"_name_": "hyena"}}, "config.json lacks 'max_seq_len'"),
    ],
)
def test_configurations_that_cannot_be_built(change: dict[str, Any], message: str, write: Write) -> None:
    config, w, file = standalone(2)
    with pytest.raises(InputError, match=re.escape(message)):
        load_pretrained(write(config | change, w, file))


def test_the_length_may_stand_beside_the_layer(write: Write) -> None:
    config, w, file = standalone(2)
    config["l_max"] = config["layer"].pop("l_max")
    assert load_pretrained(write(config, w, file)).context == L


@pytest.mark.parametrize(
    ("tail", "d_model", "n_layer"), [("1k-seqlen-hf", 128, 2), ("d256-hf", 256, 2), ("1m-seqlen-hf", 256, 8)]
)
def test_known_checkpoints_have_the_parameters_that_are_said(tail: str, d_model: int, n_layer: int) -> None:
    known = next(checkpoint for checkpoint in HyenaDNA.checkpoints if checkpoint.name.endswith(tail))
    config = {"d_model": d_model, "n_layer": n_layer, "vocab_size": 12, "max_seq_len": known.context}
    config |= {"tie_word_embeddings": False}
    with torch.device("meta"):
        model, _ = HyenaDNA().plan(Published("", Settings(config, "config.json"), {}, {}))
    assert isinstance(model.backbone, Backbone)
    assert sum(parameter.numel() for parameter in model.parameters()) == known.parameters
