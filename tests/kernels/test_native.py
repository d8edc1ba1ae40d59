"""The C library: how it is found and refused, its elementary functions, threads, and what its callers rely on."""

import importlib
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helixwave_kernels import linear_scan, native, selective_scan, short_conv
from helixwave_kernels.agreement import results
from torch import Tensor

ROOT = Path(__file__).parents[2]
SOURCES = sorted(Path(native.__file__).parent.glob("*.c"))

needs_library = pytest.mark.skipif(native.reason() is not None, reason=str(native.reason()))
OPERATORS = pytest.mark.parametrize("op", [selective_scan, linear_scan, short_conv], ids=lambda op: op.__name__)


def cases(op):
    return importlib.import_module(f"helixwave_kernels.{op.__name__}.cases")


# the library, or its absence


@needs_library
def test_says_which_code_runs():
    assert native.reason() is None
    assert native.instruction_set() in ("avx512", "avx2", "generic")


def test_switched_off_by_the_environment(monkeypatch):
    monkeypatch.setenv("HELIXWAVE_NATIVE", "0")
    assert native.reason() == "HELIXWAVE_NATIVE=0 switches it off"
    inputs = cases(short_conv).random_inputs()
    short_conv(**inputs)
    with pytest.raises(ValueError, match=r"^short_conv: 'native' cannot run this call: HELIXWAVE_NATIVE=0 switches"):
        short_conv(**inputs, impl="native")


def test_without_a_library_the_reason_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native" / "__init__.py"))
    library, reason = native._loaded.__wrapped__()
    assert library is None
    assert reason.startswith("the library was not built, there was no C compiler at install. Build it again: ")


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"_native{suffix}").write_text("no library")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native" / "__init__.py"))
    library, reason = native._loaded.__wrapped__()
    assert library is None
    assert reason.startswith("the library does not load (")


@needs_library
def test_an_older_library_is_refused(monkeypatch):
    monkeypatch.setattr(native, "ABI", native.ABI + 1)
    assert native._loaded.__wrapped__()[1].startswith(
        "the library is older than this version: it has other conventions"
    )
    monkeypatch.undo()
    monkeypatch.setattr(native, "_exports", lambda: [("selective_scan_forward", "ppi")])
    assert "selective_scan_forward is missing or has other arguments" in native._loaded.__wrapped__()[1]


@needs_library
def test_refuses_what_c_cannot_read():
    assert native.refusal(torch.ones(2), None, torch.ones(2, dtype=torch.bfloat16)) is None
    assert native.refusal(torch.ones(2), torch.ones(2, dtype=torch.float16)) == (
        "torch.float16 is not float32, float64 or bfloat16"
    )
    assert native.refusal(torch.ones(2, device="meta")) == "a tensor is on meta, not on the CPU"


@needs_library
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(4), torch.ones(4, 2).mT, 4), "vector_exp: argument 1 is not contiguous"),
        ((torch.ones(4), torch.ones(4).double(), 4), "vector_exp: argument 1 is torch.float64"),
        ((torch.ones(4), torch.ones(4).long(), 4), "vector_exp: argument 1 is torch.int64"),
        ((torch.ones(4), torch.ones(4)), "vector_exp_f32 takes arguments ppii, not ppi"),
        ((torch.ones(4), torch.ones(4), 4.0), "vector_exp_f32 takes arguments ppii, not ppdi"),
        ((None, None, 4), "vector_exp: there is no floating tensor"),
    ],
)
def test_a_wrong_call_does_not_reach_c(arguments, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        native.call("vector_exp", *arguments)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_arguments_are_as_the_text_beside_them_says(source):
    """EXPORT(name, "ppi") stands before as many pointers, integers and floats."""
    for name, letters, parameters in re.findall(
        r'^EXPORT\((\w+), "(\w+)"\)\s*\(([^)]*)\)', source.read_text(), re.MULTILINE
    ):
        kinds = ["p" if "*" in each else "d" if "double" in each else "i" for each in parameters.split(",")]
        assert "".join(kinds) == letters, name


# elementary functions

FUNCTIONS = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
    "log_sigmoid": F.logsigmoid,
    "softplus": lambda x: torch.where(x > 20, x, -F.logsigmoid(-x)),
}


