"""Models for other programs: the same scaling, the same operators, the same probabilities."""

import importlib
import json
import subprocess
import sys

import helixwave_kernels
import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model, save
from helixwave.errors import InputError
from helixwave_domains.ecg import export as exporting
from helixwave_domains.ecg.export import FromMillivolts, export, main
from helixwave_domains.ecg.export_operators import plain_operators
from helixwave_domains.ecg.predictor import Predictor
from helixwave_domains.ecg.preprocessing import Preprocessing
from torch.utils._python_dispatch import TorchDispatchMode

LEADS = ["I", "II", "V1"]
CALIBRATION = {"temperature": 1.5, "thresholds": [0.3, 0.4]}


def checkpoint(folder, *blocks, predicts="labels", **preprocessing):
    """A tiny model of windows of 64 samples of three leads."""
    torch.manual_seed(0)
    read = Preprocessing(rate=100.0, leads=LEADS, window=0.64, **preprocessing)
    config = {
        "model": {"name": "ecg_model", "channels": 3, "widths": [8, 8]},
        "backbone": {"d_model": 8, "n_layer": len(blocks), "blocks": [{"name": name} for name in blocks]},
        "classes": ["a", "b"],
        "predicts": predicts,
        "preprocessing": read.config(),
        "calibration": CALIBRATION,
    }
    save(build_model(config), folder)
    return folder


def windows(n=2) -> np.ndarray:
    found = np.random.default_rng(1).normal(size=(n, 3, 64)).astype(np.float32)
    found[0, 1] = np.nan
    found[-1, 2, 10:30] = np.nan
    found[-1, 0] = 0.25
    return found


def expected(folder, millivolts) -> np.ndarray:
    """Probabilities by numpy from the logits of the checkpoint."""
    predictor = Predictor.load(folder)
    inputs = np.stack([predictor.preprocessing.scaled(window) for window in millivolts])
    with torch.no_grad():
        logits = predictor.model(torch.from_numpy(inputs), torch.full((len(inputs),), 64)).numpy()
    return 1 / (1 + np.exp(-logits / CALIBRATION["temperature"]))


@pytest.mark.parametrize("scale", ["window", "constants", "none"])
def test_the_scaling_is_that_of_the_preprocessing(scale):
    preprocessing = Preprocessing(rate=100.0, leads=LEADS, window=0.64, scale=scale, mean=0.3, deviation=0.2)
    module = FromMillivolts(torch.nn.Identity(), preprocessing, "labels", 1.0)
    nearly_flat = windows(3)
    nearly_flat[1, 0] = 1 + 1e-3 * nearly_flat[1, 0]
    for window, found in zip(nearly_flat, module.scaled(torch.from_numpy(nearly_flat)), strict=True):
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), preprocessing.scaled(window), atol=1e-6)


