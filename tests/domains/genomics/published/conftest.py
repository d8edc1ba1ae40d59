"""Checkpoints with random weights, written as their authors' programs do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def write_checkpoint(folder: Path, config: dict[str, Any], tensors: Tensors, file: str = "model.safetensors") -> Path:
    """A folder as on the hub; with the ending `.ckpt` as Lightning leaves it after a run that Hydra configured."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if file.endswith(".safetensors"):
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / file)
    elif file.endswith(".ckpt"):
        metrics = {"train_torchmetrics.num_tokens.count": torch.tensor(7), "val_torchmetrics.loss.value": torch.ones(1)}
        state = {f"model.{name}": tensor for name, tensor in tensors.items()} | metrics
        run = {"hyper_parameters": OmegaConf.create({"model": config, "seed": [1, "${model.d_model}"]}), "epoch": 3}
        torch.save(
            {"state_dict": state, "pytorch-lightning_version": "1.8.6", "optimizer_states": [{}]} | run, folder / file
        )
    else:
        torch.save(tensors, folder / file)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(config, tensors, file)` -> the folder."""
    return lambda *content, folder="published": write_checkpoint(tmp_path / folder, *content)