def apply(name: str, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    native.call(f"vector_{name}", y, x, x.numel())
    return y


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_are_exact(name, dtype):
    """Within three units of the last place of torch in float64, over all sizes of arguments."""
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(50_000, generator=generator) * size for size in (1e-4, 1e-2, 1, 10, 30)])
    x = (x.abs().clamp(max=1) if name == "log1p" else x).to(dtype)
    expected = FUNCTIONS[name](x.double())
    limits = torch.finfo(dtype)
    least = 128 * limits.tiny  # what is smaller may come out as zero
    normal = (expected.abs() > least) & (expected.abs() < limits.max)
    difference = (apply(name, x).double() - expected).abs()
    assert (difference / expected.abs())[normal].max() < 3 * limits.eps
    assert (difference[expected.abs() <= least] <= least).all()


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "log1p"])
def test_elementary_functions_at_the_edges(name, dtype):
    inf, nan = torch.inf, torch.nan
    edges = [0.0, -0.0, inf, -inf, nan, -nan, 1e30, -1e30, 88.7, 88.8, -87.0, -103.0, 127.9, 128.0, -126.5, -149.0]
    edges += [709.7, 709.9, -708.0, -745.0, 1023.9, 1024.0, -1022.5, -1074.0]
    x = torch.tensor(edges, dtype=dtype)
    # twice, because a remainder that fills no register is computed by other code
    for repeated in (x, x.repeat(16)):
        expected = FUNCTIONS[name](repeated)
        tiny = 4 * torch.finfo(dtype).tiny
        torch.testing.assert_close(apply(name, repeated), expected, rtol=1e-6, atol=tiny, equal_nan=True)


# what callers rely on


@needs_library
@OPERATORS
def test_threads_give_the_same_result_again(op):
    inputs = cases(op).random_inputs(T=1000, B=3, D=72, state=True, reset=True)
    before = torch.get_num_threads()
    try:
        by_threads = []
        for n_thread in (1, 2, 2, 3):
            torch.set_num_threads(n_thread)
            by_threads.append(results(lambda **tensors: op(**tensors, impl="native"), inputs))
    finally:
        torch.set_num_threads(before)
    one, two, again, three = by_threads
    for name, value in one.items():
        assert torch.equal(two[name], again[name]), name
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(three[name], value, rtol=1e-5, atol=1e-5)


@needs_library
@OPERATORS
def test_reads_tensors_in_any_layout(op):
    inputs = cases(op).random_inputs(T=30, state=True, reset=True)
    turned = {
        name: value.mT.contiguous().mT if isinstance(value, Tensor) and value.ndim > 1 else value
        for name, value in inputs.items()
    }
    expected, actual = (results(lambda **each: op(**each, impl="native"), given) for given in (inputs, turned))
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name])


@OPERATORS
@pytest.mark.parametrize("impl", ["reference", "chunked", pytest.param("native", marks=needs_library)])
def test_a_reset_keeps_an_earlier_nan_out(op, impl):
    """Neither outputs nor gradients of a document notice what stands in the one before it."""
    inputs = cases(op).random_inputs(T=50, state=True)
    main = next(iter(inputs))
    inputs["reset"] = torch.zeros(2, 50, dtype=torch.bool)
    inputs["reset"][:, 37] = True
    inputs[main] = inputs[main].clone()
    inputs[main][:, 5] = torch.nan
    inputs[main].requires_grad_()
    y, state = op(**inputs, impl=impl)
    assert y[:, 37:].isfinite().all()
    assert state.isfinite().all()
    (gradient,) = torch.autograd.grad(y[:, 37:].sum() + state.sum(), inputs[main])
    assert gradient[:, 37:].isfinite().all()


@needs_library
def test_sizes_that_fill_no_register():
    """The smallest sizes: nothing is read or written outside."""
    for D in (1, 15, 16, 17):
        inputs = cases(selective_scan).random_inputs(T=1, B=1, D=D, N=1, state=True)
        expected, actual = (selective_scan(**inputs, impl=impl) for impl in ("reference", "native"))
        for value, wanted in zip(actual, expected, strict=True):
            torch.testing.assert_close(value, wanted)


@needs_library
def test_forked_processes_may_use_it(monkeypatch):
    """Threads live for one call only, so that a fork in between is harmless."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x = torch.ones(8, 2000, 256)

    def last() -> float:
        return linear_scan(x, x, impl="native")[1][0, 0].item()

    expected = last()
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(last() != expected))
    child.start()
    child.join(timeout=60)
    child.kill()
    assert child.exitcode == 0


# the build


@pytest.mark.slow
def test_builds_without_a_compiler(tmp_path):
    """The wheel is built all the same, without the library."""
    build = ["setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "tmp")]
    subprocess.run([sys.executable, *build], cwd=ROOT, env=os.environ | {"CC": "/bin/false"}, check=True)
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_compiles_without_warnings_for_one_instruction_set(tmp_path):
    """As on machines whose compiler cannot choose at run time."""
    compiler = os.environ.get("CC", "cc")
    flags = [
        "-std=gnu11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-DHELIXWAVE_ONE_TARGET",
        "-shared",
        "-fPIC",
        "-pthread",
    ]
    subprocess.run([compiler, *flags, "-o", str(tmp_path / "native.so"), *map(str, SOURCES)], check=True)
