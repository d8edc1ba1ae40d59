"""A token costs the same after ten thousand others as after a hundred."""

import time

import pytest
import torch
from helixwave.registry import BLOCKS

D = 64
CAUSAL = [name for name in BLOCKS if BLOCKS[name].causal]
STEPS, ROUNDS = 10, 100


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSAL)
def test_cost_of_a_token_does_not_grow(name):
    torch.manual_seed(0)
    block = BLOCKS.build({"name": name}, d_model=D).eval()
    x = torch.randn(1, 10_000, D)
    with torch.no_grad():
        states = {count: block(x[:, :count])[1] for count in (100, 10_000)}
        seconds = dict.fromkeys(states, float("inf"))
        for _ in range(ROUNDS):
            for count, state in states.items():
                start = time.process_time()
                for t in range(STEPS):
                    _, state = block(x[:, t : t + 1], state)
                seconds[count] = min(seconds[count], time.process_time() - start)
    assert seconds[10_000] <= 1.2 * seconds[100], seconds
