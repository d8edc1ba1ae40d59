"""The blocks: one file a family, one line a block in the entry points.

Every block maps `x` `[B, T, D]` and a state to `(y, state)`; see `docs/blocks.md` for the laws that all of them obey.
"""
