"""Caduceus-Ph and Caduceus-PS, PlantCaduceus among them."""

from typing import Any, NamedTuple

import torch
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Checkpoint, Family, Plan, Published
from helixwave.pretrained.mamba import block_options
from helixwave.pretrained.rules import Rule, rule, same_names
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.vocabulary import head_rules, label_names

from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.published.layout import (
    drop_metrics,
    n_class,
    padded_vocabulary,
    prefix_before,
    vocabulary_size,
)
from helixwave_domains.genomics.tokenizer import Tokenizer

_EMBEDDING, _EMBEDDING_PS = (f"embeddings.word_embeddings.{name}weight" for name in ("", "embedding."))
# of PlantCaduceus, whose embedding has eight rows
_PLANT = ("[PAD]", "[MASK]", "[UNK]", "a", "c", "g", "t")
_131K, _1K = "kuleshov-group/caduceus-{}_seqlen-131k_d_model-256_n_layer-16", "kuleshov-group/caduceus-{}_seqlen-1k"


class Caduceus(Family):
    """Caduceus: Schiff et al., "Caduceus: Bi-Directional Equivariant Long-Range DNA Sequence Modeling", 2024.

    PS (`rcps` in the configuration) becomes a model with `equivariant=True`; with `fused_add_norm`, with which all
    published ones were trained, over a mirrored backbone, which is another function. A checkpoint with `score.weight`
    becomes a sequence classifier. A Ph one reads one strand, or with `conjoin_train` or `conjoin_eval` in the
    configuration both, whose logits it averages in training too.
    """

    marks = ("mamba_fwd.x_proj.weight", "mamba_fwd.dt_proj.weight")
    checkpoints = (
        *(Checkpoint(_131K.format(kind), 7_725_312, 131_072) for kind in ("ph", "ps")),
        *(Checkpoint(f"{_1K.format(kind)}_d_model-256_n_layer-4_lr-8e-3", 1_934_592, 1_024) for kind in ("ph", "ps")),
        *(Checkpoint(f"{_1K.format(kind)}_d_model-118_n_layer-4_lr-8e-3", 470_702, 1_024) for kind in ("ph", "ps")),
        Checkpoint("kuleshov-group/PlantCaduceus_l20", 20_870_016, 512),
        Checkpoint("kuleshov-group/PlantCaduceus_l24", 43_614_720, 512),
        Checkpoint("kuleshov-group/PlantCaduceus_l28", 112_107_264, 512),
        Checkpoint("kuleshov-group/PlantCaduceus_l32", 225_354_752, 512),
    )

    def plan(self, published: Published) -> Plan:
        drop_metrics(published.tensors)
        settings = published.settings
        is_plant = vocabulary_size(settings) == len(_PLANT) + 1
        vocabulary = padded_vocabulary(settings, _PLANT if is_plant else VOCABULARY)
        layout = _layout(published)
        complement = _complement(settings, vocabulary)
        config: dict[str, Any] = {"backbone": _backbone(settings, rcps=layout.rcps)}
        tie = bool(settings.get("tie_word_embeddings", True))
        if layout.score is None:
            style = "plantcaduceus" if is_plant else "caduceus"
            config["model"] = {"name": "dna_language_model", "style": style, "tie": tie}
            config["model"] |= {"equivariant": layout.rcps, "complement": complement}
            config["classes"] = vocabulary
        else:
            both = layout.rcps or any(settings.get(key, False) for key in ("conjoin_eval", "conjoin_train"))
            settings.expect("pooling_strategy", "mean")
            _expect_letters(settings, vocabulary, complement)
            config["model"] = {"name": "sequence_classifier", "vocabulary": vocabulary, "bias": False}
            config["model"] |= {"equivariant": both}
            config["classes"] = label_names(settings, n_class(published, layout.score))
        model = build_model(config, where=f"{settings.where}: ")
        return Plan(model, _rules(layout, model, complement, tie=tie))


class _Layout(NamedTuple):
    """Names that differ between files: before everything in the backbone, of embedding and heads, and behind a norm."""

    rcps: bool
    inner: str
    embedding: str
    norm: str
    lm_head: str
    score: str | None


