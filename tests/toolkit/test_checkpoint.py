import json
import os
import pickle
from collections import namedtuple

import pytest
import torch
from helixwave.backbone import Backbone
from helixwave.checkpoint import build_model, load, save
from helixwave.errors import InputError
from helixwave.registry import MODELS
from helixwave.training_state import SafetensorsIO
from safetensors.torch import load_file, save_file
from torch import nn

BACKBONE = {"d_model": 8, "n_layer": 2, "blocks": [{"name": "mlp"}, {"name": "mamba", "d_state": 4}]}


class Tagger(nn.Module):
    """A class for each token; its head can be the embedding."""

    def __init__(self, *, backbone: Backbone, classes: list[str], tied: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(len(classes), backbone.d_model)
        self.backbone = backbone
        self.head = nn.Linear(backbone.d_model, len(classes))
        self.register_buffer("scale", torch.tensor(2.0))
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, inputs):
        return self.scale * self.head(self.backbone(self.embedding(inputs))[0])


class Scale(nn.Module):
    """A model with layers of its own."""

    def __init__(self, *, classes: list[str]):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(len(classes)))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(MODELS, "_local", {})
    MODELS.register("tagger")(Tagger)
    MODELS.register("scale")(Scale)


def test_a_model_with_layers_of_its_own(tmp_path):
    model = build_model({"model": {"name": "scale"}, "backbone": None, "classes": ["a", "b"]})
    save(model, tmp_path)
    assert torch.equal(load(tmp_path).weight, model.weight)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "backbone": BACKBONE}))
    with pytest.raises(InputError, match=r"config\.json: backbone: the model scale has layers of its own"):
        load(tmp_path)


def tagger(*, tied=False):
    torch.manual_seed(0)
    model = build_model({"model": {"name": "tagger", "tied": tied}, "backbone": BACKBONE, "classes": ["a", "b", "c"]})
    nn.init.constant_(model.scale, 3.0)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    save(tagger(), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def change_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("tied", [False, True], ids=["plain", "tied"])
def test_loaded_model_predicts_the_same(tmp_path, tied):
    model, inputs = tagger(tied=tied), torch.tensor([[0, 1, 2, 1]])
    save(model, tmp_path / "run" / "checkpoint")
    torch.manual_seed(1)
    for place in (tmp_path / "run" / "checkpoint", str(tmp_path / "run")):
        again = load(place)
        assert not again.training
        assert again.config == model.config
        assert (again.head.weight is again.embedding.weight) == tied
        torch.testing.assert_close(again(inputs), model(inputs), rtol=0, atol=0)
    assert ("head.weight" in load_file(tmp_path / "run/checkpoint/model.safetensors")) != tied


def test_saving_a_loaded_model_changes_nothing(folder, tmp_path):
    save(load(folder), tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head.bias"), "lacks tensor 'head.bias'$"),
        (
            lambda tensors: [tensors.pop(f"head.{name}") for name in ("bias", "weight")],
            "lacks .*'head.bias' and 1 more",
        ),
        (lambda tensors: tensors.update(more=torch.ones(1)), "has the unexpected tensor 'more'$"),
        (
            lambda tensors: tensors.update({"head.bias": torch.ones(4)}),
            r"head\.bias has shape \[4\], the configuration makes it \[3\]",
        ),
    ],
    ids=["missing", "two missing", "extra", "shape"],
)
def test_tensors_that_do_not_fit(folder, change, message):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"model\.safetensors:? {message}"):
        load(folder)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_file_that_is_cut_off(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"model\.safetensors: not a complete safetensors file"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99), "checkpoint format 99, this version reads format 1"),
        (lambda c: c.pop("format"), "checkpoint format None"),
        (lambda c: c["model"].update(name="taggr"), "model: no model named 'taggr'. Did you mean 'tagger'"),
        (lambda c: c["model"].update(tide=True), r"model \(tagger\): unknown key 'tide'. Did you mean 'tied'"),
        (lambda c: c["model"].update(tied=1), "tied is 1, expected bool"),
        (lambda c: c["backbone"].update(blocks=[{"name": "os.system"}]), r"blocks\[0\]: no block named 'os.system'"),
        (lambda c: c["backbone"].update(blocks=[]), "backbone: blocks is empty"),
        (lambda c: c["backbone"].pop("d_model"), "backbone: d_model is missing"),
        (lambda c: c.pop("classes"), "'classes' is None, expected a list"),
        (lambda c: c.update(model="tagger"), "'model' is 'tagger', expected a dict"),
    ],
)
def test_configuration_that_does_not_fit(folder, change, message):
    change_config(folder, change)
    with pytest.raises(InputError, match=rf"config\.json: .*{message}"):
        load(folder)


