"""Caduceus-Ph and -PS in every published naming, against their formulas in a loop over time, without blocks of ours."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helixwave.checkpoint import load, save
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave.pretrained.families import Published
from helixwave.pretrained.settings import Settings
from helixwave_domains.genomics.embedding import embed
from helixwave_domains.genomics.language_model import DNALanguageModel
from helixwave_domains.genomics.models import SequenceClassifier
from helixwave_domains.genomics.published.caduceus import Caduceus
from torch import Tensor

D, N, N_LAYER = 8, 4, 3
Tensors, Config = dict[str, Tensor], dict[str, Any]
Write = Callable[..., Path]
COMPLEMENT = [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15]
COMPLEMENT_PLANT = [0, 1, 2, 6, 5, 4, 3, 7]
IDS = torch.tensor([[7, 8, 9, 10, 11, 6, 7, 7, 10, 8, 1, 9], [9, 9, 8, 10, 7, 8, 3, 7, 10, 11, 8, 9]])


# the formulas; names without what stands before `layers`, and without wrappers


def norm(x: Tensor, w: Tensors, name: str) -> Tensor:
    if f"{name}.bias" in w:
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * w[f"{name}.weight"]


def mamba(h: Tensor, w: Tensors) -> Tensor:
    T = h.shape[1]
    x, z = (h @ w["in_proj.weight"].T).chunk(2, dim=-1)
    before, taps = F.pad(x, (0, 0, 3, 0)), w["conv1d.weight"][:, 0]
    x = F.silu(sum(before[:, i : i + T] * taps[:, i] for i in range(4)) + w["conv1d.bias"])
    dt, B, C = (x @ w["x_proj.weight"].T).split([1, N, N], dim=-1)
    dt = F.softplus(dt @ w["dt_proj.weight"].T + w["dt_proj.bias"])[..., None]
    A, s, ys = -w["A_log"].exp(), 0.0, []
    for t in range(T):
        s = torch.exp(dt[:, t] * A) * s + dt[:, t] * B[:, t, None] * x[:, t, :, None]
        ys.append((s * C[:, t, None]).sum(-1) + w["D"] * x[:, t])
    return (torch.stack(ys, dim=1) * F.silu(z)) @ w["out_proj.weight"].T


def mixer(h: Tensor, w: Tensors, config: Config) -> Tensor:
    ahead = mamba(h, under("mamba_fwd.", w))
    if not config["bidirectional"]:
        return ahead
    own = under("mamba_rev.", w)
    if config["bidirectional_weight_tie"]:
        own |= {f"{name}.weight": w[f"mamba_fwd.{name}.weight"] for name in ("in_proj", "out_proj")}
    behind = mamba(h.flip(1), own).flip(1)
    return ahead * behind if config["bidirectional_strategy"] == "ew_multiply" else ahead + behind


def ph(w: Tensors, ids: Tensor, config: Config) -> Tensor:
    h, residual = w["embedding"][ids], 0.0
    for i in range(N_LAYER):
        residual = h + residual
        h = mixer(norm(residual, w, f"layers.{i}.norm"), under(f"layers.{i}.mixer.", w), config)
    return norm(h + residual, w, "norm_f")


def rc(x: Tensor) -> Tensor:
    return x.flip(1, 2)


def ps(w: Tensors, ids: Tensor, config: Config, complement: list[int]) -> tuple[Tensor, Tensor]:
    """modeling_rcps.py: both halves of the channels after the last norm."""
    x1, x2 = w["embedding"][ids], w["embedding"][torch.tensor(complement)[ids]].flip(-1)
    r1 = r2 = torch.zeros(())
    for i in range(N_LAYER):
        r1, r2 = x1 + r1, x2 + r2
        name, layer = f"layers.{i}.norm", under(f"layers.{i}.mixer.", w)
        if config["fused_add_norm"]:
            r1, r2 = r2, r1
        new1, new2 = norm(r1, w, name), rc(norm(rc(r2), w, name))
        x1, x2 = mixer(new1, layer, config), rc(mixer(rc(new2), layer, config))
    return norm(x1 + r1, w, "norm_f"), rc(norm(rc(x2 + r2), w, "norm_f"))


def logits(w: Tensors, ids: Tensor, config: Config, complement: list[int] = COMPLEMENT) -> Tensor:
    if not config["rcps"]:
        return ph(w, ids, config) @ w["embedding"].T
    h1, h2 = ps(w, ids, config, complement)
    return h1 @ w["embedding"].T + h2.flip(-1) @ w["embedding"][complement].T


def states(w: Tensors, ids: Tensor, config: Config, complement: list[int] = COMPLEMENT) -> Tensor:
    return torch.cat(ps(w, ids, config, complement), dim=-1) if config["rcps"] else ph(w, ids, config)


def both_strands(w: Tensors, ids: Tensor, config: Config) -> Tensor:
    """The mean of both, the other one's channels in their own order."""
    if config["rcps"]:
        h1, h2 = ps(w, ids, config, COMPLEMENT)
        return (h1 + h2.flip(-1)) / 2
    return (ph(w, ids, config) + ph(w, torch.tensor(COMPLEMENT)[ids].flip(1), config).flip(1)) / 2


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# the files


