"""The class token in the middle, the positions and the start of `ecg_mamba`."""

import math
from typing import Any

import pytest
import torch
from helixwave.errors import InputError
from helixwave.optimisation import parameter_groups
from helixwave_domains.ecg.vision_mamba import ECGMamba
from torch.testing import assert_close


def make(**arguments: Any) -> Any:
    torch.manual_seed(0)
    return ECGMamba(
        classes=["a", "b"],
        channels=2,
        d_model=8,
        d_state=4,
        max_length=20,
        widths=[],
        kernels=[3],
        strides=[2],
        **{"n_layer": 2, **arguments},
    )


def test_the_token_stands_in_the_middle_of_what_is_valid() -> None:
    model, x = make(), torch.randn(3, 20, 2)
    lengths = [20, 9, 1]
    embedded, valid = model.embedding(x, torch.tensor(lengths))
    stem, _ = model.embedding.stem(x, torch.tensor(lengths))
    assert valid.tolist() == [11, 6, 2]
    for i, length in enumerate(lengths):
        n = math.ceil(length / 2)
        token = model.embedding.token[None]
        wanted = torch.cat([stem[i, : n // 2], token, stem[i, n // 2 : n]])
        assert_close(embedded[i, : n + 1], wanted + model.embedding.positions[: n + 1])
        hidden, _ = model.backbone(embedded[i : i + 1, : n + 1])
        assert_close(model.head.pooled(hidden, None)[0], hidden[0, n // 2])


def test_start_and_weight_decay() -> None:
    one, four = make(n_layer=1), make(n_layer=4)
    first, later = (model.backbone.blocks[0].mamba_fwd.out_proj.weight for model in (one, four))
    assert_close(later, first / 2)
    groups = parameter_groups(four, lr=1.0, weight_decay=0.1)
    plain = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, p in four.named_parameters() if id(p) in plain}
    assert {"embedding.positions", "embedding.token", "backbone.blocks.0.mamba_rev.A_log"} <= names
    assert "backbone.blocks.0.mamba_fwd.D" in names
    assert "head.linear.weight" not in names


def test_errors() -> None:
    with pytest.raises(InputError, match="positions for 20 samples, an input has 21"):
        make()(torch.zeros(1, 21, 2))
    with pytest.raises(InputError, match="max_length is 0, expected at least 1 sample"):
        ECGMamba(classes=["a"], max_length=0)
