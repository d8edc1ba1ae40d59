"""Checkpoints of TiRex, as Lightning saved them."""

from typing import Any

from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Checkpoint, Family, Plan, Published
from helixwave.pretrained.rules import Rule, rule, same_names
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.xlstm import slstm_rules
from helixwave.pretrained.xlstm_large import feedforward, feedforward_rules

_PARAMETERS = 35_291_200


class TiRexZero(Family):
    """TiRex: Auer et al., "TiRex: Zero-Shot Forecasting ... with Enhanced In-Context Learning", 2025.

    The sLSTM is computed in float32, where the published CPU code rounds its inputs, weights and states to bfloat16.
    What goes into the forget gate is not cut at 15 as it is there: that changes the gate by less than 4e-7.
    """

    marks = ("slstm_layer.slstm_cell._recurrent_kernel_", "input_patch_embedding.hidden_layer.weight")
    checkpoints = (
        Checkpoint("NX-AI/TiRex", _PARAMETERS, 2_048),
        Checkpoint("NX-AI/TiRex-1.1-gifteval", _PARAMETERS, 2_048),
    )

    def plan(self, published: Published) -> Plan:
        arguments = published.settings.section("model_config")
        block = arguments.section("block_kwargs")
        _expect_known(arguments, block)
        d_model, n_head = block.size("embedding_dim"), block.size("num_heads")
        n_block = block.size("num_blocks")
        config = {
            "model": {
                "name": "tirex",
                "patch": arguments.size("input_patch_size"),
                "context": published.settings.size("train_ctx_len"),
                "d_hidden": arguments.size("input_ff_dim"),
            },
            "backbone": {
                "d_model": d_model,
                "n_layer": 2 * n_block,
                "blocks": [{"name": "slstm", "n_head": n_head, "d_conv": 0}, feedforward(block, d_model)],
                "norm_eps": 1e-6,
            },
            "classes": _levels(arguments),
        }
        model = build_model(config, where=f"{published.settings.where}: ")
        return Plan(model, _rules(published, model, n_block, n_head, d_model // n_head))


def _expect_known(arguments: Settings, block: Settings) -> None:
    arguments.expect("output_patch_size", arguments.size("input_patch_size"))
    for key, value in (("all_slstm", True), ("use_bias", False), ("add_out_norm", True), ("norm_eps", 1e-6)):
        block.expect(key, value)


def _levels(arguments: Settings) -> list[str]:
    levels: Any = arguments.get("quantiles")
    if not isinstance(levels, list) or not all(isinstance(level, float) for level in levels):
        raise InputError(f"{arguments.where}: quantiles is {levels!r}, expected a list of levels such as 0.1")
    return [f"{level:g}" for level in levels]


def _rules(published: Published, model: Any, n_block: int, n_head: int, d_head: int) -> list[Rule]:
    # the first release kept the stack in a module of its own
    stack = "block_stack." if any(name.startswith("block_stack.") for name in published.tensors) else ""
    rules = [rule(f"{stack}out_norm.weight", "backbone.norm.weight")]
    for i in range(n_block):
        theirs, first, second = f"{stack}blocks.{i}", 2 * i, 2 * i + 1
        rules += [
            rule(f"{theirs}.norm_slstm.weight", f"backbone.norms.{first}.weight"),
            *slstm_rules(
                f"{theirs}.slstm_layer", f"backbone.blocks.{first}", layout="cuda", n_head=n_head, d_head=d_head
            ),
            rule(f"{theirs}.norm_ffn.weight", f"backbone.norms.{second}.weight"),
            *feedforward_rules(f"{theirs}.ffn", f"backbone.blocks.{second}"),
        ]
    for name in ("input_patch_embedding.", "output_patch_embedding."):
        rules += same_names(model.get_submodule(name[:-1]), name, name)
    return rules