def settings(**changes: Any) -> Config:
    ssm = {"d_state": N, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 1e-3, "dt_max": 0.1, "bias": False}
    ssm |= {"dt_init": "random", "dt_scale": 1.0, "dt_init_floor": 1e-4, "conv_bias": True, "use_fast_path": True}
    config = {"model_type": "caduceus", "d_model": D, "n_layer": N_LAYER, "vocab_size": 16, "ssm_cfg": ssm}
    config |= {"pad_vocab_size_multiple": 8, "rms_norm": True, "fused_add_norm": True, "residual_in_fp32": False}
    config |= {"norm_epsilon": 1e-5, "bidirectional": True, "bidirectional_strategy": "add", "rcps": False}
    config |= {"bidirectional_weight_tie": True, "complement_map": {str(i): c for i, c in enumerate(COMPLEMENT)}}
    return config | changes


def weights(config: Config, n_token: int = 16) -> Tensors:
    own = {"in_proj.weight": (4 * D, D), "out_proj.weight": (D, 2 * D)}
    scan = {"conv1d.weight": (2 * D, 1, 4), "conv1d.bias": (2 * D,), "x_proj.weight": (1 + 2 * N, 2 * D)}
    scan |= {"dt_proj.weight": (2 * D, 1), "dt_proj.bias": (2 * D,), "A_log": (2 * D, N), "D": (2 * D,)}
    layer = {f"mixer.mamba_fwd.{name}": shape for name, shape in (own | scan).items()}
    if config["bidirectional"]:
        tied = config["bidirectional_weight_tie"]
        layer |= {f"mixer.mamba_rev.{name}": shape for name, shape in (scan if tied else own | scan).items()}
    parts = ("weight",) if config["rms_norm"] else ("weight", "bias")
    layer |= {f"norm.{part}": (D,) for part in parts}
    shapes = {f"layers.{i}.{name}": shape for i in range(N_LAYER) for name, shape in layer.items()}
    shapes |= {"embedding": (n_token, D)} | {f"norm_f.{part}": (D,) for part in parts}
    generator = torch.Generator().manual_seed(0)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def published(w: Tensors, config: Config, complement: list[int] = COMPLEMENT) -> Tensors:
    """Under the names of the published classes, with every alias, as in `pytorch_model.bin`."""
    is_ps = config["rcps"]
    embedding = "caduceus.backbone.embeddings.word_embeddings"
    tensors = {f"{embedding}.{'embedding.' * is_ps}weight": w["embedding"]}
    tensors[f"lm_head.{'lm_head.' * is_ps}weight"] = w["embedding"]
    if is_ps:
        tensors |= {f"{name}.complement_map": torch.tensor(complement) for name in (embedding, "lm_head")}
    wrapped_norms = is_ps and not config["fused_add_norm"]
    for name, tensor in w.items():
        if name != "embedding":
            name = name.replace("mixer.", "mixer.submodule.") if is_ps else name
            name = re.sub(r"(norm(_f)?)\.", r"\1.submodule.", name) if wrapped_norms else name
            tensors[f"caduceus.backbone.{name}"] = tensor
    if config["bidirectional"] and config["bidirectional_weight_tie"]:
        pattern = r"mamba_fwd\.(in|out)_proj"
        tensors |= {name.replace("fwd", "rev"): tensor for name, tensor in tensors.items() if re.search(pattern, name)}
    return tensors


