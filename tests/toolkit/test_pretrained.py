"""Published weights: every layout, written by hand with its names and shapes, and whatever is wrong with a file."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import pytest
import torch
import torch.nn.functional as F
from helixwave.backbone import Backbone
from helixwave.checkpoint import load, save
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave.pretrained.families import FAMILIES, Family, Plan, Published
from helixwave.pretrained.hub import cached
from helixwave.pretrained.rules import Rule, rule
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

D, N, V, W, T = 16, 4, 8, 4, 7
IDS = torch.tensor([[1, 5, 0, 3, 3, 7, 2], [6, 1, 1, 4, 0, 2, 5]])
Tensors = dict[str, Tensor]


class Layout(NamedTuple):
    config: dict[str, Any]
    tensors: Tensors
    expected: Callable[[Tensors], Tensor]
    """The logits of `IDS`, or what a stack or layer makes of `inputs()`, from the formulas that were published."""


def draw(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def inputs() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def write(folder: Path, config: dict[str, Any] | None, tensors: Tensors) -> Path:
    folder.mkdir(exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # [B, T, C], causal, depthwise
    return F.conv1d(F.pad(x.mT, (W - 1, 0)), weight, bias, groups=len(weight)).mT


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


# Mamba-1

MAMBA_MIXER = {
    "in_proj.weight": (4 * D, D),
    "conv1d.weight": (2 * D, 1, W),
    "conv1d.bias": (2 * D,),
    "x_proj.weight": (1 + 2 * N, 2 * D),
    "dt_proj.weight": (2 * D, 1),
    "dt_proj.bias": (2 * D,),
    "A_log": (2 * D, N),
    "D": (2 * D,),
    "out_proj.weight": (D, 2 * D),
}


def mamba_shapes(embedding: str, mixer: dict[str, tuple[int, ...]], n_layer: int = 2) -> dict[str, tuple[int, ...]]:
    layers: dict[str, tuple[int, ...]] = {}
    for i in range(n_layer):
        layers[f"backbone.layers.{i}.norm.weight"] = (D,)
        layers |= {f"backbone.layers.{i}.mixer.{name}": shape for name, shape in mixer.items()}
    return {f"backbone.{embedding}.weight": (V, D), **layers, "backbone.norm_f.weight": (D,)}


def mamba_mixer(x: Tensor, w: Tensors) -> Tensor:
    u, z = F.linear(x, w["in_proj.weight"]).chunk(2, dim=-1)
    u = F.silu(conv(u, w["conv1d.weight"], w["conv1d.bias"]))
    dt, B, C = F.linear(u, w["x_proj.weight"]).split([1, N, N], dim=-1)
    delta = F.softplus(F.linear(dt, w["dt_proj.weight"], w["dt_proj.bias"]))
    h, ys = torch.zeros(2, 2 * D, N), []
    for t in range(T):
        d = delta[:, t, :, None]
        h = torch.exp(d * -w["A_log"].exp()) * h + d * B[:, t, None] * u[:, t, :, None]
        ys.append((h * C[:, t, None]).sum(-1) + w["D"] * u[:, t])
    return F.linear(torch.stack(ys, dim=1) * F.silu(z), w["out_proj.weight"])


def mamba_logits(mixer: Callable[[Tensor, Tensors], Tensor]) -> Callable[[Tensors], Tensor]:
    def logits(w: Tensors) -> Tensor:
        embedding = w.get("backbone.embedding.weight", w.get("backbone.embeddings.weight"))
        assert embedding is not None
        x = embedding[IDS]
        for i in range(2):
            layer = under(f"backbone.layers.{i}.", w)
            x = x + mixer(rms(x, layer["norm.weight"]), under("mixer.", layer))
        return F.linear(rms(x, w["backbone.norm_f.weight"]), w.get("lm_head.weight", embedding))

    return logits


STATE_SPACES = {"d_model": D, "n_layer": 2, "vocab_size": 6, "pad_vocab_size_multiple": 8, "rms_norm": True}
STATE_SPACES |= {"residual_in_fp32": True, "fused_add_norm": True}
TRANSFORMERS = {"hidden_size": D, "num_hidden_layers": 2, "vocab_size": V, "layer_norm_epsilon": 1e-5, "expand": 2}
TRANSFORMERS |= {"state_size": N, "conv_kernel": W, "hidden_act": "silu"}


def mamba_state_spaces() -> Layout:
    tensors = draw(mamba_shapes("embedding", MAMBA_MIXER))
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"].clone()
    return Layout({**STATE_SPACES, "ssm_cfg": {"d_state": N}}, tensors, mamba_logits(mamba_mixer))


def mamba_transformers() -> Layout:
    config = {**TRANSFORMERS, "model_type": "mamba", "time_step_rank": 1}
    return Layout(config, draw(mamba_shapes("embeddings", MAMBA_MIXER)), mamba_logits(mamba_mixer))


# Mamba-2, 4 heads of 8 channels in 2 groups

MAMBA2_MIXER = {
    "in_proj.weight": (4 * D + 4 * N + 4, D),
    "conv1d.weight": (2 * D + 4 * N, 1, W),
    "conv1d.bias": (2 * D + 4 * N,),
    "dt_bias": (4,),
    "A_log": (4,),
    "D": (4,),
    "norm.weight": (2 * D,),
    "out_proj.weight": (D, 2 * D),
}


def mamba2_mixer(x: Tensor, w: Tensors) -> Tensor:
    z, mixed, dt = F.linear(x, w["in_proj.weight"]).split([2 * D, 2 * D + 4 * N, 4], dim=-1)
    mixed = F.silu(conv(mixed, w["conv1d.weight"], w["conv1d.bias"]))
    u, B, C = mixed.split([2 * D, 2 * N, 2 * N], dim=-1)
    u, B, C = u.unflatten(-1, (4, 8)), *(m.unflatten(-1, (2, N)).repeat_interleave(2, dim=2) for m in (B, C))
    dt = F.softplus(dt + w["dt_bias"]).clamp(0.2, 0.9)
    h, ys = torch.zeros(2, 4, 8, N), []
    for t in range(T):
        d = dt[:, t, :, None, None]
        h = torch.exp(d * -w["A_log"].exp()[:, None, None]) * h + d * u[:, t, ..., None] * B[:, t, :, None]
        ys.append((h * C[:, t, :, None]).sum(-1) + w["D"][:, None] * u[:, t])
    y = torch.stack(ys, dim=1).flatten(-2) * F.silu(z)
    y = rms(y.unflatten(-1, (2, D)), torch.ones(D)).flatten(-2) * w["norm.weight"]
    return F.linear(y, w["out_proj.weight"])


def mamba2_state_spaces() -> Layout:
    ssm = {"layer": "Mamba2", "d_state": N, "headdim": 8, "ngroups": 2, "dt_limit": [0.2, 0.9]}
    config = {**STATE_SPACES, "ssm_cfg": ssm, "d_intermediate": 0, "attn_layer_idx": [], "tie_embeddings": True}
    return Layout(config, draw(mamba_shapes("embedding", MAMBA2_MIXER)), mamba_logits(mamba2_mixer))


def mamba2_transformers() -> Layout:
    config = {**TRANSFORMERS, "model_type": "mamba2", "head_dim": 8, "num_heads": 4, "n_groups": 2}
    config |= {"time_step_limit": [0.2, 0.9], "tie_word_embeddings": False}
    shapes = {**mamba_shapes("embeddings", MAMBA2_MIXER), "lm_head.weight": (V, D)}
    return Layout(config, draw(shapes), mamba_logits(mamba2_mixer))


# xLSTM block stacks: an mLSTM with 2 heads, an sLSTM with 2 heads and its network

XLSTM = {
    "xlstm_norm.weight": (D,),
    "xlstm.proj_up.weight": (128, D),
    "xlstm.q_proj.weight": (16, 4, 4),
    "xlstm.k_proj.weight": (16, 4, 4),
    "xlstm.v_proj.weight": (16, 4, 4),
    "xlstm.learnable_skip": (64,),
    "xlstm.conv1d.conv.weight": (64, 1, W),
    "xlstm.conv1d.conv.bias": (64,),
    "xlstm.mlstm_cell.igate.weight": (2, 192),
    "xlstm.mlstm_cell.igate.bias": (2,),
    "xlstm.mlstm_cell.fgate.weight": (2, 192),
    "xlstm.mlstm_cell.fgate.bias": (2,),
    "xlstm.mlstm_cell.outnorm.weight": (64,),
    "xlstm.proj_down.weight": (D, 64),
}
SLSTM = {
    "xlstm_norm.weight": (D,),
    **{f"xlstm.{gate}.weight": (2, D // 2, D // 2) for gate in ("fgate", "igate", "zgate", "ogate")},
    "xlstm.conv1d.conv.weight": (D, 1, W),
    "xlstm.conv1d.conv.bias": (D,),
    "xlstm.slstm_cell._recurrent_kernel_": (2, 4 * D // 2, D // 2),
    "xlstm.slstm_cell._bias_": (4 * D,),
    "xlstm.group_norm.weight": (D,),
    "ffn_norm.weight": (D,),
    "ffn.proj_up.weight": (128, D),
    "ffn.proj_down.weight": (D, 64),
}


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], 1 + weight)


def head_norm(x: Tensor, eps: float = 1e-5) -> Tensor:  # [..., H, P] -> [..., H P]
    return F.layer_norm(x, x.shape[-1:], eps=eps).flatten(-2)


def blockwise(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("btni,noi->btno", x.unflatten(-1, (len(weight), -1)), weight).flatten(-2)


def memory(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:  # [B, T, H, P], gates [B, T, H]
    decay = F.logsigmoid(f).cumsum(1)
    D_ = (decay[:, :, None] - decay[:, None] + i[:, None]).permute(0, 3, 1, 2)
    D_ = D_.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), -torch.inf).exp()
    S = torch.einsum("bthk,bshk->bhts", q, k) * k.shape[-1] ** -0.5 * D_
    return torch.einsum("bhts,bshv->bthv", S / (S.sum(-1, keepdim=True).abs().clamp(min=1) + 1e-6), v)


def mlstm_v1(x: Tensor, w: Tensors) -> Tensor:
    u, z = F.linear(x, w["proj_up.weight"]).chunk(2, dim=-1)
    c = F.silu(conv(u, w["conv1d.conv.weight"], w["conv1d.conv.bias"]))
    q, k, v = (blockwise(a, w[f"{name}_proj.weight"]) for a, name in ((c, "q"), (c, "k"), (u, "v")))
    i, f = (
        F.linear(torch.cat([q, k, v], dim=-1), w[f"mlstm_cell.{gate}.weight"], w[f"mlstm_cell.{gate}.bias"])
        for gate in ("igate", "fgate")
    )
    h = memory(*(part.unflatten(-1, (2, -1)) for part in (q, k, v)), i, f)
    h = head_norm(h) * (1 + w["mlstm_cell.outnorm.weight"]) + w["learnable_skip"] * c
    return F.linear(h * F.silu(z), w["proj_down.weight"])


def slstm_v1(x: Tensor, w: Tensors) -> Tensor:
    """With the layout of the vanilla cell, and the parameter `fgate` in the input gate, as published."""
    c = F.silu(conv(x, w["conv1d.conv.weight"], w["conv1d.conv.bias"]))
    order = ((c, "fgate"), (c, "igate"), (x, "zgate"), (x, "ogate"))
    gates = torch.stack([blockwise(a, w[f"{name}.weight"]).unflatten(-1, (2, -1)) for a, name in order], dim=2)
    R = w["slstm_cell._recurrent_kernel_"].unflatten(1, (4, D // 2))  # [head, gate, to, from]
    bias = w["slstm_cell._bias_"].view(4, 2, D // 2)
    h = cell = n = torch.zeros(2, 2, D // 2)
    hs = []
    for t in range(T):
        i, f, z, o = (gates[:, t] + torch.einsum("bni,ngoi->bgno", h, R) + bias).unbind(1)
        cell = f.sigmoid() * cell + i.exp() * z.tanh()
        n = f.sigmoid() * n + i.exp()
        h = o.sigmoid() * cell / n
        hs.append(h)
    return head_norm(torch.stack(hs, dim=1)) * (1 + w["group_norm.weight"])


def stack_v1(x: Tensor, w: Tensors) -> Tensor:
    first, second = (under(f"blocks.{i}.", w) for i in range(2))
    x = x + mlstm_v1(layer_norm(x, first["xlstm_norm.weight"]), under("xlstm.", first))
    x = x + slstm_v1(layer_norm(x, second["xlstm_norm.weight"]), under("xlstm.", second))
    gate, up = F.linear(layer_norm(x, second["ffn_norm.weight"]), second["ffn.proj_up.weight"]).chunk(2, dim=-1)
    return layer_norm(x + F.linear(F.gelu(gate) * up, second["ffn.proj_down.weight"]), w["post_blocks_norm.weight"])


def logits_v1(w: Tensors) -> Tensor:
    x = stack_v1(w["token_embedding.weight"][IDS], under("xlstm_block_stack.", w))
    return F.linear(x, w["lm_head.weight"])


def xlstm_v1() -> Layout:
    blocks = {f"blocks.{i}.{name}": shape for i, kind in enumerate((XLSTM, SLSTM)) for name, shape in kind.items()}
    stack = {**blocks, "post_blocks_norm.weight": (D,)}
    shapes = {f"xlstm_block_stack.{name}": shape for name, shape in stack.items()}
    config = {"vocab_size": V, "embedding_dim": D, "num_blocks": 2, "context_length": 32, "slstm_at": [1]}
    config |= {"mlstm_block": {"mlstm": {"num_heads": 2}}}
    config |= {"slstm_block": {"slstm": {"num_heads": 2, "backend": "vanilla"}, "feedforward": {"proj_factor": 1.3}}}
    return Layout(config, draw({**shapes, "token_embedding.weight": (V, D), "lm_head.weight": (V, D)}), logits_v1)


def to_cuda_cell(tensors: Tensors) -> Tensors:
    """The same weights as the CUDA cell keeps them."""

    def turned(name: str, tensor: Tensor) -> Tensor:
        if name.endswith("_recurrent_kernel_"):
            return tensor.unflatten(1, (4, -1)).permute(0, 3, 1, 2).flatten(2)
        return tensor.view(4, 2, -1).transpose(0, 1).flatten() if name.endswith("cell._bias_") else tensor

    return {name: turned(name, tensor) for name, tensor in tensors.items()}


def xlstm_v1_cuda() -> Layout:
    config, tensors, _ = xlstm_v1()
    del config["slstm_block"]["slstm"]["backend"]
    config["slstm_backend"] = "cuda"
    return Layout(config, to_cuda_cell(tensors), lambda _: logits_v1(tensors))


def xlstm_v1_stack() -> Layout:
    config, tensors, _ = xlstm_v1()
    return Layout(config, under("xlstm_block_stack.", tensors), lambda w: stack_v1(inputs(), w))


# xLSTM-large: 2 heads, 4 and 8 channels each

LARGE = {
    "norm_mlstm.weight": (D,),
    "mlstm_layer.q.weight": (D // 2, D),
    "mlstm_layer.k.weight": (D // 2, D),
    "mlstm_layer.v.weight": (D, D),
    "mlstm_layer.ogate_preact.weight": (D, D),
    "mlstm_layer.igate_preact.weight": (2, D),
    "mlstm_layer.igate_preact.bias": (2,),
    "mlstm_layer.fgate_preact.weight": (2, D),
    "mlstm_layer.fgate_preact.bias": (2,),
    "mlstm_layer.multihead_norm.weight": (D,),
    "mlstm_layer.out_proj.weight": (D, D),
    "norm_ffn.weight": (D,),
    "ffn.proj_up_gate.weight": (64, D),
    "ffn.proj_up.weight": (64, D),
    "ffn.proj_down.weight": (D, 64),
}


def large_layer(x: Tensor, w: Tensors) -> Tensor:
    q, k, v = (F.linear(x, w[f"{name}.weight"]).unflatten(-1, (2, -1)) for name in ("q", "k", "v"))
    i, f = (
        15 * torch.tanh(F.linear(x, w[f"{gate}_preact.weight"], w[f"{gate}_preact.bias"]) / 15)
        for gate in ("igate", "fgate")
    )
    h = head_norm(memory(q, k, v, i, f), eps=1e-6) * w["multihead_norm.weight"]
    return F.linear(torch.sigmoid(F.linear(x, w["ogate_preact.weight"])) * h, w["out_proj.weight"])


def large_logits(w: Tensors) -> Tensor:
    x = w["embedding.weight"][IDS]
    for i in range(2):
        block = under(f"backbone.blocks.{i}.", w)
        x = x + large_layer(rms(x, block["norm_mlstm.weight"], 1e-6), under("mlstm_layer.", block))
        y = rms(x, block["norm_ffn.weight"], 1e-6)
        y = F.silu(F.linear(y, block["ffn.proj_up_gate.weight"])) * F.linear(y, block["ffn.proj_up.weight"])
        x = x + F.linear(y, block["ffn.proj_down.weight"])
    logits = F.linear(rms(x, w["backbone.out_norm.weight"], 1e-6), w["lm_head.weight"])
    return 30 * torch.tanh(logits / 30)


def xlstm_large() -> Layout:
    blocks = {f"backbone.blocks.{i}.{name}": shape for i in range(2) for name, shape in LARGE.items()}
    shapes = {"embedding.weight": (V, D), **blocks, "backbone.out_norm.weight": (D,), "lm_head.weight": (V, D)}
    config = {"embedding_dim": D, "num_heads": 2, "num_blocks": 2, "vocab_size": V, "chunk_size": 64}
    return Layout(config, draw(shapes), large_logits)


def fused(tensors: Tensors) -> Tensors:
    """The same weights in the mode `fused`."""
    parts = {
        "mlstm_layer.qkv_opreact.weight": ("q.weight", "k.weight", "v.weight", "ogate_preact.weight"),
        "mlstm_layer.ifgate_preact.weight": ("igate_preact.weight", "fgate_preact.weight"),
        "mlstm_layer.ifgate_preact.bias": ("igate_preact.bias", "fgate_preact.bias"),
        "ffn.proj_up_gate_z.weight": ("proj_up_gate.weight", "proj_up.weight"),
    }
    tensors = dict(tensors)
    for i in range(2):
        for name, singles in parts.items():
            whole = f"backbone.blocks.{i}.{name}"
            folder = f"backbone.blocks.{i}.{name.split('.')[0]}."
            tensors[whole] = torch.cat([tensors.pop(folder + single) for single in singles])
    return tensors


def xlstm_large_fused() -> Layout:
    config, tensors, _ = xlstm_large()
    return Layout({**config, "weight_mode": "fused"}, fused(tensors), lambda _: large_logits(tensors))


def xlstm_large_transformers() -> Layout:
    _, tensors, _ = xlstm_large()
    config = {"model_type": "xlstm", "hidden_size": D, "num_heads": 2, "num_hidden_layers": 2, "vocab_size": V}
    renamed = {name.replace("embedding.", "backbone.embeddings."): tensor for name, tensor in tensors.items()}
    return Layout(config, renamed, lambda _: large_logits(tensors))


# S4D

S4D_SHAPES = {
    "D": (D,),
    "kernel.C": (D, N, 2),
    "kernel.log_dt": (D,),
    "kernel.log_A_real": (D, N),
    "kernel.A_imag": (D, N),
    "output_linear.0.weight": (2 * D, D, 1),
    "output_linear.0.bias": (2 * D,),
}


def s4d_output(w: Tensors) -> Tensor:
    u, dt = inputs().mT, w["kernel.log_dt"].exp()
    A = torch.complex(-w["kernel.log_A_real"].exp(), w["kernel.A_imag"])
    C = torch.view_as_complex(w["kernel.C"]) * (torch.exp(A * dt[:, None]) - 1) / A
    K = 2 * (C[..., None] * torch.exp((A * dt[:, None])[..., None] * torch.arange(T))).sum(1).real
    y = torch.stack([(K[:, : t + 1].flip(-1) * u[..., : t + 1]).sum(-1) for t in range(T)], dim=-1)
    y = F.gelu(y + w["D"][:, None] * u)
    return F.glu(F.conv1d(y, w["output_linear.0.weight"], w["output_linear.0.bias"]), dim=-2).mT


def s4d() -> Layout:
    return Layout({}, draw(S4D_SHAPES), s4d_output)


LAYOUTS = (
    mamba_state_spaces,
    mamba_transformers,
    mamba2_state_spaces,
    mamba2_transformers,
    xlstm_v1,
    xlstm_v1_cuda,
    xlstm_v1_stack,
    xlstm_large,
    xlstm_large_fused,
    xlstm_large_transformers,
    s4d,
)
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def output(model: Any) -> Tensor:
    with torch.no_grad():
        return model.logits(IDS) if hasattr(model, "logits") else model(inputs())[0]


def assert_close(a: Tensor, b: Tensor) -> None:
    error = ((a - b).square().mean() / b.square().mean()).sqrt().item()
    assert error < 1e-5, f"relative error {error:.1e}"


@every_layout
def test_computes_what_was_published(layout: Callable[[], Layout], tmp_path: Path) -> None:
    config, tensors, expected = layout()
    before = torch.random.get_rng_state()
    model = load_pretrained(write(tmp_path, config, tensors))
    assert torch.random.get_rng_state().equal(before)
    assert not model.training
    assert_close(output(model), expected(tensors))


@every_layout
@pytest.mark.parametrize("change", ["lacks", "has the unexpected", "shape", "dtype"])
def test_a_tensor_that_does_not_fit(layout: Callable[[], Layout], change: str, tmp_path: Path) -> None:
    config, tensors, _ = layout()
    # the last ones are heads and embeddings, which may be tied; of the others every layout has two
    name = sorted(name for name in tensors if "lm_head" not in name and "embedding" not in name)[-2]
    match change:
        case "lacks":
            del tensors[name]
            message = f"lacks tensor '{name}'"
        case "has the unexpected":
            tensors[f"{name}_more"] = torch.ones(1)
            message = f"has the unexpected tensor '{name}_more'"
        case "shape":
            tensors[name] = torch.ones(3, 3)
            message = f"{name} has shape [3, 3], the configuration makes it ["
        case _:
            tensors[name] = tensors[name].to(torch.int8)
            message = f"{name} has dtype torch.int8, expected floating point"
    with pytest.raises(InputError) as caught:
        load_pretrained(write(tmp_path, config, tensors))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("layout", [mamba2_transformers, xlstm_v1_cuda, xlstm_large_fused, mamba_state_spaces])
def test_is_saved_and_loaded_as_ours(layout: Callable[[], Layout], tmp_path: Path) -> None:
    config, tensors, _ = layout()
    model = load_pretrained(write(tmp_path / "published", config, tensors))
    save(model, tmp_path / "ours")
    assert output(load(tmp_path / "ours")).equal(output(model))
    with pytest.raises(InputError, match=r"checkpoint of HelixWave itself: helixwave\.load reads it"):
        load_pretrained(tmp_path / "ours")


def test_half_precision_is_widened_or_kept(tmp_path: Path) -> None:
    config, tensors, expected = mamba_transformers()
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    folder = write(tmp_path, config, halves)
    wide = load_pretrained(folder)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    assert_close(output(wide), expected({name: tensor.float() for name, tensor in halves.items()}))
    assert {p.dtype for p in load_pretrained(folder, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_layer_norms_of_the_first_mamba(tmp_path: Path) -> None:
    config, tensors, _ = mamba_state_spaces()
    biases = {name.replace("weight", "bias"): torch.ones(D) for name in tensors if "norm" in name}
    model = load_pretrained(write(tmp_path, {**config, "rms_norm": False}, tensors | biases))
    assert isinstance(model.backbone.norm, nn.LayerNorm)
    assert model.backbone.norms[1].bias.equal(torch.ones(D))


@pytest.mark.parametrize("layout", LAYOUTS[:-1], ids=lambda layout: layout.__name__)
def test_no_tensor_can_be_left_out(layout: Callable[[], Layout], tmp_path: Path) -> None:
    config, tensors, _ = layout()
    kept = {name: tensor for name, tensor in tensors.items() if ".0." in name}
    with pytest.raises(InputError, match=r"lacks tensor '.*' and \d+ more$") as caught:
        load_pretrained(write(tmp_path, config, kept))
    tied = "lm_head.weight" in tensors and config.get("pad_vocab_size_multiple")
    assert f"and {len(tensors) - len(kept) - bool(tied) - 1} more" in str(caught.value)


# heads


def test_tied_heads(tmp_path: Path) -> None:
    config, tensors, expected = mamba_state_spaces()
    absent = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    model = load_pretrained(write(tmp_path, config, absent))
    assert model.head.weight is model.embedding.weight
    other = tensors | {"lm_head.weight": torch.ones(V, D)}
    with pytest.raises(InputError, match=r"lm_head\.weight differs from backbone\.embedding\.weight, .* ties them"):
        load_pretrained(write(tmp_path, config, other))
    untied = {**config, "tie_embeddings": False}
    assert_close(output(load_pretrained(write(tmp_path, untied, other))), expected(other))
    with pytest.raises(InputError, match=r"lacks tensor 'lm_head\.weight'$"):
        load_pretrained(write(tmp_path, untied, absent))


# layouts of the recurrent weights


@pytest.mark.parametrize("layout", [xlstm_v1, xlstm_v1_cuda])
def test_the_kernels_shape_tells_the_backend(layout: Callable[[], Layout], tmp_path: Path) -> None:
    config, tensors, expected = layout()
    config.pop("slstm_backend", None)
    config["slstm_block"]["slstm"].pop("backend", None)
    assert_close(output(load_pretrained(write(tmp_path, config, tensors))), expected(tensors))


def test_a_backend_that_contradicts_the_kernel(tmp_path: Path) -> None:
    config, tensors, expected = xlstm_v1()
    folder = write(tmp_path, {**config, "slstm_backend": "cuda"}, tensors)
    message = r"slstm_backend is 'cuda', whose .*_recurrent_kernel_ has shape \[2, 8, 32\]; here it has \[2, 32, 8\]"
    with pytest.raises(InputError, match=message):
        load_pretrained(folder)
    assert_close(output(load_pretrained(folder, slstm_backend="vanilla")), expected(tensors))
    with pytest.raises(InputError, match="slstm_backend is 'triton', expected 'vanilla' or 'cuda'"):
        load_pretrained(folder, slstm_backend="triton")


def test_stacks_of_one_kind(tmp_path: Path) -> None:
    config, tensors, _ = xlstm_v1_stack()
    alone = {name.replace("blocks.1.", "blocks.0."): t for name, t in tensors.items() if "blocks.0." not in name}
    alone = {name: tensor for name, tensor in alone.items() if "ffn" not in name and "conv" not in name}
    only = {"slstm": {"num_heads": 2, "conv1d_kernel_size": 0}, "feedforward": None}
    config |= {"num_blocks": 1, "mlstm_block": None, "slstm_block": only}
    model = load_pretrained(write(tmp_path, config, alone))
    assert isinstance(model, Backbone)
    assert [type(block).__name__ for block in model.blocks] == ["SLSTM"]


# S4D


def test_s4d_layers_of_a_larger_model(tmp_path: Path) -> None:
    layers = {f"s4_layers.{i}.{name}": t + i for i in (10, 9) for name, t in draw(S4D_SHAPES).items()}
    blocks = load_pretrained(write(tmp_path, None, layers))
    assert isinstance(blocks, nn.ModuleList)
    assert [block.D.equal(layers[f"s4_layers.{i}.D"]) for block, i in zip(blocks, (9, 10), strict=True)] == [True] * 2
    write(tmp_path, None, layers | {"encoder.weight": torch.ones(2)})
    with pytest.raises(InputError, match=r"unexpected tensor 'encoder\.weight' .* pass prefix='s4_layers\.9\.'"):
        load_pretrained(tmp_path)
    assert len(load_pretrained(tmp_path, prefix="s4_layers.")) == 2
    block = load_pretrained(tmp_path / "model.safetensors", prefix="s4_layers.10.")
    assert_close(output(block), s4d_output(under("s4_layers.10.", layers)))
    with pytest.raises(InputError, match=r"no tensor is called norms\.\.\.\.kernel\.log_A_real"):
        load_pretrained(tmp_path, family="s4d", prefix="norms.")


# files


class Payload:
    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.ckpt", "model.pt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_bomb(name: str, is_zip: bool, tmp_path: Path) -> None:
    config, tensors, _ = mamba_transformers()
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(
        tensors | {"bomb": Payload(tmp_path / "executed")}, tmp_path / name, _use_new_zipfile_serialization=is_zip
    )
    with pytest.raises(InputError, match=rf"{name} is refused: it holds more than tensors \(.*mkdir.*Nothing was run"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "last.ckpt"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"state_dict": {f"model.{n}": v for n, v in t.items()}, "epoch": 1},
        # a run that Hydra configured; what its entries refer to is not looked up
        lambda t: {"state_dict": t, "hyper_parameters": OmegaConf.create({"a": [1, {"b": "${oc.env:NOWHERE}"}]})},
    ],
)
def test_torch_files(name: str, wrap: Callable[[Tensors], Any], tmp_path: Path) -> None:
    config, tensors, expected = mamba_transformers()
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(wrap(tensors), tmp_path / name)
    for path in (tmp_path, str(tmp_path / name)):
        assert_close(output(load_pretrained(path)), expected(tensors))


def test_what_lightning_keeps_is_the_configuration(tmp_path: Path) -> None:
    config, tensors, expected = mamba_transformers()
    kept = config | {"state_size": 3}
    torch.save({"state_dict": tensors, "hyper_parameters": kept}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=rf"^{tmp_path}: .* the configuration makes it"):
        load_pretrained(tmp_path)
    # entries of its own come first
    (tmp_path / "config.json").write_text(json.dumps({"state_size": N}))
    assert_close(output(load_pretrained(tmp_path)), expected(tensors))
    kept["num_hidden_layers"] = 0
    torch.save({"state_dict": tensors, "hyper_parameters": kept}, tmp_path / "last.ckpt")
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}: hyper_parameters: num_hidden_layers is 0, expected"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, expected a state dict"),
        ({"weight": 3}, "'weight' is a int, expected a state dict"),
        ({}, "holds a dict, expected a state dict"),
    ],
)
def test_torch_files_without_a_state_dict(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        load_pretrained(tmp_path)


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    torch.save(mamba_transformers().tensors, tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    for size in (0, 1000, len(content) // 2):
        (tmp_path / "model.pt").write_bytes(content[:size])
        with pytest.raises(InputError, match=r"model\.pt(: not a complete torch file| is refused| is no checkpoint)"):
            load_pretrained(tmp_path)


def test_shards(tmp_path: Path) -> None:
    config, tensors, expected = mamba_transformers()
    (tmp_path / "config.json").write_text(json.dumps(config))
    names, index = sorted(tensors), tmp_path / "model.safetensors.index.json"
    files = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, inside in files.items():
        save_file({name: tensors[name] for name in inside}, tmp_path / file)
    index.write_text(json.dumps({"weight_map": {name: file for file, inside in files.items() for name in inside}}))
    assert_close(output(load_pretrained(tmp_path)), expected(tensors))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors is missing: model\.safetensors\.index"):
        load_pretrained(tmp_path)
    index.write_text(json.dumps({"weight_map": {"weight": "../model.safetensors"}}))
    with pytest.raises(InputError, match=r"names '\.\./model\.safetensors', expected files of weights beside it"):
        load_pretrained(tmp_path)
    index.write_text("[]")
    with pytest.raises(InputError, match="not an index of shards"):
        load_pretrained(tmp_path)


def test_numbered_shards_and_yaml_of_the_package(tmp_path: Path) -> None:
    config, tensors, expected = xlstm_large()
    (tmp_path / "config.yaml").write_text("\n".join(f"{key}: {value}" for key, value in config.items()))
    for i in range(2):
        save_file({name: tensors[name] for name in sorted(tensors)[i::2]}, tmp_path / f"model_{i}.safetensors")
    assert_close(output(load_pretrained(tmp_path)), expected(tensors))


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere/at/all: there is no such folder\. Expected one with config\.json and"
    ):
        load_pretrained(tmp_path / "nowhere/at/all")
    with pytest.raises(InputError, match=r"holds no weights\. Expected config\.json and one of model\.safetensors"):
        load_pretrained(tmp_path)
    for name in ("a.pt", "b.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"several files of weights \(a\.pt, b\.ckpt\)\. Name one"):
        load_pretrained(tmp_path)


# configurations


def refused(layout: Callable[[], Layout], change: Callable[[dict[str, Any]], Any], message: str, folder: Path) -> None:
    config, tensors, _ = layout()
    change(config)
    with pytest.raises(InputError, match=message):
        load_pretrained(write(folder, config, tensors))


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        (mamba_transformers, {"model_type": "mambo"}, "no published family named 'mambo'. Did you mean 'mamba'?"),
        (mamba_transformers, {"vocab_size": 0}, r"config\.json: vocab_size is 0, expected a whole number from 1"),
        (mamba_transformers, {"hidden_act": "relu"}, "hidden_act is 'relu', but this version can only build 'silu'"),
        (mamba_transformers, {"use_bias": 1}, r"config\.json: backbone.*bias is 1, expected bool"),
        (mamba_state_spaces, {"d_intermediate": 32}, "d_intermediate is 32, but this version can only build 0"),
        (mamba_state_spaces, {"attn_layer_idx": [1]}, r"attn_layer_idx is \[1\]"),
        (mamba_state_spaces, {"ssm_cfg": {"d_stat": 4}}, "ssm_cfg: unknown entry 'd_stat'. Did you mean 'd_state'?"),
        (mamba_state_spaces, {"ssm_cfg": 3}, "ssm_cfg is 3, expected a mapping"),
        (mamba2_transformers, {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        (mamba2_transformers, {"time_step_limit": 3}, r"dt_limit is 3, expected tuple\[float, float\] \| None"),
        (mamba2_state_spaces, {"ssm_cfg": {"layer": "Mamba2", "rmsnorm": False}}, "ssm_cfg: rmsnorm is False"),
        (xlstm_v1, {"bias": True}, "bias is True, but this version can only build False"),
        (xlstm_v1, {"slstm_at": [2]}, r"slstm_at is \[2\], expected 'all' or a list of 0 to 1"),
        (xlstm_large, {"norm_eps": 1e-5}, "norm_eps is 1e-05"),
        (xlstm_large, {"num_heads": 3}, "qk_dim_factor is 0.5, which does not divide among 3 heads"),
    ],
)
def test_configurations_that_cannot_be_built(
    layout: Callable[[], Layout], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(layout, lambda config: config.update(change), message, tmp_path)


def test_configurations_that_are_missing_or_damaged(tmp_path: Path) -> None:
    _, tensors, _ = mamba_state_spaces()
    with pytest.raises(InputError, match=r"which has no config\.json\) lacks 'd_model'"):
        load_pretrained(write(tmp_path, None, tensors))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: not valid JSON"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: holds a list"):
        load_pretrained(tmp_path)


def test_infinity_as_transformers_writes_it(tmp_path: Path) -> None:
    config, tensors, _ = mamba2_transformers()
    config["time_step_limit"] = [0.0, {"__float__": "Infinity"}]
    model = load_pretrained(write(tmp_path, config, tensors))
    assert model.backbone.blocks[0].dt_limit is None
    assert math.isfinite(output(model).sum())


def test_names_of_no_family(tmp_path: Path) -> None:
    folder = write(tmp_path, {}, {"fc.weight": torch.ones(2)})
    with pytest.raises(
        InputError, match=r"no model_type.*\(fc\.weight, \.\.\.\) are those of no known family.*Known: .*mamba"
    ):
        load_pretrained(folder)
    with pytest.raises(InputError, match="mamba has no option 'slstm_backend'"):
        load_pretrained(write(tmp_path, *mamba_transformers()[:2]), slstm_backend="cuda")


def test_a_family_of_another_package(tmp_path: Path) -> None:
    class Diagonal(Family):
        marks = ("fc.weight",)

        def plan(self, published: Published) -> Plan:
            linear = nn.Linear(published.settings.size("width"), 1, bias=False)
            return Plan(linear, [rule("fc.weight", "weight", convert=lambda weight: weight * 2)])

    FAMILIES.register("diagonal")(Diagonal)
    for config in ({"model_type": "diagonal", "width": 2}, {"width": 2}):
        linear = load_pretrained(write(tmp_path, config, {"fc.weight": torch.ones(1, 2)}))
        assert linear.weight.tolist() == [[2, 2]]


@pytest.mark.parametrize("values", [torch.arange(3), torch.tensor([0.0, 0.5, 2.0])])
def test_tables_that_fill_nothing(values: Tensor, tmp_path: Path) -> None:
    """They must hold what follows from the configuration, as precisely as their type says."""

    class Listed(Family):
        marks = ("table",)

        def plan(self, published: Published) -> Plan:
            return Plan(nn.Linear(1, 1, bias=False), [rule("w", "weight"), Rule("table", values=values)])

    tensors = {"w": torch.ones(1, 1), "table": values}
    FAMILIES.register(f"listed_{values.dtype}")(Listed)
    folder = write(tmp_path, {"model_type": f"listed_{values.dtype}"}, tensors)
    assert load_pretrained(folder).weight.item() == 1
    for table, message in (
        (values + 1, "table holds other values than follow from the configuration"),
        (values[:2], r"table has shape \[2\], the configuration makes it \[3\]"),
        (values.bool(), r"table has dtype torch\.bool") if values.is_floating_point() else (values[:0], r"shape \[0\]"),
    ):
        with pytest.raises(InputError, match=message):
            load_pretrained(write(tmp_path, {"model_type": f"listed_{values.dtype}"}, {**tensors, "table": table}))


# the hub


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, tensors, expected = mamba_state_spaces()
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    asked = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if not (tmp_path / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert_close(output(load_pretrained("state-spaces/mamba-tiny", revision="v1")), expected(tensors))
    assert asked[0] == ("state-spaces/mamba-tiny", "config.json", "v1")
    assert asked[-1] == ("state-spaces/mamba-tiny", "pytorch_model.bin", "v1")
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"mamba-tiny: .* could not be had from the Hugging Face hub \(EntryNotFound"):
        load_pretrained("state-spaces/mamba-tiny")


def test_a_name_on_the_hub_with_a_file_of_lightning_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, tensors, expected = mamba_transformers()

    def download(repository: str, file: str, revision: str | None) -> str:
        if not (tmp_path / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(tmp_path / file)

    def in_cache(repository: str, file: str, revision: str | None) -> str | None:
        return str(tmp_path / file) if (tmp_path / file).is_file() else None

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", in_cache)
    torch.save({"state_dict": tensors, "hyper_parameters": config}, tmp_path / "model.ckpt")
    assert_close(output(load_pretrained("someone/small")), expected(tensors))
    assert cached("someone/small") == tmp_path
    (tmp_path / "model.ckpt").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(
        InputError, match=r"could not be had from the Hugging Face hub \(EntryNotFoundError: config\.json"
    ):
        load_pretrained("someone/small")


def test_a_name_on_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: str, **__: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError) as caught:
        load_pretrained("state-spaces/mamba-130m")
    for part in (
        "state-spaces/mamba-130m: there is no such folder here",
        "no connection",
        "hf download state-spaces/mamba-130m --local-dir FOLDER",
        "config.json and one of model.safetensors (or its shards",
        "pytorch_model.bin",
    ):
        assert part in str(caught.value)
