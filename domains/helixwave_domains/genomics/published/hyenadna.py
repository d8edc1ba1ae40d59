"""HyenaDNA: the standalone code, Lightning checkpoints of its repository, and the folders "-hf" on the hub."""

from typing import Any, NamedTuple

from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Checkpoint, Family, Plan, Published
from helixwave.pretrained.rules import Rule, rule, same_names
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.vocabulary import head_rules, label_names
from torch import Tensor

from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.published.layout import drop_metrics, n_class, padded_vocabulary, prefix_before

_EMBEDDING = "backbone.embeddings.word_embeddings.weight"
_HEADS = ("head.output_transform.weight", "decoder.0.output_transform.weight")
# what a layer's entries must be, as nothing else is published
_FIXED: dict[str, Any] = {"num_inner_mlps": 2, "modulate": True, "use_bias": True, "bias": True, "normalized": False}
_FIXED |= {"bidirectional": False, "num_heads": 1, "inner_factor": 1, "num_blocks": 1, "outer_mixing": False}
_FIXED |= {"post_order_ffn": False, "activation": "id"}
_SIZES = {"l_max", "order", "short_filter_order", "filter_order", "emb_dim"}
# for the start of training, the optimiser or the choice of a kernel; `local_order` is read by nothing
_IRRELEVANT = {"_name_", "w", "lr", "wd", "lr_pos_emb", "modulation_lr", "local_order", "dropout", "filter_dropout"}
_IRRELEVANT |= {"fused_fft_conv", "fused_bias_fc", "jit_filter", "return_state", "filter_cls"}


class HyenaDNA(Family):
    """HyenaDNA: Nguyen et al., "HyenaDNA: Long-Range Genomic Sequence Modeling at Single Nucleotide Resolution", 2023.

    With a classification head (`head.output_transform`, in Lightning's files `decoder.0.output_transform`) a checkpoint
    becomes a sequence classifier, which takes the mean over valid positions; any other one a language model.

    Options:
        shift: floor of the filters' window. 0.05 (the default) in the standalone code, on the hub and for the published
            weights; 0.0 in the training code of the same repository.
        l_max: another length of the filters than the configuration's. Positions are scaled by it, so the model computes
            another function than the published one; the tables of positions in the file are not looked at then.
        stateful: True for a model that generates base by base, from windows of `l_max` positions in every layer. False
            (the default) is for whole sequences, as in the published code.
    """

    marks = ("filter_fn.implicit_filter.0.weight", _EMBEDDING)
    options = frozenset({"shift", "l_max", "stateful"})
    # with a head of its own each
    checkpoints = (
        Checkpoint("LongSafari/hyenadna-tiny-1k-seqlen-hf", 438_144, 1_026),
        Checkpoint("LongSafari/hyenadna-tiny-1k-seqlen-d256-hf", 1_645_184, 1_026),
        Checkpoint("LongSafari/hyenadna-tiny-16k-seqlen-d128-hf", 438_144, 16_386),
        Checkpoint("LongSafari/hyenadna-small-32k-seqlen-hf", 3_281_664, 32_770),
        Checkpoint("LongSafari/hyenadna-medium-160k-seqlen-hf", 6_554_624, 160_002),
        Checkpoint("LongSafari/hyenadna-medium-450k-seqlen-hf", 6_554_624, 450_002),
        Checkpoint("LongSafari/hyenadna-large-1m-seqlen-hf", 6_554_624, 1_000_002),
    )

    def plan(self, published: Published) -> Plan:
        drop_metrics(published.tensors)
        settings = published.settings
        names = _names(published.tensors)
        vocabulary = padded_vocabulary(settings, VOCABULARY)
        config: dict[str, Any] = {"backbone": _backbone(published)}
        context = config["backbone"]["blocks"][0]["l_max"]
        tie = bool(settings.get("tie_word_embeddings", True)) or names.head is not None
        dropout = settings.number("embed_dropout", 0.1)
        if names.head is None:
            style = "hyenadna_hf" if names.outer.endswith("hyena.") else "hyenadna"
            config["model"] = {"name": "dna_language_model", "style": style, "context": context}
            config["model"] |= {"tie": tie, "dropout": dropout}
            config["classes"] = vocabulary
        else:
            config["model"] = {"name": "sequence_classifier", "vocabulary": vocabulary}
            config["classes"] = label_names(settings, n_class(published, names.head))
        model = build_model(config, where=f"{settings.where}: ")
        return Plan(model, _rules(published, names, model, tie=tie))


class _Names(NamedTuple):
    """How the tensors of a file are called: before `backbone`, inside mixers and networks, and the heads."""

    outer: str
    mixer: str
    mlp: str
    lm_head: str
    head: str | None