def deduplicated(tensors: Tensors) -> Tensors:
    """As in safetensors of the hub: a tensor under its first name alone."""
    names = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), name)
    return {name: tensors[name] for name in names.values()}


KINDS = {
    "ph": {},
    "ph_unfused": {"fused_add_norm": False},
    "ps_fused": {"rcps": True},
    "ps_unfused": {"rcps": True, "fused_add_norm": False},
    "ph_untied": {"bidirectional_weight_tie": False},
    "ps_untied": {"rcps": True, "bidirectional_weight_tie": False},
    "ph_ew_multiply": {"bidirectional_strategy": "ew_multiply"},
    "ph_untied_ew_multiply": {"bidirectional_strategy": "ew_multiply", "bidirectional_weight_tie": False},
    "ps_ew_multiply": {"rcps": True, "bidirectional_strategy": "ew_multiply"},
    "ph_layer_norm": {"rms_norm": False},
    "ps_layer_norm": {"rcps": True, "rms_norm": False},
    "ps_unfused_layer_norm": {"rcps": True, "rms_norm": False, "fused_add_norm": False},
    "ph_unidirectional": {"bidirectional": False},
    "ps_unidirectional": {"rcps": True, "bidirectional": False},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def largest(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@every_kind
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "last.ckpt"])
def test_computes_what_was_published(kind: str, file: str, write: Write) -> None:
    config = settings(**KINDS[kind])
    w = weights(config)
    tensors = published(w, config)
    model = load_pretrained(write(config, deduplicated(tensors) if "safe" in file else tensors, file))
    assert isinstance(model, DNALanguageModel)
    with torch.no_grad():
        assert largest(model.hidden(IDS), states(w, IDS, config)) < 2e-5
        assert largest(model.logits(IDS), logits(w, IDS, config)) < 2e-5
    assert (model.equivariant, model.backbone.mirrored) == (config["rcps"], config["rcps"] and config["fused_add_norm"])
    assert (model.tokenizer.style, model.context, len(model.classes)) == ("caduceus", None, 16)


def test_the_flag_of_the_fused_norm_changes_the_function(write: Write) -> None:
    """Of PS; of Ph both paths are the same. Names of norms do not decide: only the configuration does."""
    fused, unfused = settings(rcps=True), settings(rcps=True, fused_add_norm=False)
    w = weights(fused)
    models = [
        load_pretrained(
            write(config, published(w, names), folder=f"{config['fused_add_norm']}{names['fused_add_norm']}")
        )
        for config in (fused, unfused)
        for names in (fused, unfused)
    ]
    for model, config in zip(models, (fused, fused, unfused, unfused), strict=True):
        assert largest(model.hidden(IDS), states(w, IDS, config)) < 2e-5
    assert largest(models[0].logits(IDS), models[2].logits(IDS)) > 1
    assert largest(states(w, IDS, fused), states(w, IDS, unfused)) > 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("ps")])
def test_reverse_complements_give_exactly_the_reverse(kind: str, write: Write) -> None:
    config = settings(**KINDS[kind])
    model = load_pretrained(write(config, published(weights(config), config)))
    other = torch.tensor(COMPLEMENT)[IDS].flip(1)
    assert torch.equal(rc(model.hidden(other)), model.hidden(IDS))
    assert torch.equal(model.logits(other).flip(1)[..., COMPLEMENT], model.logits(IDS))


