"""Mamba-1 and Mamba-2 as published by their authors (state-spaces) and in the layout of transformers."""

import math
from typing import Any, NamedTuple

from helixwave.checkpoint import build_model
from helixwave.pretrained.families import Checkpoint, Family, Plan, Published
from helixwave.pretrained.rules import Rule, rule, same_names
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.vocabulary import embedding_name, head_rules, numbered

# what is for the start of training or for the choice of a kernel, and changes nothing that is computed
_START = {"dt_min", "dt_max", "dt_init_floor", "conv_init", "chunk_size", "use_mem_eff_path", "A_init_range"}
_START_1 = {"dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path"}


class Outline(NamedTuple):
    """What both layouts say, each in its own words."""

    d_model: int
    n_layer: int
    n_token: int
    tie: bool
    rms: bool
    eps: float
    block: dict[str, Any]


class Mamba(Family):
    """Mamba-1: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023."""

    # models of images and of video have the same mixers, in no backbone
    marks = ("mixer.x_proj.weight", "mixer.dt_proj.weight", "backbone.layers.0.norm.weight")
    checkpoints = (
        Checkpoint("state-spaces/mamba-130m", 129_135_360),
        Checkpoint("state-spaces/mamba-370m", 371_516_416),
        Checkpoint("state-spaces/mamba-790m", 793_204_224),
        Checkpoint("state-spaces/mamba-1.4b", 1_372_178_432),
        Checkpoint("state-spaces/mamba-2.8b", 2_768_345_600),
    )

    def plan(self, published: Published) -> Plan:
        settings = published.settings
        if _is_transformers(settings):
            settings.expect("hidden_act", "silu", "swish")
            rank = settings.get("time_step_rank", "auto")
            block = {
                "d_state": settings.size("state_size", default=16),
                "d_conv": settings.size("conv_kernel", default=4),
                "expand": settings.size("expand", default=2),
                "dt_rank": None if rank == "auto" else rank,
                "bias": settings.get("use_bias", False),
                "conv_bias": settings.get("use_conv_bias", True),
            }
            return _plan(published, _transformers(settings, {"name": "mamba", **block}, tie=True))
        block = block_options(settings.section("ssm_cfg"))
        return _plan(published, _state_spaces(settings, {"name": "mamba", **block}))


class Mamba2(Family):
    """Mamba-2: Dao and Gu, "Transformers are SSMs", 2024."""

    marks = ("mixer.dt_bias", "mixer.A_log", "mixer.norm.weight")
    checkpoints = (
        Checkpoint("state-spaces/mamba2-130m", 128_989_632),
        Checkpoint("state-spaces/mamba2-370m", 368_346_624),
        Checkpoint("state-spaces/mamba2-780m", 780_161_280),
        Checkpoint("state-spaces/mamba2-1.3b", 1_343_757_312),
        Checkpoint("state-spaces/mamba2-2.7b", 2_702_599_680),
    )

    def plan(self, published: Published) -> Plan:
        settings = published.settings
        if _is_transformers(settings):
            settings.expect("hidden_act", "silu", "swish")
            settings.expect("layer_norm_epsilon", 1e-5)
            block = {
                "d_state": settings.size("state_size", default=128),
                "d_conv": settings.size("conv_kernel", default=4),
                "expand": settings.size("expand", default=2),
                "d_head": settings.size("head_dim", default=64),
                "n_group": settings.size("n_groups", default=8),
                "bias": settings.get("use_bias", False),
                "conv_bias": settings.get("use_conv_bias", True),
                "dt_limit": _limits(settings.get("time_step_limit")),
            }
            return _plan(published, _transformers(settings, {"name": "mamba2", **block}, tie=False))
        options = settings.section("ssm_cfg")
        options.expect("layer", "Mamba2")
        options.expect("d_ssm", None)
        options.expect("rmsnorm", True)
        options.expect("norm_before_gate", False)
        renamed = {name: name for name in ("d_state", "d_conv", "expand", "bias", "conv_bias", "dt_limit")}
        renamed |= {"headdim": "d_head", "ngroups": "n_group", "D_has_hdim": "skip_per_channel"}
        block = {"d_head": 64, **_renamed(options, renamed, {*_START, "d_ssm", "rmsnorm", "norm_before_gate"})}
        block["dt_limit"] = _limits(block.get("dt_limit"))
        return _plan(published, _state_spaces(settings, {"name": "mamba2", **block}))


