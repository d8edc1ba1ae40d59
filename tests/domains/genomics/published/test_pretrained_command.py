"""`helixwave pretrained`: what is listed, what a checkpoint is said to hold, and that what is fetched becomes ours."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from helixwave.checkpoint import load, save
from helixwave.cli import main
from helixwave.pretrained import load_pretrained
from helixwave.pretrained.families import FAMILIES, family_named
from safetensors.torch import save_file
from torch import Tensor

SIZES = {"d_model": 8, "n_layer": 1, "vocab_size": 8, "rcps": True, "ssm_cfg": {"d_state": 4}}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Call `helixwave pretrained` in an empty folder: `(exit code, output, errors)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["helixwave", "pretrained", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A PlantCaduceus of one layer."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "caduceus", **SIZES}))
    mixer = {"in_proj.weight": (32, 8), "conv1d.weight": (16, 1, 4), "conv1d.bias": (16,), "x_proj.weight": (9, 16)}
    mixer |= {
        "dt_proj.weight": (16, 1),
        "dt_proj.bias": (16,),
        "A_log": (16, 4),
        "D": (16,),
        "out_proj.weight": (8, 16),
    }
    tensors: dict[str, Tensor] = {
        f"layers.0.mixer.submodule.mamba_{direction}.{name}": torch.randn(shape)
        for direction in ("fwd", "rev")
        for name, shape in mixer.items()
        if direction == "fwd" or "_proj.weight" not in name or name[0] not in "io"
    }
    tensors |= {"layers.0.norm.weight": torch.ones(8), "norm_f.weight": torch.ones(8)}
    tensors |= {"embeddings.word_embeddings.embedding.weight": torch.randn(8, 8)}
    tensors |= {"embeddings.word_embeddings.complement_map": torch.tensor([0, 1, 2, 6, 5, 4, 3, 7])}
    save_file({f"caduceus.backbone.{name}": t for name, t in tensors.items()}, folder / "model.safetensors")
    return folder


def test_list_names_every_family_and_what_it_declares(run: Run) -> None:
    code, output, _ = run("list")
    assert code == 0
    first = [line.split(":")[0] for line in output.splitlines() if line and line[0].islower()]
    assert [name for name in first if name in FAMILIES] == [*FAMILIES]
    lines = [line.split() for line in output.splitlines() if line.startswith("  ")]
    declared = [checkpoint for name in FAMILIES for checkpoint in family_named(name).checkpoints]
    assert lines == [
        [known.name, f"{known.parameters:,}", "any" if known.context is None else f"{known.context:,}"]
        for known in declared
    ]
    assert "Licences are not known here" in output


def facts(output: str) -> dict[str, str]:
    return {line[:30].split("  ")[0]: " ".join(line.split("  ")[1:]).strip() for line in output.splitlines()}


def test_info_of_a_folder_a_file_and_one_of_ours(run: Run, published: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest()
    for path in (published, published / "model.safetensors"):
        found = facts(run("info", path)[1])
        assert found["family"] == "caduceus"
        assert found["sha256 of model.safetensors"] == digest
    model = load_pretrained(published)
    assert found["parameters"] == f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    assert (found["model"], found["context"]) == ("dna_language_model", "any")
    assert found["vocabulary"] == "[PAD] [MASK] [UNK] a c g t [7]"
    assert found["tensors"] == "20"
    for folder in (tmp_path / "ours", tmp_path / "run" / "checkpoint"):
        save(model, folder)
    for path in (tmp_path / "ours", tmp_path / "run"):
        ours = facts(run("info", path)[1])
        assert ours["family"] == "helixwave"
        assert all(ours[key] == found[key] for key in ("model", "parameters", "vocabulary", "context"))
        # what is tied stands once, and the complement in the configuration
        assert ours["tensors"] == "19"


def test_info_looks_into_the_cache_of_the_hub_alone(run: Run, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(name: str, file: str, revision: str | None) -> str | None:
        return str(published / file) if name == "someone/small" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert facts(run("info", "someone/small")[1])["family"] == "caduceus"
    code, _, errors = run("info", "someone/other")
    assert code == 1
    assert "neither a folder here nor in the cache" in errors
    assert "helixwave pretrained fetch someone/other" in errors


def test_fetch_writes_a_checkpoint_of_ours(run: Run, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, file: str, revision: str | None) -> str:
        assert (name, revision) == ("someone/small", "v2")
        return str(published / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    code, output, _ = run("fetch", "someone/small", "--revision", "v2")
    assert (code, output) == (0, "small\n")
    ids = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(load("small").logits(ids), load_pretrained(published).logits(ids))
    code, _, errors = run("fetch", "someone/small")
    assert (code, errors) == (1, "helixwave: small is there already. Choose another folder: --output FOLDER\n")


def test_fetch_of_a_folder_with_options(run: Run, published: Path) -> None:
    code, output, _ = run("fetch", published, "-o", "ours")
    assert (code, output) == (0, "ours\n")
    for option, message in (
        ("shift=0.0", "caduceus has no option 'shift'"),
        ("shift", "'shift' is no option, expected"),
    ):
        code, _, errors = run("fetch", published, option, "-o", "other")
        assert code == 1
        assert message in errors
        assert not Path("other").exists()


def test_fetch_without_a_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    code, _, errors = run("fetch", "someone/small")
    assert code == 1
    assert errors.count("\n") == 1
    assert "could not be had from the Hugging Face hub" in errors
    assert not Path("small").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "nowhere: there is no such folder or file. Expected one, or a hub name OWNER/MODEL"),
        (["fetch", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_names_of_nothing(arguments: list[str], message: str, run: Run) -> None:
    code, _, errors = run(*arguments)
    assert code == 1
    assert message in errors


def test_what_is_no_whole_model_is_not_fetched(run: Run, tmp_path: Path) -> None:
    shapes = {"D": (4,), "kernel.C": (4, 2, 2), "kernel.log_dt": (4,), "kernel.log_A_real": (4, 2)}
    shapes |= {"kernel.A_imag": (4, 2), "output_linear.0.weight": (8, 4, 1), "output_linear.0.bias": (8,)}
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "layer.safetensors")
    code, _, errors = run("fetch", "layer.safetensors", "-o", "ours")
    assert code == 1
    assert "layer.safetensors is no whole model, only S4D: a checkpoint cannot hold it" in errors