@every_kind
def test_an_embedding_is_of_its_sequence_alone(kind: str, write: Write) -> None:
    config = settings(**KINDS[kind])
    model = load_pretrained(write(config, published(weights(config), config)))
    ids, lengths = torch.full((2, 20), 4), torch.tensor([9, 20])
    ids[0, :9], ids[1] = IDS[0, :9], torch.cat([IDS[1], IDS[0, :8]])
    with torch.no_grad():
        alone, batch = model.hidden(IDS[:1, :9]), model.hidden(ids, lengths)[:1, :9]
        assert largest(batch, alone) <= 1e-6
        ids[0, 9:] = 7
        assert torch.equal(model.hidden(ids, lengths)[:1, :9], batch)


@pytest.mark.parametrize("kind", ["ph", "ps_fused", "ps_unfused", "ph_untied"])
def test_embed_gives_the_means_of_the_formulas(kind: str, write: Write) -> None:
    """Of both strands, whatever else is embedded, in whatever order and case."""
    config = settings(**KINDS[kind])
    w = weights(config)
    model = load_pretrained(write(config, published(w, config)))
    records = [("a", "ACGTTGCAACG"), ("b", "ACNRA"), ("c", "GATTACAGATTACAGATTA"), ("d", "ttgcaacgtac")]
    codes = {"A": 7, "C": 8, "G": 9, "T": 10, "N": 11, "R": 6}
    ids = [torch.tensor([[codes[letter] for letter in letters.upper()]]) for _, letters in records]
    expected = torch.cat([both_strands(w, one, config).mean(1) for one in ids])
    order = [2, 0, 3, 1]
    (together,), (shuffled,) = (embed([records[i] for i in some], model, strand="both") for some in (range(4), order))
    assert largest(torch.from_numpy(together.pooled["mean"]), expected) < 2e-5
    for i, record in enumerate(records):
        (alone,) = embed([(record[0], record[1].lower())], model, strand="both")
        for other in (together.pooled["mean"][i], shuffled.pooled["mean"][order.index(i)]):
            assert largest(torch.from_numpy(other), torch.from_numpy(alone.pooled["mean"][0])) <= 1e-6


def test_case_does_not_matter(write: Write) -> None:
    config = settings(rcps=True)
    tokenizer = load_pretrained(write(config, published(weights(config), config))).tokenizer
    assert tokenizer.encode("acgtnACGTN", special=True).tolist() == [*range(7, 12), *range(7, 12), 1]


@pytest.mark.parametrize("kind", ["ph", "ps_fused", "ph_untied"])
def test_is_saved_and_loaded_as_ours(kind: str, write: Write, tmp_path: Path) -> None:
    config = settings(**KINDS[kind])
    model = load_pretrained(write(config, published(weights(config), config)))
    save(model, tmp_path / "ours")
    ours = load(tmp_path / "ours")
    assert torch.equal(ours.logits(IDS), model.logits(IDS))
    assert (ours.base_complement.tolist(), ours.tokenizer.style) == (COMPLEMENT, "caduceus")


def test_plantcaduceus(write: Write) -> None:
    """Eight rows, lower case, and names without the class that is around them elsewhere."""
    config = settings(rcps=True, vocab_size=8, residual_in_fp32=True)
    config["complement_map"] = {str(i): c for i, c in enumerate(COMPLEMENT_PLANT[:7])}
    w = weights(config, n_token=8)
    tensors = published(w, config, COMPLEMENT_PLANT)
    bare = {name.removeprefix("caduceus."): t for name, t in tensors.items() if name.startswith("caduceus.")}
    for number, names in enumerate((tensors, bare)):
        model = load_pretrained(write(config, names, "pytorch_model.bin", folder=str(number)))
        ids = torch.from_numpy(model.tokenizer.encode("ACGTtgcaNRacc"))[None]
        assert ids.tolist() == [[3, 4, 5, 6, 6, 5, 4, 3, 2, 2, 3, 4, 4]]
        assert largest(model.logits(ids), logits(w, ids, config, COMPLEMENT_PLANT)) < 2e-5
        assert (model.tokenizer.style, len(model.classes)) == ("plantcaduceus", 8)


