"""A small checkpoint for tests."""

from helixwave.checkpoint import build_model, save
from helixwave_domains.ecg.leads import LEADS
from helixwave_domains.ecg.preprocessing import Preprocessing

BACKBONE = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "gru"}]}


def tiny_model(classes=("AF", "NSR", "PVC|VPB"), predicts="labels", leads=LEADS, rate=100.0, seed=0, **settings):
    """An untrained model with all that a checkpoint of a trained one says."""
    import torch

    torch.manual_seed(seed)
    preprocessing = Preprocessing(rate=rate, leads=list(leads), **{"window": 5.0, **settings})
    thresholds = {"thresholds": [0.3, 0.5, 0.7]} if predicts == "labels" else {}
    config = {
        "model": {"name": "ecg_model", "channels": len(leads), "widths": [8], "kernels": [7, 5], "strides": [4, 2]},
        "backbone": BACKBONE,
        "classes": list(classes),
        "predicts": predicts,
        "preprocessing": preprocessing.config(),
        "calibration": {"temperature": 2.0, **thresholds},
    }
    return build_model(config).eval()


def tiny_checkpoint(folder, **settings):
    """The same in a folder."""
    save(tiny_model(**settings), folder)
    return folder
