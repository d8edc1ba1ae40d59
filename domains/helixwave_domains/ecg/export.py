"""A trained model with its preprocessing for other programs: ONNX or torch.export, checked against the original.

    python -m helixwave_domains.ecg.export CHECKPOINT model.onnx

The result reads millivolts `[B, leads, samples]` in windows of one length, at the rate and with the leads that the JSON
beside it names, NaN where nothing is known, and gives calibrated probabilities `[B, n_class]`. A checkpoint's filter is
not part of it, since it reaches beyond a window: its impulse response stands in the JSON.
"""

import argparse
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helixwave.errors import InputError
from helixwave.files import atomic_write
from helixwave.outputs import Predicts, readable
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from helixwave_domains.ecg.export_operators import plain_operators, remember_derived
from helixwave_domains.ecg.predictor import Predictor
from helixwave_domains.ecg.preprocessing import LEAST_SPREAD as LEAST_SPREAD
from helixwave_domains.ecg.preprocessing import Preprocessing

FORMATS = {".onnx": "onnx", ".pt2": "torch"}
"""By the ending of a name."""

# what an exported probability may differ by
_TOLERANCE = 1e-4
# windows that are compared, in one batch and one by one
_COMPARED = 3
_LOADING = "import helixwave_domains.ecg.export_operators before torch.export.load: its operators are ours"

Windows = NDArray[np.float32]
Run = Callable[[Windows], NDArray[np.floating]]