class Plain(TorchDispatchMode):
    """Runs plain forms in the place of custom operators."""

    def __init__(self):
        super().__init__()
        self.table, self.seen = plain_operators(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.table:
            self.seen.add(function)
            return self.table[function](*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


QUICK = [("selective_scan", "mamba"), ("recurrent", "slstm"), ("long_conv", "same"), ("short_conv", "silu")]
OTHERS = [
    *[("selective_scan", variant) for variant in ("grouped", "time_invariant", "negative_eigenvalues")],
    *[("mlstm", variant) for variant in ("exp", "sigmoid", "sigmoid_unnormalized")],
    *[("recurrent", variant) for variant in ("lstm", "gru", "elman")],
    *[("long_conv", variant) for variant in ("causal", "short_kernel", "long_kernel")],
    ("linear_scan", "real"),
]


@pytest.mark.parametrize(
    ("name", "variant"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_plain_operators_mean_what_the_reference_means(name, variant):
    torch.manual_seed(0)
    op = getattr(helixwave_kernels, name)
    inputs = importlib.import_module(f"helixwave_kernels.{name}.cases").random_inputs(variant, T=12)
    with torch.no_grad(), Plain() as plain:
        found = op(**inputs, impl="chunked")
    assert plain.seen
    torch.testing.assert_close(found, op(**inputs, impl="reference"), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_plain_recurrence_of_matrices():
    from helixwave.blocks import dense_state_space

    torch.manual_seed(0)
    injected, A, start = torch.randn(2, 3, 5, 4), torch.randn(2, 4, 4), torch.randn(2, 3, 4)
    with Plain() as plain:
        found = torch.ops.helixwave.dense_recurrence(injected, A, start)
    assert plain.seen
    torch.testing.assert_close(found, dense_state_space._recurrence(injected, A, start))


@pytest.mark.parametrize("block", ["gru", pytest.param("bimamba", marks=pytest.mark.slow)])
def test_torch_export_gives_the_same_probabilities(tmp_path, capsys, block):
    folder, path = checkpoint(tmp_path / "run", block, lowpass=40.0), tmp_path / "model.pt2"
    main([str(folder), str(path)])
    said = capsys.readouterr().out
    assert "largest difference from the original" in said
    assert "before torch.export.load" in said
    run = torch.export.load(path).module()
    for batch in (windows(), windows()[:1], windows(5)):
        np.testing.assert_allclose(run(torch.from_numpy(batch)).numpy(), expected(folder, batch), atol=1e-6)
    found = json.loads((tmp_path / "model.pt2.json").read_text())
    assert found["leads"] == LEADS
    assert (found["rate"], found["window"], found["classes"]) == (100.0, 0.64, ["a", "b"])
    assert found["thresholds"] == CALIBRATION["thresholds"]
    assert found["input"]["shape"] == ["batch", 3, 64]
    np.testing.assert_allclose(found["filter_before"], Predictor.load(folder).preprocessing.taps)
    assert found["largest_difference"] < 1e-4


@pytest.mark.slow
def test_another_process_loads_what_torch_exported(tmp_path):
    folder, path = checkpoint(tmp_path / "run", "s4", "mlstm"), tmp_path / "model.pt2"
    export(folder, path)
    np.save(tmp_path / "in.npy", windows())
    code = (
        "import sys, numpy, torch, helixwave_domains.ecg.export_operators\n"
        "run = torch.export.load(sys.argv[1] + '/model.pt2').module()\n"
        "numpy.save(sys.argv[1] + '/out.npy', run(torch.from_numpy(numpy.load(sys.argv[1] + '/in.npy'))).numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(folder, windows()), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [("bimamba", "slstm"), ("s4", "mlstm"), ("hyena",)], ids=str)
def test_onnx_gives_the_same_probabilities(tmp_path, blocks):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, path = checkpoint(tmp_path / "run", *blocks), tmp_path / "model.onnx"
    assert export(folder, path) < 1e-5
    session = onnxruntime.InferenceSession(path.read_bytes())
    for batch in (windows(), windows()[:1], windows(5)):
        (found,) = session.run(["probabilities"], {"millivolts": batch})
        np.testing.assert_allclose(found, expected(folder, batch), atol=1e-5)
    assert "loading" not in json.loads((tmp_path / "model.onnx.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("block", "reason"), [("s4d", "complex numbers"), ("gla", "gated_linear_attention_chunked")])
def test_what_onnx_has_not_is_refused(tmp_path, block, reason):
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=rf"{reason}.*Use --format torch"):
        export(checkpoint(tmp_path / "run", block), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model*"))


def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / "run", "mlp")
    monkeypatch.setattr(exporting, "_run_torch", lambda made: lambda windows: np.zeros((len(windows), 2)))
    with pytest.raises(InputError, match=r"differs by [0-9.e-]+ from the original, allowed 1e-04"):
        export(folder, tmp_path / "model.pt2")
    monkeypatch.setattr(exporting, "_run_torch", lambda made: lambda windows: np.full((len(windows), 2), np.nan))
    with pytest.raises(InputError, match="differs by nan"):
        export(folder, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_ending_that_says_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), str(tmp_path / "model.bin")])
    assert ended.value.code == 1
    assert "expected .onnx or .pt2" in capsys.readouterr().err


def test_without_onnx_the_next_step_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ONNX needs onnx, onnxscript, onnxruntime. Install: pip install"):
        export(checkpoint(tmp_path / "run", "mlp"), tmp_path / "model.onnx")


def test_only_models_of_windows_with_classes_are_exported(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="a model of numbers without labels"):
        export(checkpoint(tmp_path / "numbers", "mlp", predicts="numbers"), tmp_path / "model.pt2")
    folder = checkpoint(tmp_path / "beats", "mlp")
    loaded = Predictor.load(folder)
    loaded.preprocessing = object()
    monkeypatch.setattr(Predictor, "load", lambda folder: loaded)
    with pytest.raises(InputError, match="a model of single beats"):
        export(folder, tmp_path / "model.pt2")
