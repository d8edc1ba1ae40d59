"""A small checkpoint for tests."""

from typing import Any

from helixwave.checkpoint import build_model, save
from helixwave_domains.video.preprocessing import Preprocessing

BACKBONE = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "lstm"}]}


def tiny_model(classes=("run", "sit", "stand"), predicts="class", **settings: Any):
    """An untrained model with all that a checkpoint of a trained one says."""
    import torch

    torch.manual_seed(0)
    preprocessing = Preprocessing(**{"n_frame": 4, "size": 16, "rate": 5.0, "sampling": "dense", **settings})
    thresholds = {"thresholds": [0.3, 0.5, 0.7]} if predicts == "labels" else {}
    config = {
        "model": {"name": "lrcn", "channels": preprocessing.channels},
        "backbone": BACKBONE,
        "classes": list(classes),
        "predicts": predicts,
        "preprocessing": preprocessing.config(),
        "calibration": {"temperature": 0.05, **thresholds},
    }
    return build_model(config).eval()


def tiny_checkpoint(folder, **settings: Any):
    """The same in a folder."""
    save(tiny_model(**settings), folder)
    return folder
