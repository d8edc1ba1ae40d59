"""TiRex as it was published, against its formulas in loops over series, steps and heads, without blocks of ours."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import load, save
from helixwave.cli import main
from helixwave.errors import InputError
from helixwave.pretrained import load_pretrained
from helixwave_domains.forecasting.published.tirex import TiRex
from helixwave_domains.forecasting.published.tirex_checkpoint import TiRexZero
from torch import Tensor

D, N_HEAD, N_BLOCK, PATCH, CONTEXT, HIDDEN = 16, 2, 2, 4, 32, 12
HEAD = D // N_HEAD
INNER = 64  # 2.6667 D, rounded up
LEVELS = [0.1, 0.5, 0.9]
NAN = torch.nan
Tensors = dict[str, Tensor]


# the formulas, in float64


def patch_mlp(x: Tensor, w: Tensors) -> Tensor:
    hidden = (w["hidden_layer.weight"] @ x + w["hidden_layer.bias"]).clamp(min=0)
    straight = w["residual_layer.weight"] @ x + w["residual_layer.bias"]
    return w["output_layer.weight"] @ hidden + w["output_layer.bias"] + straight


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-6).sqrt() * weight


def slstm(xs: list[Tensor], w: Tensors) -> list[Tensor]:
    """The parameter `fgate` belongs to the input gate and `igate` to the forget gate."""
    names = {"i": "fgate", "f": "igate", "z": "zgate", "o": "ogate"}
    ys = [torch.zeros(D, dtype=torch.float64) for _ in xs]
    for head in range(N_HEAD):
        own = slice(head * HEAD, (head + 1) * HEAD)
        kernel = w["slstm_cell._recurrent_kernel_"][head].view(HEAD, 4, HEAD)  # [from, gate, to]
        bias = w["slstm_cell._bias_"].view(N_HEAD, 4, HEAD)[head]
        h = c = n = m = torch.zeros(HEAD, dtype=torch.float64)
        for t, x in enumerate(xs):
            raw = {
                gate: w[f"{name}.weight"][head] @ x[own] + h @ kernel[:, k] + bias[k]
                for k, (gate, name) in enumerate(names.items())
            }
            log_f = m - torch.log(1 + torch.exp(-raw["f"].clamp(max=15)))
            m = raw["i"] if t == 0 else torch.maximum(raw["i"], log_f)
            i, f = torch.exp(raw["i"] - m), torch.exp((log_f - m).clamp(max=0))
            c, n = f * c + i * torch.tanh(raw["z"]), f * n + i
            h = torch.sigmoid(raw["o"]) * c / n
            centred = h - h.mean()
            ys[t][own] = centred / (centred.square().mean() + 1e-5).sqrt() * (1 + w["group_norm.weight"][own])
    return ys


def network(patches: list[Tensor], w: Tensors) -> list[Tensor]:
    """What follows each patch: `[Q, PATCH]`."""
    xs = []
    for patch in patches:
        known = ~patch.isnan()
        xs.append(patch_mlp(torch.cat([patch.nan_to_num(nan=0.0), known.double()]), under("input_patch_embedding.", w)))
    for i in range(N_BLOCK):
        block = under(f"blocks.{i}.", w)
        mixed = slstm([rms_norm(x, block["norm_slstm.weight"]) for x in xs], under("slstm_layer.", block))
        xs = [x + y for x, y in zip(xs, mixed, strict=True)]
        for t, x in enumerate(xs):
            normed = rms_norm(x, block["norm_ffn.weight"])
            gate = block["ffn.proj_up_gate.weight"] @ normed
            xs[t] = x + block["ffn.proj_down.weight"] @ (
                gate * torch.sigmoid(gate) * (block["ffn.proj_up.weight"] @ normed)
            )
    xs = [rms_norm(x, w["out_norm.weight"]) for x in xs]
    return [patch_mlp(x, under("output_patch_embedding.", w)).view(len(LEVELS), PATCH) for x in xs]


def rolled(w: Tensors, series: list[float], horizon: int, at_once: int = 1) -> Tensor:
    """`[H, Q]`, from windows of `CONTEXT` steps, each standardised by itself."""
    w = {name: tensor.double() for name, tensor in w.items()}
    series, steps = list(series), []
    while len(steps) < horizon:
        n_new = min(at_once, -(-(horizon - len(steps)) // PATCH))
        window = torch.tensor([NAN] * CONTEXT + series, dtype=torch.float64)[-CONTEXT:]
        there = window[~window.isnan()]
        loc = there.mean()
        scale = (there - loc).square().mean().sqrt()
        scale = loc.abs() + 1e-5 if scale == 0 else scale
        empty = [torch.full((PATCH,), NAN, dtype=torch.float64)] * (n_new - 1)
        ahead = network([*((window - loc) / scale).split(PATCH), *empty], w)[-n_new:]
        steps += [patch[:, step] * scale + loc for patch in ahead for step in range(PATCH)]
        series += [NAN] * (n_new * PATCH)
    return torch.stack(steps[:horizon])


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# the files


def arguments(**changes: Any) -> dict[str, Any]:
    block = {"all_slstm": True, "embedding_dim": D, "num_blocks": N_BLOCK, "num_heads": N_HEAD}
    block |= {"return_last_states": True, "vocab_size": 0}
    model = {"input_patch_size": PATCH, "output_patch_size": PATCH, "quantiles": LEVELS, "input_ff_dim": HIDDEN}
    kept = {"model_config": model | {"block_kwargs": block}, "train_ctx_len": CONTEXT}
    for key, value in changes.items():
        section = next(section for section in (block, kept["model_config"], kept) if key in section or section is kept)
        section[key] = value
    return kept


def weights() -> Tensors:
    def mlp(name: str, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        sizes = {"hidden": (HIDDEN, d_in), "output": (d_out, HIDDEN), "residual": (d_out, d_in)}
        shapes = {f"{name}.{layer}_layer.weight": size for layer, size in sizes.items()}
        return shapes | {f"{name}.{layer}_layer.bias": size[:1] for layer, size in sizes.items()}

    block = {f"slstm_layer.{gate}.weight": (N_HEAD, HEAD, HEAD) for gate in ("fgate", "igate", "zgate", "ogate")}
    block |= {"slstm_layer.slstm_cell._recurrent_kernel_": (N_HEAD, HEAD, 4 * HEAD)}
    block |= {"slstm_layer.slstm_cell._bias_": (4 * D,), "slstm_layer.group_norm.weight": (D,)}
    block |= {"norm_slstm.weight": (D,), "norm_ffn.weight": (D,), "ffn.proj_down.weight": (D, INNER)}
    block |= {f"ffn.{name}.weight": (INNER, D) for name in ("proj_up_gate", "proj_up")}
    shapes = {f"blocks.{i}.{name}": shape for i in range(N_BLOCK) for name, shape in block.items()}
    shapes |= {"out_norm.weight": (D,)} | mlp("input_patch_embedding", 2 * PATCH, D)
    shapes |= mlp("output_patch_embedding", D, len(LEVELS) * PATCH)
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def first_release(tensors: Tensors) -> Tensors:
    """With the stack in a module of its own."""
    inner = ("blocks.", "out_norm.")
    return {f"block_stack.{name}" if name.startswith(inner) else name: t for name, t in tensors.items()}


def write(folder: Path, tensors: Tensors, kept: dict[str, Any] | None = None, file: str = "model.ckpt") -> Path:
    content = {"state_dict": tensors, "pytorch-lightning_version": "2.5.0", "epoch": 1, "optimizer_states": []}
    torch.save(content | {"hyper_parameters": arguments() if kept is None else kept}, folder / file)
    return folder


def series(*lengths: int) -> Tensor:
    """Random walks of these lengths and a level of 5, `[B, longest]`, behind NaN."""
    generator = torch.Generator().manual_seed(1)
    walks = [5 + torch.randn(length, generator=generator).cumsum(0) for length in lengths]
    return torch.stack([torch.cat([torch.full((max(lengths) - len(walk),), NAN), walk]) for walk in walks])


@pytest.fixture
def model(tmp_path: Path) -> TiRex:
    return load_pretrained(write(tmp_path, weights()))


def assert_same(found: Tensor, expected: Tensor, scale: float = 1.0, tolerance: float = 2e-5) -> None:
    error = (found - expected).abs().max().item() / scale
    assert error < tolerance, f"error {error:.1e} in units of the series' deviation"


# what is computed


@pytest.mark.parametrize("layout", [lambda tensors: tensors, first_release])
def test_both_releases_of_the_file(layout: Callable[[Tensors], Tensors], tmp_path: Path) -> None:
    model, context = load_pretrained(write(tmp_path, layout(weights()))), series(25)
    assert_same(model.forecast(context, PATCH)[0], rolled(weights(), context[0].tolist(), PATCH))
    assert (model.levels, model.training) == (LEVELS, False)


@pytest.mark.parametrize(("horizon", "at_once"), [(1, 1), (11, 1), (11, 2), (11, 5)])
def test_computes_what_was_published(horizon: int, at_once: int, model: TiRex) -> None:
    context = series(5, 17, 50)
    context[1, -7:-2] = NAN
    context[2, -1] = NAN
    found = model.forecast(context, horizon, patches_at_once=at_once)
    assert (found.shape, found.dtype) == ((3, horizon, len(LEVELS)), torch.float32)
    for row, values in zip(found, context, strict=True):
        assert_same(row, rolled(weights(), values.tolist(), horizon, at_once))


def test_the_longest_horizon(model: TiRex) -> None:
    """The window moves on until one patch of the series is left in it."""
    context = series(CONTEXT)
    assert_same(model.forecast(context, CONTEXT)[0], rolled(weights(), context[0].tolist(), CONTEXT))


def test_forget_gates_above_the_published_limit(tmp_path: Path) -> None:
    """The published cell computes with 15 instead, which differs by 3e-7 a patch."""
    tensors = weights()
    for i in range(N_BLOCK):
        tensors[f"blocks.{i}.slstm_layer.slstm_cell._bias_"].view(N_HEAD, 4, HEAD)[:, 1] = 20
    model = load_pretrained(write(tmp_path, tensors))
    context = series(CONTEXT)
    assert_same(model.forecast(context, 9)[0], rolled(tensors, context[0].tolist(), 9))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_constant_series(value: float, model: TiRex) -> None:
    found = model.forecast(torch.full((1, 20), value), 6)[0]
    assert_same(found, rolled(weights(), [value] * 20, 6), abs(value) + 1e-5)


def test_what_is_missing_on_the_left_is_no_part_of_the_series(model: TiRex) -> None:
    context = series(13)
    padded = torch.cat([torch.full((1, 30), NAN), context], dim=1)
    assert torch.equal(model.forecast(padded, 9), model.forecast(context, 9))


def test_steps_before_the_window_are_not_read(model: TiRex) -> None:
    context = series(40)
    changed = context.clone()
    changed[0, : 40 - CONTEXT] = 1e6
    assert torch.equal(model.forecast(changed, PATCH), model.forecast(context, PATCH))


def test_a_forecast_does_not_depend_on_the_batch(model: TiRex) -> None:
    context = series(3, 40, 20, 12)
    context[3] = 1e4 * context[3]
    together = model.forecast(context, 10)
    for row, values in zip(together, context, strict=True):
        known = values[~values.isnan()]
        assert_same(row, model.forecast(known[None], 10)[0], float(known[-CONTEXT:].std()), 2e-6)


def test_large_numbers_keep_their_digits(model: TiRex) -> None:
    context = series(25).double()
    found = model.forecast(1e12 + context, 10)
    assert found.dtype == torch.float64
    assert_same(found - 1e12, model.forecast(context, 10), tolerance=1e-3)


def test_units_do_not_matter(model: TiRex) -> None:
    context = series(25)
    assert_same(model.forecast(8 * context - 100, 10), 8 * model.forecast(context, 10) - 100, 8 * float(context.std()))


def test_a_long_horizon_rolls_over_missing_values(model: TiRex) -> None:
    context = series(22)
    later = torch.cat([context, torch.full((1, 2 * PATCH), NAN)], dim=1)
    long = model.forecast(context, 3 * PATCH)
    assert torch.equal(long[:, : PATCH - 1], model.forecast(context, PATCH - 1))
    assert torch.equal(long[:, 2 * PATCH :], model.forecast(later, PATCH))
    # one pass reads the end of the same patches, with more of them before the series
    assert not torch.allclose(model.forecast(context, 3 * PATCH, patches_at_once=3), long)


def test_the_median_is_the_point_forecast(model: TiRex) -> None:
    quantiles = model.forecast(series(22), 5)
    assert torch.equal(model.median(quantiles), quantiles[..., 1])


def test_what_follows_each_patch(model: TiRex) -> None:
    patches = torch.randn(3, 6, PATCH).masked_fill(torch.rand(3, 6, PATCH) < 0.3, NAN)
    found = model(patches)
    assert found.shape == (3, 6, PATCH, len(LEVELS))
    w = {name: tensor.double() for name, tensor in weights().items()}
    expected = torch.stack([torch.stack(network(list(row.double()), w)) for row in patches]).mT
    assert_same(found.detach(), expected)


def test_bfloat16(tmp_path: Path) -> None:
    context = 1e3 + series(25)
    model = load_pretrained(write(tmp_path, weights()), dtype=torch.bfloat16)
    found = model.forecast(context, 5)
    assert found.dtype == torch.float32
    assert_same(found, load_pretrained(tmp_path).forecast(context, 5), float(context.std()), 0.3)


# files


def test_the_published_sizes() -> None:
    """35 million parameters, as the authors count them."""
    blocks = [{"name": "slstm", "n_head": 4, "d_conv": 0}, {"name": "swiglu", "expand": 2.6667, "multiple": 64}]
    with torch.device("meta"):
        backbone = Backbone(512, n_layer=24, blocks=blocks, norm_eps=1e-6)
        model = TiRex(backbone=backbone, classes=[f"0.{i}" for i in range(1, 10)])
    n_parameter = sum(p.numel() for p in model.parameters())
    assert {(c.parameters, c.context) for c in TiRexZero.checkpoints} == {(n_parameter, model.context)}


def test_it_becomes_a_checkpoint_of_ours(model: TiRex, tmp_path: Path) -> None:
    save(model, tmp_path / "ours")
    ours, context = load(tmp_path / "ours"), series(25)
    assert torch.equal(ours.forecast(context, 9), model.forecast(context, 9))
    assert ours.levels == LEVELS


def test_info_and_fetch_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["helixwave", "pretrained", *map(str, words)])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capsys.readouterr().out

    monkeypatch.setenv("COLUMNS", "200")
    run("fetch", write(tmp_path, weights()), "-o", tmp_path / "ours")
    for folder, family in ((tmp_path, "tirex"), (tmp_path / "ours", "helixwave")):
        facts = dict(line.strip().split(maxsplit=1) for line in run("info", folder).splitlines())
        assert (facts["family"], facts["model"], facts["outputs"]) == (family, "tirex", "0.1 0.5 0.9")
        assert facts["context"] == str(CONTEXT)


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing but the file of Lightning."""

    def download(repository: str, file: str, revision: str | None) -> str:
        if not (tmp_path / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(tmp_path / file)

    write(tmp_path, first_release(weights()))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert isinstance(load_pretrained("NX-AI/TiRex"), TiRex)


def test_code_among_the_arguments_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    write(tmp_path, weights(), {"model_config": Payload()})
    with pytest.raises(InputError, match=r"model\.ckpt is refused: it holds more than tensors"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("layout", [lambda tensors: tensors, first_release])
@pytest.mark.parametrize(
    "ending", ["fgate.weight", "_recurrent_kernel_", "_bias_", "proj_up.weight", "out_norm.weight"]
)
def test_a_tensor_that_does_not_fit(layout: Callable[[Tensors], Tensors], ending: str, tmp_path: Path) -> None:
    tensors = layout(weights())
    name = next(name for name in sorted(tensors) if name.endswith(ending))
    others = {other: tensor for other, tensor in tensors.items() if other != name}
    for changed, message in (
        (others, f"lacks tensor '{name}'"),
        (tensors | {f"{name}_more": torch.ones(1)}, f"has the unexpected tensor '{name}_more'"),
        (others | {name: torch.ones(3, 3)}, f"{name} has shape [3, 3], the configuration makes it ["),
        (others | {name: tensors[name].to(torch.int8)}, f"{name} has dtype torch.int8, expected floating point"),
    ):
        with pytest.raises(InputError) as caught:
            load_pretrained(write(tmp_path, changed))
        assert message in str(caught.value)


def test_the_recurrent_layout_of_another_package_is_refused(tmp_path: Path) -> None:
    """Of the vanilla cell of xlstm: as many numbers in another order."""
    name = "blocks.1.slstm_layer.slstm_cell._recurrent_kernel_"
    tensors = weights()
    tensors[name] = tensors[name].mT
    with pytest.raises(InputError, match=r"_recurrent_kernel_ has shape \[2, 32, 8\], .* makes it \[2, 8, 32\]"):
        load_pretrained(write(tmp_path, tensors))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_config": {}}, r"hyper_parameters: model_config lacks 'input_patch_size', without which"),
        ({"block_kwargs": {}}, "block_kwargs lacks 'embedding_dim', without which"),
        ({"train_ctx_len": None}, "hyper_parameters lacks 'train_ctx_len', without which"),
        ({"train_ctx_len": 30}, "tirex: context is 30, expected a multiple of patch, which is 4"),
        ({"output_patch_size": 8}, "output_patch_size is 8, but this version can only build 4"),
        ({"all_slstm": False}, "all_slstm is False, but this version can only build True"),
        ({"num_heads": 3}, "n_head is 3, expected a divisor of the 16 channels"),
        ({"quantiles": "0.5"}, "quantiles is '0.5', expected a list of levels such as 0.1"),
        ({"quantiles": [0.5, 0.1]}, r"classes are \['0.5', '0.1'\], expected rising levels between 0 and 1, 0.5 among"),
        ({"quantiles": [0.1, 0.9]}, r"classes are \['0.1', '0.9'\], expected rising levels"),
    ],
)
def test_a_configuration_that_cannot_be_built(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_pretrained(write(tmp_path, weights(), arguments(**changes)))


def test_a_file_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(which has no config\.json\): model_config lacks 'input_patch_size'"):
        load_pretrained(write(tmp_path, weights(), {}))


def test_blocks_that_a_forecast_cannot_use() -> None:
    for block, message in (
        ({"name": "bimamba"}, "reads what comes later"),
        ({"name": "hyena", "l_max": 8, "stateful": False}, "keeps no state"),
    ):
        with pytest.raises(InputError, match=message):
            TiRex(backbone=Backbone(D, n_layer=1, blocks=[block]), classes=["0.5"])


@pytest.mark.parametrize(
    ("context", "horizon", "message"),
    [
        (torch.ones(5), 1, r"context has shape \[5\], expected \[series, steps\]"),
        (torch.ones(2, 0), 1, r"context has shape \[2, 0\], expected \[series, steps\]"),
        (torch.ones(2, 5), 0, "horizon is 0, expected at least 1"),
        (torch.tensor([[1.0, torch.inf]]), 1, "context holds infinite values. Expected numbers, and NaN where"),
        (torch.tensor([[1.0], [NAN]]), 1, "series 1 has no value in its last 32 steps, which are all that is read"),
        (torch.tensor([[1.0, NAN, NAN, NAN, NAN]]), 29, "series 0 has no value in its last 4 .* for step 29 of the"),
        (torch.ones(1, 50), CONTEXT + 1, "horizon is 33, expected at most 32: behind that, nothing of the series is"),
    ],
)
def test_a_context_that_cannot_be_forecast(context: Tensor, horizon: int, message: str, model: TiRex) -> None:
    with pytest.raises(InputError, match=message):
        model.forecast(context, horizon)


@pytest.mark.parametrize(
    ("at_once", "horizon", "message"),
    [(0, 1, "patches_at_once is 0, expected at least 1"), (3, 37, "horizon is 37, expected at most 36")],
)
def test_patches_at_once_that_cannot_be(at_once: int, horizon: int, message: str, model: TiRex) -> None:
    with pytest.raises(InputError, match=message):
        model.forecast(torch.ones(1, 5), horizon, patches_at_once=at_once)
    assert model.forecast(torch.ones(1, CONTEXT), 36, patches_at_once=3).isfinite().all()