class FromMillivolts(nn.Module):
    """From windows of millivolts to probabilities: the scaling, the network and the temperature of a checkpoint.

    Args:
        model: `forward(inputs [B, T, C]) -> logits [B, n_class]`.
        preprocessing: its scaling is what `Preprocessing.scaled` does.
        predicts: what the logits mean.
        temperature: that they are divided by.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, predicts: Predicts, temperature: float):
        super().__init__()
        self.model, self.preprocessing = model, preprocessing
        self.predicts: Predicts = predicts
        self.temperature = temperature

    def forward(self, millivolts: Tensor) -> Tensor:
        """`[B, C, T]` -> `[B, n_class]`."""
        return readable(self.model(self.scaled(millivolts)) / self.temperature, self.predicts)

    def scaled(self, millivolts: Tensor) -> Tensor:
        """What the network reads: `[B, C, T]` -> `[B, T, C]`, zeros where nothing is known."""
        known = ~millivolts.isnan()
        values = torch.where(known, millivolts, 0.0).double()
        if self.preprocessing.scale == "window":
            count = known.sum(-1, keepdim=True).clamp(min=1)
            centred = torch.where(known, values - values.sum(-1, keepdim=True) / count, 0.0)
            spread = (centred.square().sum(-1, keepdim=True) / count).sqrt()
            values = centred / spread.clamp(min=LEAST_SPREAD)
        elif self.preprocessing.scale == "constants":
            values = torch.where(known, (values - self.preprocessing.mean) / self.preprocessing.deviation, 0.0)
        return values.float().transpose(1, 2)


def export(checkpoint: Path | str, path: Path | str, kind: str | None = None) -> float:
    """Write a model and a JSON that says what it reads; nothing is written unless it agrees with the original.

    Args:
        checkpoint: of a model that reads windows of ECGs.
        path: `.onnx` or `.pt2`.
        kind: `onnx` or `torch`; None: as the ending says.

    Returns:
        the largest difference between probabilities of both.

    Raises:
        InputError: no such checkpoint, a model that cannot be exported so, or one whose export says something else.
    """
    path = Path(path)
    form = _kind(path, kind)
    predictor = Predictor.load(checkpoint)
    preprocessing = _expect_windows(predictor, str(checkpoint))
    model = Predictor.load(checkpoint).model
    module = (
        FromMillivolts(model, preprocessing, predictor.predicts, predictor.temperature).eval().requires_grad_(False)
    )
    examples = _examples(preprocessing)
    try:
        made = (_to_onnx if form == "onnx" else _to_torch)(module, torch.from_numpy(examples))
    except _REFUSALS as error:
        raise InputError(f"{checkpoint}: {_refusal(form, error)}") from error
    difference = _difference(predictor, preprocessing, (_run_onnx if form == "onnx" else _run_torch)(made), examples)
    if not difference <= _TOLERANCE:
        raise InputError(
            f"{checkpoint}: the exported model differs by {difference:.1e} from the original, allowed {_TOLERANCE:.0e}."
            " Nothing was written; please report it with the checkpoint's config.json"
        )
    with atomic_write(path, "wb") as f:
        f.write(made)
    with atomic_write(path.with_name(f"{path.name}.json")) as f:
        json.dump(_description(predictor, preprocessing, form, difference), f, indent=2)
        f.write("\n")
    return difference


def _kind(path: Path, kind: str | None) -> str:
    found = kind or FORMATS.get(path.suffix, "")
    if found not in FORMATS.values():
        raise InputError(f"{path}: the ending says no format, expected .onnx or .pt2. Or pass --format onnx or torch")
    return found


def _expect_windows(predictor: Predictor, where: str) -> Preprocessing:
    if not isinstance(predictor.preprocessing, Preprocessing):
        raise InputError(f"{where}: a model of single beats; only models of whole windows are exported")
    if predictor.predicts == "numbers":
        raise InputError(f"{where}: a model of numbers without labels, as in pretraining. Fine-tune it first")
    return predictor.preprocessing


def _examples(preprocessing: Preprocessing) -> Windows:
    """Windows with a flat lead, a missing one and a gap."""
    rng = np.random.default_rng(0)
    shape = _COMPARED, len(preprocessing.leads), preprocessing.length
    windows = (rng.normal(size=shape).cumsum(-1) * 0.02 + rng.normal(size=(*shape[:2], 1))).astype(np.float32)
    windows[1, 0] = 0.5
    windows[2, -1] = np.nan
    windows[2, 0, : preprocessing.length // 3] = np.nan
    return windows


class _PlainFormError(Exception):
    pass


_REFUSALS = (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.UserError, _PlainFormError, RuntimeError)


def _refusal(kind: str, error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return f"cannot be exported as {kind}: {reason}" + (". Use --format torch" if kind == "onnx" else "")


def _to_torch(module: FromMillivolts, example: Tensor) -> bytes:
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(_traced(module, example), stream)
    return stream.getvalue()


def _to_onnx(module: FromMillivolts, example: Tensor) -> bytes:
    _expect_onnx()
    # of two scans with other sizes neither is for any size
    with _quiet(), torch.no_grad(), torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        table = torch.export.default_decompositions()
        table.update(plain_operators())
        program = _traced(module, example).run_decompositions(table)
        _expect_plain(program)
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["millivolts"], output_names=["probabilities"]
        )
    assert made is not None
    return made.model_proto.SerializeToString()


def _traced(module: FromMillivolts, example: Tensor) -> torch.export.ExportedProgram:
    """The module as a graph, for batches of any size."""
    with _chunked_operators(), torch.no_grad():
        remember_derived(module)
        module(example)
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    for node in reversed(program.graph.nodes):
        if node.target is torch.ops.higher_order.wrap_with_autocast and not node.users:
            program.graph.erase_node(node)
    return program


def _expect_plain(program: torch.export.ExportedProgram) -> None:
    """Neither an operator of ours nor complex numbers are left, which ONNX has not."""
    for node in program.graph.nodes:
        name = str(node.target)
        values = pytree.tree_leaves(node.meta.get("val"))
        if name.startswith("helixwave."):
            raise _PlainFormError(f"its backbone uses {name.split('.')[1]}, which has no plain form here")
        if any(isinstance(value, Tensor) and value.is_complex() for value in values):
            raise _PlainFormError("its backbone uses complex numbers, which ONNX has not")


def _run_torch(made: bytes) -> Run:
    program = torch.export.load(io.BytesIO(made)).module()

    def run(windows: Windows) -> NDArray[np.floating]:
        with torch.inference_mode():
            return program(torch.from_numpy(windows)).numpy()

    return run


def _run_onnx(made: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    return lambda windows: session.run(None, {"millivolts": windows})[0]


def _difference(predictor: Predictor, preprocessing: Preprocessing, run: Run, windows: Windows) -> float:
    """The largest between probabilities of the original and of the export, in one batch and one by one."""
    expected = predictor.read(np.stack([preprocessing.scaled(window) for window in windows]))
    found = [run(windows), np.concatenate([run(windows[i : i + 1]) for i in range(len(windows))])]
    return float(max(np.abs(each - expected).max() for each in found))


def _description(predictor: Predictor, preprocessing: Preprocessing, kind: str, difference: float) -> dict[str, Any]:
    taps = preprocessing.taps
    return {
        "format": kind,
        "input": {"name": "millivolts", "shape": ["batch", len(preprocessing.leads), preprocessing.length]},
        "output": {"name": "probabilities", "shape": ["batch", len(predictor.classes)], "predicts": predictor.predicts},
        "leads": list(preprocessing.leads),
        "rate": preprocessing.rate,
        "window": preprocessing.window,
        "missing": "NaN, for samples and whole leads",
        "filter_before": None if taps is None else taps.tolist(),
        "classes": list(predictor.classes),
        "thresholds": predictor.thresholds.tolist() if predictor.predicts == "labels" else None,
        "largest_difference": difference,
        **({"loading": _LOADING} if kind == "torch" else {}),
    }


@contextmanager
def _chunked_operators() -> Iterator[None]:
    """Operators in torch, which run on every machine and for which there are plain forms."""
    before = os.environ.get("HELIXWAVE_IMPL")
    os.environ["HELIXWAVE_IMPL"] = "chunked,reference"
    try:
        yield
    finally:
        del os.environ["HELIXWAVE_IMPL"]
        if before is not None:
            os.environ["HELIXWAVE_IMPL"] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own future and of packages that nobody asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _expect_onnx() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}. Install: pip install 'helixwave[onnx]'")


def main(argv: Sequence[str] | None = None) -> None:
    """Export, and say how far the result is from the original."""
    parser = argparse.ArgumentParser(prog="python -m helixwave_domains.ecg.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or the folder of a run")
    parser.add_argument("out", type=Path, help="NAME.onnx or NAME.pt2; a JSON of the same name is written beside it")
    parser.add_argument("--format", choices=list(FORMATS.values()), help="default: as the ending says")
    chosen = parser.parse_args(argv)
    try:
        difference = export(chosen.checkpoint, chosen.out, chosen.format)
    except (InputError, OSError) as error:
        print(f"helixwave: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    print(f"{chosen.out}: largest difference from the original {difference:.1e}")
    if _kind(chosen.out, chosen.format) == "torch":
        print(_LOADING)


if __name__ == "__main__":
    main()