def block_options(options: Settings) -> dict[str, Any]:
    """The arguments of our block `mamba` in an `ssm_cfg` of Mamba-1."""
    options.expect("layer", "Mamba1")
    renamed = {name: name for name in ("d_state", "d_conv", "expand", "dt_rank", "bias", "conv_bias")}
    block = _renamed(options, renamed, _START_1)
    if block.get("dt_rank") == "auto":
        del block["dt_rank"]
    return block


def _is_transformers(settings: Settings) -> bool:
    # files that were converted hold the entries of both; those of transformers are complete then
    return "hidden_size" in settings


def _transformers(settings: Settings, block: dict[str, Any], *, tie: bool) -> Outline:
    return Outline(
        d_model=settings.size("hidden_size"),
        n_layer=settings.size("num_hidden_layers"),
        n_token=settings.size("vocab_size"),
        tie=bool(settings.get("tie_word_embeddings", tie)),
        rms=True,
        eps=settings.number("layer_norm_epsilon", 1e-5),
        block=block,
    )


def _state_spaces(settings: Settings, block: dict[str, Any]) -> Outline:
    settings.expect("d_intermediate", 0, None)
    settings.expect("attn_layer_idx", [], None)
    multiple = settings.size("pad_vocab_size_multiple", default=1)
    return Outline(
        d_model=settings.size("d_model"),
        n_layer=settings.size("n_layer"),
        n_token=math.ceil(settings.size("vocab_size") / multiple) * multiple,
        tie=bool(settings.get("tie_embeddings", True)),
        rms=bool(settings.get("rms_norm", True)),
        eps=settings.number("norm_epsilon", 1e-5),
        block=block,
    )


def _renamed(options: Settings, names: dict[str, str], ignored: set[str]) -> dict[str, Any]:
    """A block's options under our names; what concerns its start or its kernels alone is left out."""
    options.expect_keys({*names, *ignored, "layer"})
    return {ours: options.get(name) for name, ours in names.items() if name in options}


def _limits(limits: Any) -> Any:
    return None if limits in ([0, math.inf], (0, math.inf)) else limits


def _plan(published: Published, outline: Outline) -> Plan:
    config = {
        "model": {"name": "token_model", "tie": outline.tie},
        "backbone": {
            "d_model": outline.d_model,
            "n_layer": outline.n_layer,
            "blocks": [outline.block],
            "norm": "rms" if outline.rms else "layer",
            "norm_eps": outline.eps,
        },
        "classes": numbered(outline.n_token),
    }
    model = build_model(config, where=f"{published.settings.where}: ")
    # transformers' name; its first files had the authors'
    second = _is_transformers(published.settings)
    embedding = embedding_name(published, "backbone.embedding.weight", "backbone.embeddings.weight", second=second)
    rules = [rule(embedding, "embedding.weight"), *head_rules("lm_head.weight", embedding, tie=outline.tie)]
    backbone: Any = model.backbone
    rules += same_names(backbone.norm, "backbone.norm_f.", "backbone.norm.")
    for i, (norm, block) in enumerate(zip(backbone.norms, backbone.blocks, strict=True)):
        rules += _layer_rules(norm, block, i)
    return Plan(model, rules)


def _layer_rules(norm: Any, block: Any, i: int) -> list[Rule]:
    published = f"backbone.layers.{i}"
    # the blocks keep the published names
    return [
        *same_names(norm, f"{published}.norm.", f"backbone.norms.{i}."),
        *same_names(block, f"{published}.mixer.", f"backbone.blocks.{i}."),
    ]
