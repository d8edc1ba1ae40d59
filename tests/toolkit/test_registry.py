import pytest
from helixwave.errors import InputError, nearest
from helixwave.registry import (
    BASELINES,
    BLOCKS,
    COMMANDS,
    DATA,
    MODELS,
    OBJECTIVES,
    Config,
    Registry,
    check_backbone,
)

BACKBONE = {"d_model": 8, "n_layer": 2, "blocks": [{"name": "mlp"}]}


class Ladder:
    """Steps of one height."""

    def __init__(self, length: float, *, steps: int = 3, holds: list[Config] | None = None):
        self.arguments = (length, steps, holds)


@pytest.fixture
def ladders():
    registry = Registry("rope ladder", provided=frozenset({"length"}))
    registry.register("short_ladder")(Ladder)
    return registry


@pytest.mark.parametrize("registry", [BLOCKS, MODELS, DATA, BASELINES, OBJECTIVES], ids=lambda r: r.kind)
def test_every_part_is_described_without_a_second_list(registry):
    names = list(registry)
    assert names == sorted(names)
    assert len(names) > 0
    for name in names:
        assert name in registry
        assert registry.signature(name).summary, f"{registry.kind} {name} has no docstring"
        assert not registry.provided or registry.provided & registry.signature(name).parameters.keys()


def test_every_command_can_be_imported():
    assert all(callable(COMMANDS[name]) for name in COMMANDS)


def test_group_of_entry_points_follows_from_the_kind(ladders):
    assert (ladders.group, BLOCKS.group) == ("helixwave.rope_ladders", "helixwave.blocks")


def test_build_gives_what_is_asked_for(ladders):
    assert list(ladders) == ["short_ladder"]
    assert ladders["short_ladder"] is Ladder
    assert ladders.build({"name": "short_ladder", "steps": 5}, length=2.0).arguments == (2.0, 5, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "shrt_ladder"}, "rope ladder: no rope ladder named 'shrt_ladder'. Did you mean 'short_ladder'?"),
        ({"name": "short_ladder", "stesp": 1}, r"\(short_ladder\): unknown key 'stesp'. Did you mean 'steps'\?"),
        ({"name": "short_ladder", "steps": "many"}, "steps is 'many', expected int"),
        ({"name": "short_ladder", "steps": True}, "steps is True, expected int"),
        ({"name": "short_ladder", "length": 3.0}, "unknown key 'length'"),
        ({"name": "short_ladder", 5: 3.0}, "unknown key 5. Known: holds, steps"),
        ({"name": 5}, "expected {name: .*} with a rope ladder's name, got {'name': 5}"),
        ({}, "got {}"),
        ("short_ladder", "got 'short_ladder'"),
        (None, "got None"),
    ],
)
def test_build_refuses(ladders, config, message):
    with pytest.raises(InputError, match=message):
        ladders.build(config, length=1.0)


def test_what_is_not_there_is_refused(ladders):
    for ask in (ladders.__getitem__, ladders.signature):
        with pytest.raises(InputError, match=r"no rope ladder named 'lader'. Did you mean 'short_ladder'"):
            ask("lader")


def test_argument_that_nobody_gives_is_missing():
    registry = Registry("ladder")
    registry.register("short")(Ladder)
    with pytest.raises(InputError, match=r"ladder \(short\): length is missing \(float\). Add length=VALUE"):
        registry.build({"name": "short"})


def test_a_name_is_taken_once(ladders):
    with pytest.raises(ValueError, match="already a rope ladder named 'short_ladder'"):
        ladders.register("short_ladder")(Ladder)
    with pytest.raises(ValueError, match="already a block named 'mamba'"):
        BLOCKS.register("mamba")(Ladder)


def test_constructor_of_another_class_needs_no_arguments():
    class Inherited(dict):
        def __init__(self, *args: object, **kwargs: object):
            super().__init__(*args, **kwargs)

    registry = Registry("ladder")
    registry.register("inherited")(Inherited)
    assert registry.build({"name": "inherited"}) == {}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"name": "mabma"}, r"here.blocks\[1\]: no block named 'mabma'. Did you mean 'mamba'"),
        ({"name": "mamba", "d_stat": 4}, r"here.blocks\[1\] \(mamba\): unknown key 'd_stat'. Did you mean 'd_state'"),
        ({"name": "mamba", "d_model": 4}, "unknown key 'd_model'"),
        ({"name": "bidirectional", "block": {"name": "hyna"}}, r"\(bidirectional\).block: no block named 'hyna'"),
        ({"name": "bidirectional", "block": {"name": "hyena", "order": 2.5}}, "order is 2.5, expected int"),
        ("mamba", "expected {name: .*got 'mamba'"),
    ],
)
def test_every_block_of_a_backbone_is_checked(block, message):
    with pytest.raises(InputError, match=message):
        check_backbone("here", {**BACKBONE, "blocks": [{"name": "mlp"}, block]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": []}, "here: blocks is empty, expected at least one"),
        ({"blocks": "mlp"}, r"blocks is 'mlp', expected list\[BlockConfig\]"),
        ({"n_layer": 0}, "n_layer is 0, expected at least 1"),
        ({"d_model": -8}, "d_model is -8, expected at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected at least 0 and less than 1"),
        ({"norm": "batch"}, "norm is 'batch', expected Literal"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_backbone_that_cannot_be_built_is_refused(change, message):
    check_backbone("here", BACKBONE)
    with pytest.raises(InputError, match=message):
        check_backbone("here", {**BACKBONE, **change})


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("hyna", ["mamba", "hyena"], "Did you mean 'hyena'? Known: hyena, mamba."),
        ("zzz", ["mamba", "hyena"], "Known: hyena, mamba."),
        ("hyena", [], "None is known."),
        (7, ["mamba"], "Known: mamba."),
    ],
)
def test_nearest_name(name, known, hint):
    assert nearest(name, known) == hint
