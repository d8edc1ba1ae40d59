"""xLSTM-large, the layout of xLSTM-7B: of the package `xlstm`, and of transformers."""

from typing import Any

from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Checkpoint, Family, Plan, Published
from helixwave.pretrained.rules import Place, Rule, rule
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.vocabulary import embedding_name, head_rules, numbered

_GATES = ("igate_preact", "fgate_preact")
_PARTS = ("weight", "bias")
# ours, theirs, and what theirs is where it is not said
_FACTORS = (("qk_factor", "qk_dim_factor", 0.5), ("v_factor", "v_dim_factor", 1.0))


class XLSTMLarge(Family):
    """xLSTM-large (xLSTM-7B): Beck et al., "xLSTM 7B: A Recurrent LLM for Fast and Efficient Inference", 2025.

    Both weight modes are read, `single` and `fused`, whichever the tensors have.
    """

    marks = ("mlstm_layer.multihead_norm.weight", "norm_ffn.weight")
    checkpoints = (Checkpoint("NX-AI/xLSTM-7b", 6_865_424_896),)

    def plan(self, published: Published) -> Plan:
        settings = published.settings
        _expect_known(settings)
        n_block, n_head = settings.size("num_blocks", "num_hidden_layers"), settings.size("num_heads")
        d_model = settings.size("embedding_dim", "hidden_size")
        tie = bool(settings.get("tie_word_embeddings", False))
        config = {
            "model": {
                "name": "token_model",
                "tie": tie,
                "logit_cap": settings.get("output_logit_soft_cap", 30.0),
            },
            "backbone": {
                "d_model": d_model,
                "n_layer": 2 * n_block,
                "blocks": [_mlstm(settings, d_model, n_head), feedforward(settings, d_model)],
                "norm_eps": 1e-6,
            },
            "classes": numbered(settings.size("vocab_size")),
        }
        model = build_model(config, where=f"{settings.where}: ")
        # the authors' name and that of transformers
        second = "hidden_size" in settings
        embedding = embedding_name(published, "embedding.weight", "backbone.embeddings.weight", second=second)
        rules = [
            rule(embedding, "embedding.weight"),
            *head_rules("lm_head.weight", embedding, tie=tie),
            rule("backbone.out_norm.weight", "backbone.norm.weight"),
        ]
        fused = any(name.endswith("mlstm_layer.qkv_opreact.weight") for name in published.tensors)
        for i in range(n_block):
            rules += _block_rules(i, fused=fused)
        return Plan(model, rules)


def _expect_known(settings: Settings) -> None:
    settings.expect("use_bias", False)
    settings.expect("add_out_norm", True)
    # the epsilons of the heads' norms and of the recurrence are fixed in our block
    settings.expect("norm_eps", 1e-6)
    settings.expect("eps", 1e-6)


def _mlstm(settings: Settings, d_model: int, n_head: int) -> dict[str, Any]:
    factors = {ours: settings.number(name, default) for ours, name, default in _FACTORS}
    for (_, name, _), factor in zip(_FACTORS, factors.values(), strict=True):
        if int(factor * d_model) < n_head or int(factor * d_model) % n_head:
            raise InputError(f"{settings.where}: {name} is {factor}, which does not divide among {n_head} heads")
    return {"name": "mlstm_large", "n_head": n_head, **factors, "cap": settings.number("gate_soft_cap", 15.0)}


def feedforward(settings: Settings, d_model: int) -> dict[str, Any]:
    """The block of the network; its inner channels, rounded as published, are written down as they are."""
    # the two published programs differ in the fourth digit of the default
    factor = settings.number("ffn_proj_factor", 2.667 if "hidden_size" in settings else 2.6667)
    multiple = settings.size("ffn_round_up_to_multiple_of", default=64)
    d_inner = int((factor * d_model + multiple - 1) // multiple * multiple)
    return {"name": "swiglu", "expand": d_inner / d_model, "multiple": 1}


def _block_rules(i: int, *, fused: bool) -> list[Rule]:
    theirs, first, second = f"backbone.blocks.{i}", 2 * i, 2 * i + 1
    layer, mlstm, ffn = f"{theirs}.mlstm_layer", f"backbone.blocks.{first}", f"backbone.blocks.{second}"
    return [
        rule(f"{theirs}.norm_mlstm.weight", f"backbone.norms.{first}.weight"),
        rule(f"{layer}.multihead_norm.weight", f"{mlstm}.multihead_norm.weight"),
        rule(f"{layer}.out_proj.weight", f"{mlstm}.out_proj.weight"),
        *(_fused_rules(layer, mlstm) if fused else _single_rules(layer, mlstm)),
        rule(f"{theirs}.norm_ffn.weight", f"backbone.norms.{second}.weight"),
        *feedforward_rules(f"{theirs}.ffn", ffn, fused=fused),
    ]


def feedforward_rules(theirs: str, ours: str, *, fused: bool = False) -> list[Rule]:
    """Rules for a published network (SwiGLU) behind the recurrence; `fused`: its first two matrices are one."""
    gate, up = (Place(f"{ours}.in_proj.weight", part, 2) for part in range(2))
    return [
        *(
            [rule(f"{theirs}.proj_up_gate_z.weight", gate, up)]
            if fused
            else [rule(f"{theirs}.proj_up_gate.weight", gate), rule(f"{theirs}.proj_up.weight", up)]
        ),
        rule(f"{theirs}.proj_down.weight", f"{ours}.out_proj.weight"),
    ]


def _single_rules(layer: str, mlstm: str) -> list[Rule]:
    gates = [f"{gate}.{name}" for gate in _GATES for name in _PARTS]
    names = ["q.weight", "k.weight", "v.weight", "ogate_preact.weight", *gates]
    return [rule(f"{layer}.{name}", f"{mlstm}.{name}") for name in names]


def _fused_rules(layer: str, mlstm: str) -> list[Rule]:
    projections = [f"{mlstm}.{name}.weight" for name in ("q", "k", "v", "ogate_preact")]
    return [
        rule(f"{layer}.qkv_opreact.weight", *projections),
        *(rule(f"{layer}.ifgate_preact.{name}", *(f"{mlstm}.{gate}.{name}" for gate in _GATES)) for name in _PARTS),
    ]
