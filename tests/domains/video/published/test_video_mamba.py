"""VideoMamba's published layout: every tensor by its name, and what is computed by an independent loop."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helixwave import load, load_pretrained
from helixwave.checkpoint import build_model, save
from helixwave.errors import InputError
from helixwave.recipe import Start
from helixwave.start import take_weights
from torch import Tensor
from torch.testing import assert_close

D, LAYERS, STATE, INNER, RANK, CONV = 12, 3, 4, 24, 1, 4
SIDE, PATCH, FRAMES, CLASSES = 2, 4, 3, 5


def published(*, tubelet: int = 1, slots: int = FRAMES, images: bool = False) -> dict[str, Tensor]:
    """Random weights under the published names."""
    kernel = (D, 3, PATCH, PATCH) if images else (D, 3, tubelet, PATCH, PATCH)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, D),
        "pos_embed": (1, SIDE**2 + 1, D),
        "patch_embed.proj.weight": kernel,
        "patch_embed.proj.bias": (D,),
        "norm_f.weight": (D,),
        "head.weight": (CLASSES, D),
        "head.bias": (CLASSES,),
    }
    if not images:
        shapes["temporal_pos_embedding"] = (1, slots, D)
    for i in range(LAYERS):
        shapes[f"layers.{i}.norm.weight"] = (D,)
        shapes[f"layers.{i}.mixer.in_proj.weight"] = (2 * INNER, D)
        shapes[f"layers.{i}.mixer.out_proj.weight"] = (D, INNER)
        for b in ("", "_b"):
            shapes[f"layers.{i}.mixer.A{b}_log"] = (INNER, STATE)
            shapes[f"layers.{i}.mixer.D{b}"] = (INNER,)
            shapes[f"layers.{i}.mixer.conv1d{b}.weight"] = (INNER, 1, CONV)
            shapes[f"layers.{i}.mixer.conv1d{b}.bias"] = (INNER,)
            shapes[f"layers.{i}.mixer.x_proj{b}.weight"] = (RANK + 2 * STATE, INNER)
            shapes[f"layers.{i}.mixer.dt_proj{b}.weight"] = (INNER, RANK)
            shapes[f"layers.{i}.mixer.dt_proj{b}.bias"] = (INNER,)
    generator = torch.Generator().manual_seed(0)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def clips(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def tokens(w: dict[str, Tensor], clip: Tensor) -> Tensor:
    """`[T, 3, H, W]` -> `[1 + T' n, D]`: tubes of patches frame by frame, and where they are."""
    kernel, found = w["patch_embed.proj.weight"], [w["cls_token"][0, 0] + w["pos_embed"][0, 0]]
    step = kernel.shape[2]
    for t in range(len(clip) // step):
        for place in range(SIDE**2):
            top, left = place // SIDE * PATCH, place % SIDE * PATCH
            tube = clip[t * step : (t + 1) * step, :, top : top + PATCH, left : left + PATCH]
            value = torch.stack([(tube.transpose(0, 1) * kernel[d]).sum() for d in range(D)])
            where = w["pos_embed"][0, 1 + place] + w["temporal_pos_embedding"][0, t]
            found.append(value + w["patch_embed.proj.bias"] + where)
    return torch.stack(found)


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def scanned(u: Tensor, w: dict[str, Tensor], layer: str, b: str) -> Tensor:
    """Convolution and selective state space of one direction, step by step: `[L, INNER]` -> `[L, INNER]`."""
    A, kernel = -w[f"{layer}.A{b}_log"].exp(), w[f"{layer}.conv1d{b}.weight"][:, 0]
    h, outputs = torch.zeros(INNER, STATE), []
    for t in range(len(u)):
        x = w[f"{layer}.conv1d{b}.bias"].clone()
        for back in range(min(t + 1, CONV)):
            x = x + kernel[:, CONV - 1 - back] * u[t - back]
        x = x * x.sigmoid()
        made = w[f"{layer}.x_proj{b}.weight"] @ x
        dt, B, C = made[:RANK], made[RANK : RANK + STATE], made[RANK + STATE :]
        delta = F.softplus(w[f"{layer}.dt_proj{b}.weight"] @ dt + w[f"{layer}.dt_proj{b}.bias"])
        h = (delta[:, None] * A).exp() * h + (delta * x)[:, None] * B
        outputs.append(h @ C + w[f"{layer}.D{b}"] * x)
    return torch.stack(outputs)


def plain(w: dict[str, Tensor], clip: Tensor) -> Tensor:
    """Scores of one clip."""
    x = tokens(w, clip)
    for i in range(LAYERS):
        layer = f"layers.{i}.mixer"
        inner, z = (normed(x, w[f"layers.{i}.norm.weight"]) @ w[f"{layer}.in_proj.weight"].T).split(INNER, dim=1)
        both = scanned(inner, w, layer, "") + scanned(inner.flip(0), w, layer, "_b").flip(0)
        x = x + (both * z * z.sigmoid()) @ w[f"{layer}.out_proj.weight"].T
    return w["head.weight"] @ normed(x, w["norm_f.weight"])[0] + w["head.bias"]


def written(folder: Path, weights: dict[str, Tensor], **wrapped: Any) -> Path:
    torch.save({"model": weights, **wrapped} if wrapped else weights, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("tubelet", [1, 2])
def test_computes_what_is_published(tubelet: int, tmp_path: Path) -> None:
    weights, x = published(tubelet=tubelet), clips(2, FRAMES * tubelet, 3, SIDE * PATCH, SIDE * PATCH)
    model = load_pretrained(written(tmp_path, weights, epoch=3))
    assert (model.n_frame, model.size, model.tubelet) == (FRAMES * tubelet, SIDE * PATCH, tubelet)
    with torch.no_grad():
        wanted = torch.stack([plain(weights, clip) for clip in x])
        assert_close(model(x), wanted, rtol=2e-5, atol=2e-5)
        short = plain(weights, x[1, : 2 * tubelet])
        found = model(x, torch.tensor([FRAMES * tubelet, 2 * tubelet]))
        assert_close(found, torch.stack([wanted[0], short]), rtol=2e-5, atol=2e-5)


def test_as_our_own_checkpoint(tmp_path: Path) -> None:
    model = load_pretrained(written(tmp_path, published()))
    save(model, tmp_path / "ours")
    again, x = load(tmp_path / "ours"), clips(1, FRAMES, 3, 8, 8)
    assert torch.equal(again(x), model(x))
    assert again.config["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert again.reads == {"channels": 3, "size": 8, "patch": 4, "tubelet": 1, "n_frame": 3, "order": "spatial"}


def test_training_begins_with_it(tmp_path: Path) -> None:
    path = written(tmp_path, published())
    other = load_pretrained(path)
    config = {**other.config, "classes": ["run", "jump"]}
    model: Any = build_model(config)
    said = take_weights(model, Start(checkpoint=str(path)))
    assert said.endswith("new: head.1.bias, head.1.weight")
    x = clips(2, FRAMES, 3, 8, 8)
    assert torch.equal(model.eval().embed(x), other.embed(x))


@pytest.mark.parametrize("n_frame", [6, 2])
def test_another_number_of_frames(n_frame: int, tmp_path: Path) -> None:
    weights = published()
    model = load_pretrained(written(tmp_path, weights), n_frame=n_frame)
    moments = []
    for t in range(n_frame):
        # moments are the middles of equal parts of the clip
        at = min(max((t + 0.5) * FRAMES / n_frame - 0.5, 0), FRAMES - 1)
        before, share = math.floor(at), at - math.floor(at)
        after = min(before + 1, FRAMES - 1)
        slots = weights["temporal_pos_embedding"][0]
        moments.append((1 - share) * slots[before] + share * slots[after])
    assert_close(model.embedding.temporal_pos_embedding[0], torch.stack(moments))
    weights["temporal_pos_embedding"] = torch.stack(moments)[None]
    x = clips(n_frame, 3, 8, 8)
    with torch.no_grad():
        assert_close(model(x[None])[0], plain(weights, x), rtol=2e-5, atol=2e-5)


def test_another_size(tmp_path: Path) -> None:
    weights = published()
    model = load_pretrained(written(tmp_path, weights), size=12)
    found, given = model.embedding.pos_embed[0], weights["pos_embed"][0]
    assert torch.equal(found[0], given[0])
    assert_close(found[1:].mean(0), given[1:].mean(0), rtol=0.1, atol=0.1)
    assert_close(found[[1, 3, 7, 9]].flip(0), model_of(flipped(weights), tmp_path).embedding.pos_embed[0, [1, 3, 7, 9]])
    assert model(clips(1, FRAMES, 3, 12, 12)).shape == (1, CLASSES)


def flipped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    turned = torch.cat([weights["pos_embed"][:, :1], weights["pos_embed"][:, 1:].flip(1)], dim=1)
    return {**weights, "pos_embed": turned}


def model_of(weights: dict[str, Tensor], folder: Path) -> Any:
    return load_pretrained(written(folder, weights), size=12)


@pytest.mark.parametrize(("tubelet", "centre"), [(1, 0), (2, 1), (3, 1)])
def test_weights_of_images(tubelet: int, centre: int, tmp_path: Path) -> None:
    weights = published(images=True)
    path = written(tmp_path, weights)
    model = load_pretrained(path, family="video_mamba", tubelet=tubelet, n_frame=2 * tubelet)
    clip = clips(2 * tubelet, 3, 8, 8)
    shown = {**weights, "temporal_pos_embedding": torch.zeros(1, 2, D)}
    shown["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].unsqueeze(2)
    with torch.no_grad():
        # each tube is its middle picture
        assert_close(model(clip[None])[0], plain(shown, clip[centre::tubelet]), rtol=2e-5, atol=2e-5)
    with pytest.raises(InputError, match=r"no model_type, and the tensors' names .* Pass family=NAME"):
        load_pretrained(path)


@pytest.mark.parametrize("name", ["layers.1.mixer.A_b_log", "norm_f.weight", "layers.2.mixer.conv1d_b.bias"])
def test_missing_tensor(name: str, tmp_path: Path) -> None:
    weights = published()
    del weights[name]
    with pytest.raises(InputError, match=f"lacks tensor '{name}'"):
        load_pretrained(written(tmp_path, weights))


def test_tensors_that_sizes_follow_from(tmp_path: Path) -> None:
    weights = published()
    for name in ("pos_embed", "head.weight", "layers.0.mixer.A_log"):
        others = {key: tensor for key, tensor in weights.items() if key != name}
        with pytest.raises(InputError, match=f"lacks tensor '{name}', without which the model's size is not known"):
            load_pretrained(written(tmp_path, others))
    with pytest.raises(InputError, match=r"pos_embed has shape \[5\], expected 3 dimensions"):
        load_pretrained(written(tmp_path, {**weights, "pos_embed": torch.zeros(5)}))
    with pytest.raises(InputError, match="pos_embed has 6 places behind the class token's, expected a square"):
        load_pretrained(written(tmp_path, {**weights, "pos_embed": torch.zeros(1, 7, D)}))


def test_unexpected_tensor_and_options(tmp_path: Path) -> None:
    path = written(tmp_path, {**published(), "decoder.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"has the unexpected tensor 'decoder.weight'"):
        load_pretrained(path)
    path = written(tmp_path, published())
    with pytest.raises(InputError, match="tubelet=2 was asked for, these weights of clips have 1"):
        load_pretrained(path, tubelet=2)
    with pytest.raises(InputError, match="n_frame is 0, expected a whole number from 1"):
        load_pretrained(path, n_frame=0)
    with pytest.raises(InputError, match="size is 10, expected a multiple of patch, which is 4"):
        load_pretrained(path, size=10)