def _layout(published: Published) -> _Layout:
    rcps = bool(published.settings.get("rcps", False))
    embedding = _EMBEDDING_PS if rcps else _EMBEDDING
    inner = prefix_before(published.tensors, embedding, default="caduceus.backbone.")
    outer = inner.removesuffix("backbone.").removesuffix("caduceus.")
    score = f"{outer}score.weight"
    wrapped = any(name.endswith(("norm.submodule.weight", "norm_f.submodule.weight")) for name in published.tensors)
    return _Layout(
        rcps,
        inner,
        inner + embedding,
        # in a wrapper or not, which depends on how the file was made and not on what is computed
        "submodule." if wrapped else "",
        f"{outer}lm_head.lm_head.weight" if rcps else f"{outer}lm_head.weight",
        score if score in published.tensors else None,
    )


def _backbone(settings: Settings, *, rcps: bool) -> dict[str, Any]:
    return {
        "d_model": settings.size("d_model"),
        "n_layer": settings.size("n_layer"),
        "blocks": [_block(settings)],
        "norm": "rms" if settings.get("rms_norm", True) else "layer",
        "norm_eps": settings.number("norm_epsilon", 1e-5),
        # what an absent entry stands for in the published class
        "mirrored": rcps and bool(settings.get("fused_add_norm", True)),
    }


def _block(settings: Settings) -> dict[str, Any]:
    ssm = settings.section("ssm_cfg")
    options = block_options(ssm)
    if not settings.get("bidirectional", True):
        return {"name": "mamba", **options}
    ssm.expect("bias", False)
    ssm.expect("conv_bias", True)
    settings.expect("bidirectional_strategy", "add", "ew_multiply", None)
    return {
        "name": "bimamba",
        "combine": settings.get("bidirectional_strategy") or "add",
        "tied": bool(settings.get("bidirectional_weight_tie", True)),
        **{name: value for name, value in options.items() if name not in {"bias", "conv_bias"}},
    }


def _complement(settings: Settings, vocabulary: list[str]) -> list[Any]:
    """For each id that of the complementary base: the values in their order, as published, then each id its own."""
    order = list(settings.section("complement_map").values.values())
    if len(order) > len(vocabulary):
        raise InputError(
            f"{settings.where}: complement_map has {len(order)} entries, but there are {len(vocabulary)} tokens"
        )
    return order + list(range(len(order), len(vocabulary))) if order else Tokenizer(vocabulary).complement


def _expect_letters(settings: Settings, vocabulary: list[str], complement: list[Any]) -> None:
    if complement != Tokenizer(vocabulary).complement:
        raise InputError(
            f"{settings.where}: complement_map is {complement}, but a classifier can only be built with that of the "
            f"letters, {Tokenizer(vocabulary).complement}"
        )


def _rules(layout: _Layout, model: Any, complement: list[int], *, tie: bool) -> list[Rule]:
    rules = [rule(layout.embedding, "embedding.weight")]
    if layout.score is None:
        rules += head_rules(layout.lm_head, layout.embedding, tie=tie)
    else:
        rules.append(rule(layout.score, "head.weight"))
    if layout.rcps:
        table, of_head = (f"{name.rsplit('.', 2)[0]}.complement_map" for name in (layout.embedding, layout.lm_head))
        rules.append(Rule(table, values=torch.tensor(complement)))
        rules += [Rule(of_head, same_as=table)] * (layout.score is None)
    rules += same_names(model.backbone.norm, f"{layout.inner}norm_f.{layout.norm}", "backbone.norm.")
    for i, (norm, block) in enumerate(zip(model.backbone.norms, model.backbone.blocks, strict=True)):
        layer = f"{layout.inner}layers.{i}."
        rules += same_names(norm, f"{layer}norm.{layout.norm}", f"backbone.norms.{i}.")
        rules += _mixer_rules(block, f"{layer}mixer.{'submodule.' * layout.rcps}", f"backbone.blocks.{i}.")
    return rules


def _mixer_rules(block: Any, theirs: str, ours: str) -> list[Rule]:
    if not hasattr(block, "mamba_rev"):
        return same_names(block, f"{theirs}mamba_fwd.", ours)
    shared = ("in_proj.weight", "out_proj.weight") if block.tied else ()
    return [
        *same_names(block, theirs, ours),
        *(Rule(f"{theirs}mamba_rev.{name}", same_as=f"{theirs}mamba_fwd.{name}") for name in shared),
    ]
