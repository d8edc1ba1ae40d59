"""Measures every implementation of the operators beside others' on the same inputs, in one run.

    python -m helixwave_kernels.bench selective_scan --lengths 1024,4096 --report page.md

`contenders` finds who takes part and checks them against the reference, `measure` takes times and memory, `machine`
measures the limits of the hardware, `promises` holds the speeds that the operators are meant to reach, `report` writes.

What an operator's folder can add, each optional:

- `peers.py`: `peers()`, `gpu_peers()` and `unlike()` give functions by name that take the operator's arguments, of the
  same meaning, of the same meaning on a GPU alone, and of another meaning that is timed for scale; `LONGEST` is the
  longest T each is run at. Ratios are given against the first one.
- `cases.py`: `work(*, T, **MEASURED) -> (bytes, operations)` of one forward pass in float32: what has to be read and
  written once, and the floating-point operations of the plain recurrence, an exponential counted as one.
  `comparable(outputs)` maps what the operator returns to what has a meaning of its own.
"""
