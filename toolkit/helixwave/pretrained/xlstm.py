"""xLSTM block stacks of the first paper, as the package `xlstm` saves them."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from helixwave.backbone import Backbone
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave.pretrained.families import Family, Plan, Published
from helixwave.pretrained.rules import Place, Rule, plus_one, rule
from helixwave.pretrained.settings import Settings
from helixwave.pretrained.vocabulary import head_rules, numbered
from helixwave.registry import check_backbone

Layout = str
LAYOUTS = ("vanilla", "cuda")
_MLSTM = ("proj_up.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight", "learnable_skip", "proj_down.weight")
# it is the parameter called `fgate` that the published layer adds to the input gate, and `igate` to the forget gate
_GATES = {"fgate": "igate", "igate": "fgate", "zgate": "zgate", "ogate": "ogate"}


class XLSTMBlockStack(Family):
    """xLSTM (xLSTMBlockStack, xLSTMLMModel): Beck et al., "xLSTM: Extended Long Short-Term Memory", 2024.

    A stack with an embedding becomes a token model, one without becomes a backbone. Option `slstm_backend`: `vanilla`
    or `cuda`, the layout of the recurrent weights.
    """

    marks = ("xlstm_norm.weight",)
    options = frozenset({"slstm_backend"})

    def plan(self, published: Published) -> Plan:
        settings = published.settings
        settings.expect("bias", False, None)
        settings.expect("add_post_blocks_norm", True)
        kinds = _kinds(settings)
        blocks = [block for kind in kinds for block in _blocks(settings, kind)]
        backbone: dict[str, Any] = {
            "d_model": settings.size("embedding_dim"),
            "n_layer": len(blocks),
            "blocks": blocks,
            "norm": "layer",
            "norm_bias": False,
        }
        if not any(name.startswith("xlstm_block_stack.") for name in published.tensors):
            check_backbone(f"{settings.where}: backbone", backbone)
            return Plan(Backbone(**backbone), _stack_rules(published, kinds, "", ""))
        tie = bool(settings.get("tie_weights", False))
        model = build_model(
            {
                "model": {"name": "token_model", "tie": tie},
                "backbone": backbone,
                "classes": numbered(settings.size("vocab_size")),
            },
            where=f"{settings.where}: ",
        )
        rules = _stack_rules(published, kinds, "xlstm_block_stack.", "backbone.")
        rules.append(rule("token_embedding.weight", "embedding.weight"))
        return Plan(model, rules + head_rules("lm_head.weight", "token_embedding.weight", tie=tie))


def _kinds(settings: Settings) -> list[str]:
    """`mlstm` or `slstm` for each residual block, as `slstm_at` says."""
    n_block = settings.size("num_blocks", default=1)
    places = settings.get("slstm_at") or []
    if settings.get("mlstm_block") is None or places == "all":
        return ["slstm"] * n_block
    if not isinstance(places, list) or any(not isinstance(i, int) or not 0 <= i < n_block for i in places):
        raise InputError(f"{settings.where}: slstm_at is {places!r}, expected 'all' or a list of 0 to {n_block - 1}")
    return ["slstm" if i in places else "mlstm" for i in range(n_block)]


def _blocks(settings: Settings, kind: str) -> list[dict[str, Any]]:
    """Ours for one published block: the recurrence, and for an sLSTM the network behind it."""
    d_model = settings.size("embedding_dim")
    section = settings.section(f"{kind}_block")
    layer = section.section(kind)
    if kind == "mlstm":
        block = {
            "name": "mlstm",
            "n_head": layer.size("num_heads", default=4),
            "d_block": layer.size("qkv_proj_blocksize", default=4),
            "d_conv": layer.size("conv1d_kernel_size", default=4),
        }
        return [block | _inner(layer, d_model, 2.0)]
    layer.expect("function", "slstm")
    layer.expect("group_norm_weight", True)
    d_conv = 0 if layer.get("conv1d_kernel_size") == 0 else layer.size("conv1d_kernel_size", default=4)
    recurrence = {"name": "slstm", "n_head": layer.size("num_heads", default=4), "d_conv": d_conv}
    if "feedforward" in section and section.get("feedforward") is None:
        return [recurrence]
    feedforward = section.section("feedforward")
    feedforward.expect("act_fn", "gelu")
    feedforward.expect("ff_type", "ffn_gated")
    feedforward.expect("bias", False)
    return [recurrence, {"name": "geglu"} | _inner(feedforward, d_model, 1.3)]


def _inner(settings: Settings, d_model: int, factor: float) -> dict[str, Any]:
    """The inner channels, rounded as published and then written down as they are."""
    multiple = settings.size("round_proj_up_to_multiple_of", default=64)
    turn: Callable[[float], int] = math.ceil if settings.get("round_proj_up_dim_up", True) else math.floor
    d_inner = multiple * turn(settings.number("proj_factor", factor) * d_model / multiple)
    return {"expand": d_inner / d_model, "multiple": 1}


def _stack_rules(published: Published, kinds: list[str], theirs: str, ours: str) -> list[Rule]:
    rules = [rule(f"{theirs}post_blocks_norm.weight", f"{ours}norm.weight", convert=plus_one)]
    place = 0
    for i, kind in enumerate(kinds):
        block = f"{theirs}blocks.{i}"
        rules += _branch_rules(f"{block}.xlstm_norm", ours, place)
        if kind == "mlstm":
            rules += _mlstm_rules(f"{block}.xlstm", f"{ours}blocks.{place}", _d_conv(published, kind))
        else:
            rules += _slstm_rules(published, f"{block}.xlstm", f"{ours}blocks.{place}")
            if len(_blocks(published.settings, kind)) == 2:
                place += 1
                rules += _branch_rules(f"{block}.ffn_norm", ours, place)
                rules += [
                    rule(f"{block}.ffn.{name}.weight", f"{ours}blocks.{place}.{name}.weight")
                    for name in ("proj_up", "proj_down")
                ]
        place += 1
    return rules


def _branch_rules(norm: str, ours: str, place: int) -> list[Rule]:
    return [rule(f"{norm}.weight", f"{ours}norms.{place}.weight", convert=plus_one)]


def _d_conv(published: Published, kind: str) -> int:
    width: int = _blocks(published.settings, kind)[0]["d_conv"]
    return width


def _mlstm_rules(theirs: str, ours: str, d_conv: int) -> list[Rule]:
    cell = [f"{gate}.{name}" for gate in ("igate", "fgate") for name in ("weight", "bias")]
    return [
        *(rule(f"{theirs}.{name}", f"{ours}.{name}") for name in _MLSTM),
        *_conv_rules(theirs, ours, d_conv),
        *(rule(f"{theirs}.mlstm_cell.{name}", f"{ours}.{name}") for name in cell),
        rule(f"{theirs}.mlstm_cell.outnorm.weight", f"{ours}.outnorm.weight", convert=plus_one),
    ]


def _conv_rules(theirs: str, ours: str, d_conv: int) -> list[Rule]:
    names = ("weight", "bias") if d_conv else ()
    return [rule(f"{theirs}.conv1d.conv.{name}", f"{ours}.conv1d.{name}") for name in names]


def _slstm_rules(published: Published, theirs: str, ours: str) -> list[Rule]:
    recurrence = _blocks(published.settings, "slstm")[0]
    n_head, d_head = recurrence["n_head"], published.settings.size("embedding_dim") // recurrence["n_head"]
    layout = _layout(published, f"{theirs}.slstm_cell._recurrent_kernel_", n_head, d_head)
    return [
        *_conv_rules(theirs, ours, recurrence["d_conv"]),
        *slstm_rules(theirs, ours, layout=layout, n_head=n_head, d_head=d_head),
    ]


def slstm_rules(theirs: str, ours: str, *, layout: Layout, n_head: int, d_head: int) -> list[Rule]:
    """Rules for all of a published sLSTM layer but its convolution.

    Args:
        theirs: the layer's name in the file.
        ours: the block's name.
        layout: of the recurrent weights, `vanilla` or `cuda`.
        n_head: heads.
        d_head: channels of each.
    """
    cell = f"{theirs}.slstm_cell"
    return [
        *(rule(f"{theirs}.{name}.weight", f"{ours}.{gate}.weight") for name, gate in _GATES.items()),
        Rule(f"{cell}._recurrent_kernel_", (Place(f"{ours}.R"),), *_kernel_form(layout, n_head, d_head)),
        Rule(f"{cell}._bias_", (Place(f"{ours}.bias"),), *_bias_form(layout, n_head, d_head)),
        rule(f"{theirs}.group_norm.weight", f"{ours}.group_norm.weight", convert=plus_one),
    ]


def _layout(published: Published, kernel: str, n_head: int, d_head: int) -> Layout:
    """The backend whose layout the recurrent weights are in.

    That of the bias `[4 d_model]` cannot be seen, but it goes with that of the kernel, whose shape has the gates on the
    second axis (vanilla) or on the last (cuda). What is said must agree with it.
    """
    settings, found = published.settings, published.tensors.get(kernel)
    written = settings.section("slstm_block").section("slstm").get("backend")
    said = published.options.get("slstm_backend") or settings.get("slstm_backend") or written
    if said is not None and said not in LAYOUTS:
        raise InputError(f"{settings.where}: slstm_backend is {said!r}, expected 'vanilla' or 'cuda'")
    shapes = {layout: _kernel_form(layout, n_head, d_head)[1] for layout in LAYOUTS}
    seen = next((layout for layout in LAYOUTS if found is not None and tuple(found.shape) == shapes[layout]), None)
    if said and seen and said != seen:
        raise InputError(
            f"{published.where}: slstm_backend is {said!r}, whose {kernel} has shape {list(shapes[said])}; here it has "
            f"{list(shapes[seen])}, that of {seen!r}. Pass slstm_backend={seen!r} if the bias is in that layout too"
        )
    return said or seen or LAYOUTS[0]


Form = tuple[Callable[[Tensor], Tensor], tuple[int, ...]]


def _kernel_form(layout: Layout, n_head: int, d_head: int) -> Form:
    """To ours `[gate, head, from, to]`, and the published shape."""
    if layout == "vanilla":  # [head, (gate to), from]
        return lambda R: R.unflatten(1, (4, d_head)).permute(1, 0, 3, 2), (n_head, 4 * d_head, d_head)
    return lambda R: R.unflatten(2, (4, d_head)).permute(2, 0, 1, 3), (n_head, d_head, 4 * d_head)


def _bias_form(layout: Layout, n_head: int, d_head: int) -> Form:
    """To ours `[gate, head, to]`, and the published shape."""
    shape = (4 * n_head * d_head,)
    if layout == "vanilla":
        return lambda bias: bias.view(4, n_head, d_head), shape
    return lambda bias: bias.view(n_head, 4, d_head).transpose(0, 1), shape