@pytest.mark.parametrize("text", [b"", b'{"format": 1', b"\xff\xfe"], ids=["empty", "cut off", "no text"])
def test_configuration_that_is_no_json(folder, text):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(InputError, match=r"config\.json: not valid JSON .* damaged; copy it again"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_configuration_that_is_something_else(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match="checkpoint format None"):
        load(folder)


def test_folder_that_is_no_checkpoint(tmp_path, folder):
    with pytest.raises(InputError, match="nowhere is no checkpoint: there is no such folder"):
        load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"is no checkpoint: it holds no config\.json with model\.safetensors"):
        load(folder)


def test_a_pickle_is_refused_and_not_executed(folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for content in (pickle.dumps(Payload()), pickle.dumps({"weight": Payload()}, protocol=0)):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="not a complete safetensors file"):
            load(folder)
    torch.save({"weight": Payload()}, folder / "model.safetensors")
    with pytest.raises(InputError, match="not a complete safetensors file"):
        load(folder)
    assert not (tmp_path / "executed").exists()


Pair = namedtuple("Pair", "first second")
SHARED = torch.arange(3.0)
STATES = [
    {"epoch": 3, "done": False, "best": None, "name": "ü", "score": 0.1, "worst": float("-inf")},
    {1: {"a": [1, (2, [3.5, ()])]}, ("x", 2): {}, None: []},
    {"weight": torch.randn(2, 3), "step": torch.tensor(7), "empty": torch.zeros(0, 4), "mask": torch.tensor([True])},
    {"half": torch.randn(3).bfloat16(), "whole": torch.arange(3, dtype=torch.int8)},
    [SHARED, SHARED, SHARED[1:], SHARED.view(3, 1), torch.eye(3).T],
    [nn.Parameter(torch.ones(2)).detach(), torch.ones(3).expand(2, 3)],
]


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("state", STATES, ids=["plain", "nested", "tensors", "dtypes", "shared", "strided"])
def test_training_state_is_read_back(tmp_path, state):
    SafetensorsIO().save_checkpoint(state, tmp_path / "state")
    assert_same(SafetensorsIO().load_checkpoint(tmp_path / "state"), state)


def test_training_state_of_an_optimiser(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    SafetensorsIO().save_checkpoint(optimizer.state_dict(), tmp_path / "state")
    assert_same(SafetensorsIO().load_checkpoint(tmp_path / "state"), optimizer.state_dict())


def test_named_tuples_come_back_as_tuples(tmp_path):
    SafetensorsIO().save_checkpoint({"pair": Pair(1, 2), "size": torch.Size([3])}, tmp_path / "state")
    assert SafetensorsIO().load_checkpoint(tmp_path / "state") == {"pair": (1, 2), "size": (3,)}


@pytest.mark.parametrize("value", [object(), {1}, b"bytes", print, 1j], ids=lambda value: type(value).__name__)
def test_training_state_refuses_objects(tmp_path, value):
    with pytest.raises(TypeError, match=f"holds a {type(value).__name__}, which has no place in a safe file"):
        SafetensorsIO().save_checkpoint({"a": [value]}, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_training_state_that_is_cut_off(tmp_path):
    path = tmp_path / "state"
    SafetensorsIO().save_checkpoint(STATES[2], path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="state: not a complete safetensors file"):
        SafetensorsIO().load_checkpoint(path)
    SafetensorsIO().remove_checkpoint(path)
    SafetensorsIO().remove_checkpoint(path)
    assert not path.exists()