# classification heads


@pytest.mark.parametrize("kind", ["ph", "ps_fused", "ps_unfused"])
@pytest.mark.parametrize("conjoin", [{}, {"conjoin_eval": True}, {"conjoin_train": True}])
def test_a_classification_head(kind: str, conjoin: Config, write: Write, tmp_path: Path) -> None:
    """PS scores both strands and takes the mean of the logits; Ph one strand, or conjoined both."""
    config = settings(**KINDS[kind], **conjoin)
    w = weights(config)
    score = torch.randn(3, D, generator=torch.Generator().manual_seed(1))
    tensors = {name: t for name, t in published(w, config).items() if not name.startswith("lm_head")}
    model = load_pretrained(write(config, tensors | {"score.weight": score}, "pytorch_model.bin"))
    assert isinstance(model, SequenceClassifier)
    if config["rcps"]:
        h1, h2 = ps(w, IDS, config, COMPLEMENT)
        pooled = (h1.mean(1) + rc(h2).mean(1)) / 2
    else:
        pooled = ph(w, IDS, config).mean(1)
        if conjoin:
            pooled = (pooled + ph(w, torch.tensor(COMPLEMENT)[IDS].flip(1), config).mean(1)) / 2
    with torch.no_grad():
        assert largest(model(IDS), pooled @ score.T) < 2e-5
    save(model, tmp_path / "ours")
    assert torch.equal(load(tmp_path / "ours")(IDS), model(IDS))
    assert model.classes == ["0", "1", "2"]


def classifier(**changes: Any) -> tuple[Config, Tensors, str]:
    config = settings(**changes)
    tensors = {name: t for name, t in published(weights(config), config).items() if not name.startswith("lm_head")}
    return config, tensors | {"score.weight": torch.ones(2, D)}, "pytorch_model.bin"


def test_names_of_classes(write: Write) -> None:
    assert load_pretrained(write(*classifier(id2label={"0": "no", "1": "yes"}))).classes == ["no", "yes"]
    with pytest.raises(InputError, match="id2label has 1 entries, but the head has 2 classes"):
        load_pretrained(write(*classifier(id2label={"0": "no"})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling_strategy": "last"}, "pooling_strategy is 'last', but this version can only build 'mean'"),
        ({"complement_map": {"0": 1, "1": 0}}, "but a classifier can only be built with that of the letters"),
    ],
)
def test_classifiers_that_cannot_be_built(change: Config, message: str, write: Write) -> None:
    with pytest.raises(InputError, match=message):
        load_pretrained(write(*classifier(**change)))


# what does not fit


@pytest.mark.parametrize("kind", ["ph", "ps_fused", "ps_unfused", "ph_untied"])
def test_a_tensor_less_or_more_or_of_another_shape(kind: str, write: Write) -> None:
    config = settings(**KINDS[kind])
    tensors = published(weights(config), config)
    optional = () if "untied" in kind else ("mamba_rev.in_proj.weight", "mamba_rev.out_proj.weight")
    needed = [name for name in tensors if not name.startswith("lm_head") and not name.endswith(optional)]
    # but the embedding, without which what stands before all names is not known
    for name in needed[1::9]:
        with pytest.raises(InputError, match=rf"lacks tensor '{re.escape(name)}'$"):
            load_pretrained(write(config, {other: tensors[other] for other in tensors if other != name}))
    with pytest.raises(InputError, match=r"has the unexpected tensor 'caduceus\.backbone\.more'$"):
        load_pretrained(write(config, tensors | {"caduceus.backbone.more": torch.ones(1)}))
    with pytest.raises(InputError, match=rf"{re.escape(needed[-1])} has shape \[3\], the configuration makes it \["):
        load_pretrained(write(config, tensors | {needed[-1]: torch.ones(3)}))


