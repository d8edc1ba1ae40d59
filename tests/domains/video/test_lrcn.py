"""A net for each frame and a backbone over frames: what is a clip's own, what learns, and timm by a stand-in."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import build_model
from helixwave.errors import InputError
from helixwave_domains.video import frame_features
from helixwave_domains.video.lrcn import LRCN
from torch import Tensor, nn
from torch.testing import assert_close


def make(blocks: Any = None, **arguments: Any) -> LRCN:
    torch.manual_seed(0)
    backbone = Backbone(8, n_layer=1, blocks=blocks or [{"name": "lstm"}])
    return LRCN(backbone=backbone, **{"classes": ["a", "b", "c"], "channels": 2, **arguments})


def clips(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pool", ["mean", "last"])
@pytest.mark.parametrize("block", [{"name": "lstm"}, {"name": "bidirectional", "block": {"name": "mlstm"}}], ids=str)
def test_padding_and_other_clips_change_nothing(block: dict[str, Any], pool: Any) -> None:
    model, x, lengths = make([block], pool=pool).eval(), clips(3, 6, 2, 16, 16), [6, 2, 1]
    together = model(x, torch.tensor(lengths))
    spoilt = x.clone()
    for i, length in enumerate(lengths):
        spoilt[i, length:] = torch.nan
        assert_close(model(x[i : i + 1, :length])[0], together[i], rtol=0, atol=1e-6)
    assert torch.equal(model(spoilt, torch.tensor(lengths)), together)


def test_scores_are_those_of_frames_averaged() -> None:
    model, x, lengths = make().eval(), clips(2, 5, 2, 16, 16), torch.tensor([5, 3])
    frames = torch.stack([torch.stack([model.embedding.net(frame[None])[0] for frame in clip]) for clip in x])
    hidden, _ = model.backbone(model.embedding.linear(frames), lengths=lengths)
    scores = model.head(hidden)
    wanted = torch.stack([scores[0].mean(0), scores[1, :3].mean(0)])
    assert_close(model(x, lengths), wanted)
    assert_close(model.head(model.embed(x, lengths)), wanted)
    last = make(pool="last").eval()
    assert_close(last(x, lengths), torch.stack([scores[0, 4], scores[1, 2]]))


@pytest.mark.parametrize("frozen", [False, True])
def test_what_learns(frozen: bool) -> None:
    model = make(frozen=frozen).train()
    model(clips(2, 4, 2, 16, 16), torch.tensor([4, 3])).square().sum().backward()
    for name, parameter in model.named_parameters():
        learns = not (frozen and name.startswith("embedding.net."))
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name
    assert model.embedding.net.training != frozen


def test_places_within_a_frame_are_kept() -> None:
    net = frame_features.SmallCNN(1)
    frame = torch.zeros(2, 1, 32, 32)
    frame[0, :, :8, :8] = frame[1, :, 24:, 24:] = 1
    here, there = net(frame)
    assert (here - there).abs().max() > 0.1


def test_from_a_recipe() -> None:
    backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "slstm", "n_head": 2}]}
    config = {"model": {"name": "lrcn", "channels": 2}, "backbone": backbone, "classes": ["a", "b"]}
    assert build_model(config)(clips(1, 2, 2, 16, 16)).shape == (1, 2)


class Published(nn.Module):
    """What timm builds, as far as it is looked at."""

    def __init__(self, channels: int):
        super().__init__()
        self.num_features, self.head_hidden_size = 6, 6
        self.pretrained_cfg = {"input_size": (3, 16, 16), "fixed_input_size": True}
        self.conv, self.norm = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).mean((-2, -1))


def create_model(name: str, *, pretrained: bool, in_chans: int, num_classes: int) -> nn.Module:
    assert pretrained
    assert num_classes == 0
    if name != "resnet18":
        raise RuntimeError(f"Unknown model ({name})")
    return Published(in_chans)


def test_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    model, x = make(frame="timm:resnet18").train(), clips(2, 3, 2, 16, 16)
    assert_close(model(x)[:1], model(x[:1]))  # no statistics of the batch, in training too
    with pytest.raises(InputError, match=r"reads 16 x 16 pixels, the frames have 8 x 12. Set data.size=16"):
        model(x[..., :8, :12])
    with pytest.raises(InputError, match=r"timm cannot build 'resnet' \(Unknown model \(resnet\)\)"):
        make(frame="timm:resnet")


@pytest.mark.parametrize("error", [ImportError("absent"), OSError("libnvrtc.so.13"), RuntimeError("operator nms")])
def test_timm_that_cannot_be_imported(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: Any) -> Any:
        if name == "timm":
            raise error
        return original(name, *_)

    import builtins

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=rf"import fails \({error}\). pip install 'helixwave\[timm\]'"):
        frame_features.frame_net("timm:resnet18", 3)


def test_errors() -> None:
    with pytest.raises(InputError, match=r"no frame net named 'smal'. Did you mean 'small'\?"):
        make(frame="smal")
    with pytest.raises(InputError, match=r"reads clips \[B, T, 2, H, W\], the inputs have shape \[1, 4, 3, 8, 8\]"):
        make()(clips(1, 4, 3, 8, 8))