def _names(tensors: dict[str, Tensor]) -> _Names:
    outer = prefix_before(tensors, _EMBEDDING, default="")
    # wrapped for gradient checkpointing
    mixer, mlp = (
        f"{part}.layer." if any(f".{part}.layer." in name for name in tensors) else f"{part}."
        for part in ("mixer", "mlp")
    )
    head = next((name for name in tensors if name.endswith(_HEADS)), None)
    return _Names(outer, mixer, mlp, f"{outer.removesuffix('hyena.')}lm_head.weight", head)


def _backbone(published: Published) -> dict[str, Any]:
    settings = published.settings
    d_model = settings.size("d_model")
    d_inner = settings.size("d_inner", default=4 * d_model)
    if d_inner % d_model:
        raise InputError(f"{settings.where}: d_inner is {d_inner}, expected a multiple of d_model, which is {d_model}")
    return {
        "d_model": d_model,
        "n_layer": 2 * settings.size("n_layer"),
        "blocks": [_hyena(published), {"name": "mlp", "expand": d_inner // d_model}],
        "norm": "layer",
        "norm_eps": settings.number("layer_norm_epsilon", 1e-5),
        "dropout": settings.number("resid_dropout", 0.0),
    }


def _hyena(published: Published) -> dict[str, Any]:
    settings, asked = published.settings, Settings(published.options, "load_pretrained")
    # the standalone configuration has a section for it, the hub's names the same entries beside the others
    layer = settings.section("layer") if "layer" in settings else settings
    if layer is not settings:
        layer.expect("_name_", "hyena")
        layer.expect_keys({*_FIXED, *_SIZES, *_IRRELEVANT})
    for key, value in _FIXED.items():
        layer.expect(key, value)
    length = layer if "l_max" in layer else settings
    return {
        "name": "hyena",
        "l_max": asked.size("l_max", default=length.size("max_seq_len", "l_max")),
        "order": layer.size("order", "hyena_order", default=2),
        "d_short": layer.size("short_filter_order", default=3),
        "d_filter": layer.size("filter_order", default=64),
        "d_position": layer.size("emb_dim", default=5),
        "shift": asked.number("shift", 0.05),
        "stateful": asked.get("stateful", False),
    }


def _rules(published: Published, names: _Names, model: Any, *, tie: bool) -> list[Rule]:
    embedding, backbone = f"{names.outer}{_EMBEDDING}", model.backbone
    rules = [rule(embedding, "embedding.weight")]
    rules += head_rules(names.lm_head, embedding, tie=tie)
    if names.head is not None:
        rules += same_names(model.head, names.head.removesuffix("weight"), "head.")
    rules += same_names(backbone.norm, f"{names.outer}backbone.ln_f.", "backbone.norm.")
    tables = _tables(published, backbone.blocks[0].filter_fn)
    for i in range(0, len(backbone.blocks), 2):
        theirs = f"{names.outer}backbone.layers.{i // 2}."
        rules += _mixer_rules(backbone.blocks[i], f"{theirs}{names.mixer}", f"backbone.blocks.{i}.", tables)
        rules += same_names(backbone.blocks[i + 1], f"{theirs}{names.mlp}", f"backbone.blocks.{i + 1}.")
        for norm, ours in (("norm1", i), ("norm2", i + 1)):
            rules += same_names(backbone.norms[ours], f"{theirs}{norm}.", f"backbone.norms.{ours}.")
    return rules


def _tables(published: Published, filter_fn: Any) -> dict[str, Tensor]:
    """What a filter's tables hold; without those of positions where they are of another length than is asked for."""
    tables = {"modulation.deltas": -filter_fn.deltas[None, None]}
    if "l_max" not in published.options:
        positions = filter_fn.positions(filter_fn.l_max)[None]
        return tables | {"pos_emb.z": positions, "pos_emb.t": positions[..., :1]}
    for name in [name for name in published.tensors if name.endswith(("pos_emb.z", "pos_emb.t"))]:
        del published.tensors[name]
    return tables


def _mixer_rules(block: Any, theirs: str, ours: str, tables: dict[str, Tensor]) -> list[Rule]:
    # one tensor under three names
    sine, *aliases = (f"filter_fn.implicit_filter.{i}.freq" for i in (1, 3, 5))
    return [
        *same_names(block, theirs, ours, besides=aliases),
        *(Rule(theirs + alias, same_as=theirs + sine) for alias in aliases),
        *(Rule(f"{theirs}filter_fn.{name}", values=values) for name, values in tables.items()),
    ]