def test_tied_tensors_that_differ(write: Write) -> None:
    config = settings()
    tensors = published(weights(config), config)
    name = "caduceus.backbone.layers.1.mixer.mamba_rev.in_proj.weight"
    with pytest.raises(
        InputError, match=r"mamba_rev\.in_proj\.weight differs from .*fwd.*, but the configuration ties"
    ):
        load_pretrained(write(config, tensors | {name: tensors[name] + 1}))
    with pytest.raises(InputError, match=r"lm_head\.weight differs from .*, but the configuration ties them"):
        load_pretrained(write(config, tensors | {"lm_head.weight": torch.ones(16, D)}))


def test_an_untied_head(write: Write) -> None:
    config = settings(tie_word_embeddings=False)
    w = weights(config)
    tensors = published(w, config) | {"lm_head.weight": w["embedding"].flip(0)}
    model = load_pretrained(write(config, tensors))
    assert largest(model.logits(IDS), ph(w, IDS, config) @ w["embedding"].flip(0).T) < 2e-5


def test_complements_that_disagree(write: Write) -> None:
    config = settings(rcps=True)
    tensors = published(weights(config), config)
    name = "caduceus.backbone.embeddings.word_embeddings.complement_map"
    with pytest.raises(InputError, match=r"word_embeddings\.complement_map holds other values than follow from"):
        load_pretrained(write(config, tensors | {name: torch.arange(16)}))
    with pytest.raises(InputError, match=r"lm_head\.complement_map differs from .*, but the configuration ties them"):
        load_pretrained(write(config, tensors | {"lm_head.complement_map": torch.arange(16)}))
    with pytest.raises(InputError, match=r"complement_map has dtype torch\.float32, expected whole numbers"):
        load_pretrained(write(config, tensors | {name: torch.arange(16.0)}))


@pytest.mark.parametrize("given", [None, {str(i): c for i, c in enumerate(COMPLEMENT[:12])}])
def test_a_complement_that_is_short_or_absent(given: Config | None, write: Write) -> None:
    """Extended by ids that are their own complement, as published; absent it is that of the letters."""
    config = settings(rcps=True, complement_map=given, vocab_size=12)
    model = load_pretrained(write(config, published(weights(config), config)))
    assert model.base_complement.tolist() == COMPLEMENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 9, "pad_vocab_size_multiple": 1}, "vocab_size makes 9 tokens, expected 12: [CLS]"),
        (
            {"bidirectional_strategy": "concat"},
            "bidirectional_strategy is 'concat', but this version can only build 'add'",
        ),
        ({"ssm_cfg": {"bias": True}}, "ssm_cfg: bias is True"),
        ({"ssm_cfg": {"conv_bias": False}}, "ssm_cfg: conv_bias is False"),
        ({"ssm_cfg": {"d_stat": 4}}, "ssm_cfg: unknown entry 'd_stat'. Did you mean 'd_state'?"),
        ({"complement_map": {str(i): i for i in range(17)}}, "complement_map has 17 entries, but there are 16 tokens"),
        ({"complement_map": {"0": "A"}}, "complement is ['A', 1,"),
        ({"complement_map": {"0": 5}}, "complement is [5, 1,"),
    ],
)
def test_configurations_that_cannot_be_built(change: Config, message: str, write: Write) -> None:
    config = settings(**change)
    with pytest.raises(InputError, match=re.escape(message)):
        load_pretrained(write(config, published(weights(config), config)))


@pytest.mark.parametrize(
    ("tail", "d_model", "n_layer"),
    [("ps_seqlen-131k_d_model-256_n_layer-16", 256, 16), ("d_model-118_n_layer-4_lr-8e-3", 118, 4), ("l20", 384, 20)],
)
def test_known_checkpoints_have_the_parameters_that_are_said(tail: str, d_model: int, n_layer: int) -> None:
    known = next(checkpoint for checkpoint in Caduceus.checkpoints if checkpoint.name.endswith(tail))
    config = {"d_model": d_model, "n_layer": n_layer, "vocab_size": 7 if tail == "l20" else 12}
    with torch.device("meta"):
        model, _ = Caduceus().plan(Published("", Settings(config, "config.json"), {}, {}))
    assert sum(parameter.numel() for parameter in model.parameters()) == known.parameters
