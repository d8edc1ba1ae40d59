"""Recipes: a whole run in one YAML page, composed by Hydra and checked strictly before anything heavy is imported."""

import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

from helixwave.errors import InputError, nearest, require
from helixwave.registry import (
    BASELINES,
    DATA,
    MODELS,
    OBJECTIVES,
    Config,
    Registry,
    check_arguments,
    check_network,
    takes_backbone,
)
from helixwave.signature import signature_of
from helixwave.training.settings import Training, read_training


@dataclass(frozen=True)
class Optimizer:
    """AdamW with a linear warm-up and a cosine or constant course after it.

    Args:
        lr: the highest learning rate.
        weight_decay: on matrices only; biases, norms, embeddings and what a block says have none.
        warmup: part of all steps over which the rate rises from zero.
        schedule: `cosine` falls to 1 % of `lr` at the last step.
        beta2: of AdamW's running mean of the squared gradient.
        ema: decay of the moving average of the weights that is evaluated and saved; 0 keeps the plain weights.
        freeze: shell-style patterns of the names of parameters that are not trained, such as `backbone.blocks.0.*`.
        lora_rank: train low-rank changes of linear layers instead of their weights (LoRA, Hu et al., 2021); 0: no.
        lora_alpha: such a change is scaled by `lora_alpha / lora_rank`.
        lora_targets: shell-style patterns of the linear layers that LoRA adapts, `backbone.*` if none are given; all
            else is trained unless frozen.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    beta2: float = 0.98
    ema: float = 0.0
    freeze: list[str] | None = None
    lora_rank: int = 0
    lora_alpha: int = 16
    lora_targets: list[str] | None = None

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "optimizer.lr", self.lr, "more than 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.warmup <= 1, "optimizer.warmup", self.warmup, "0 to 1")
        require(0 <= self.beta2 < 1, "optimizer.beta2", self.beta2, "at least 0 and less than 1")
        require(0 <= self.ema < 1, "optimizer.ema", self.ema, "at least 0 and less than 1")
        require(self.lora_rank >= 0, "optimizer.lora_rank", self.lora_rank, "at least 0")
        require(self.lora_alpha >= 1, "optimizer.lora_alpha", self.lora_alpha, "at least 1")


@dataclass(frozen=True)
class Start:
    """A checkpoint whose embedding and backbone the run begins with, instead of random weights.

    Args:
        checkpoint: its folder, that of a run, or a published checkpoint: a folder, or a name on the Hugging Face hub.
        vocabulary: the tokens that it reads; null: look there.
    """

    checkpoint: str
    vocabulary: list[str] | None = None


@dataclass(frozen=True)
class Trainer:
    """How long and on what to train.

    Args:
        max_epochs: passes over the training data.
        keep: the weights of the epoch with the `best` validation score, or of the `last` one.
        patience: stop after so many epochs without a better validation score; null never stops early.
        gradient_clip: largest norm of the gradient; null does not clip.
        precision: `bf16-mixed` for bfloat16 autocast.
        accelerator: `auto` takes a GPU where there is one.
        devices: how many of them.
    """

    max_epochs: int = 10
    keep: Literal["best", "last"] = "best"
    patience: int | None = None
    gradient_clip: float | None = 1.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1

    def __post_init__(self) -> None:
        require(self.max_epochs >= 1, "trainer.max_epochs", self.max_epochs, "at least 1")
        require(self.patience is None or self.patience >= 1, "trainer.patience", self.patience, "at least 1 or null")
        require(self.devices >= 1, "trainer.devices", self.devices, "at least 1")


@dataclass(frozen=True)
class Batches:
    """How examples are put together.

    Args:
        size: examples in a batch.
        tokens: if given, batches are of similar length and hold about so many positions, padding included, instead.
        workers: processes that prepare batches.
    """

    size: int = 32
    tokens: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        require(self.size >= 1, "batches.size", self.size, "at least 1")
        require(self.tokens is None or self.tokens >= 1, "batches.tokens", self.tokens, "at least 1 or null")
        require(self.workers >= 0, "batches.workers", self.workers, "at least 0")


_SECTIONS = {"optimizer": Optimizer, "trainer": Trainer, "batches": Batches}
_PARTS: dict[str, Registry] = {"model": MODELS, "data": DATA, "objective": OBJECTIVES, "baseline": BASELINES}
_KEYS = ["seed", "start", "backbone", *_PARTS, *_SECTIONS, "training"]
_DEFAULTS: Config = {"seed": 0, "start": None, "baseline": None}
# what learns at once has no network, no steps and no batches; what it draws is its own affair
_ESTIMATOR_PARTS = {"data": DATA, "objective": OBJECTIVES, "estimator": BASELINES, "baseline": BASELINES}
_ESTIMATOR_KEYS = [*_ESTIMATOR_PARTS]


@dataclass(frozen=True)
class Recipe:
    """A complete and checked description of a run: plain values, every default written out."""

    name: str
    config: Config

    @property
    def start(self) -> Start | None:
        return None if self.config.get("start") is None else Start(**self.config["start"])

    @property
    def estimator(self) -> Config | None:
        """What learns at once, without steps, in place of a model: a baseline's name and arguments."""
        return self.config.get("estimator")

    @property
    def optimizer(self) -> Optimizer:
        return Optimizer(**self.config["optimizer"])

    @property
    def trainer(self) -> Trainer:
        return Trainer(**self.config["trainer"])

    @property
    def batches(self) -> Batches:
        return Batches(**self.config["batches"])

    @property
    def training(self) -> Training:
        return read_training("training", self.config["training"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


def recipe_names() -> list[str]:
    """The shipped recipes, as in `genomics/annotate`."""
    root, groups = Path(str(files("helixwave_recipes"))), choices()
    paths = (path.relative_to(root).with_suffix("") for path in root.rglob("*.yaml"))
    return sorted(path.as_posix() for path in paths if path.parts[0] not in groups)


def choices() -> dict[str, list[str]]:
    """What can be swapped as a whole by `group=name`: the folders of the recipes that hold parts of a recipe."""
    group = Path(str(files("helixwave_recipes"))) / "backbone"
    return {"backbone": sorted(path.stem for path in group.glob("*.yaml"))}


def summary(name: str) -> str:
    """The comment on a recipe's first line: the command that runs it and what it should reach."""
    path = Path(str(files("helixwave_recipes"))) / f"{name}.yaml"
    return path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """Compose the recipe `name`, or the user's own YAML file, with `key=value` overrides, and check all of it.

    Raises:
        InputError: an unknown recipe, key, part or choice, a missing or mistyped value; with the nearest name.
    """
    return check_recipe(name, _compose(name, overrides or []))


def check_recipe(name: str, config: Config) -> Recipe:
    """Refuse what cannot run; write out every default, and what a checkpoint to start from gives."""
    keys = _ESTIMATOR_KEYS if "estimator" in config else _KEYS
    config = {**{key: value for key, value in _DEFAULTS.items() if key in keys}, **config}
    for key in config:
        if key not in keys and key in _KEYS:
            raise InputError(f"{name}: a recipe with an estimator has {', '.join(keys)}, and no {key}")
        if key not in keys:
            raise InputError(f"{name}: unknown key {key!r}. {nearest(key, keys)}")
    for key, value in _leaves(config):
        if value == "???":
            raise InputError(f"{name}: {key} is missing. Add {key}=VALUE")
    if "estimator" in config:
        _check_parts(name, config, _ESTIMATOR_PARTS)
        return Recipe(name, {key: config[key] for key in keys})
    if not isinstance(config["seed"], int) or isinstance(config["seed"], bool) or config["seed"] < 0:
        raise InputError(f"{name}: seed is {config['seed']!r}, expected a whole number from 0")
    if config["start"] is not None:
        config = _with_start(name, config)
    config["backbone"] = _section(name, config, "backbone") or None
    if config["backbone"] is None and not _has_own_layers(config.get("model")):
        raise InputError(f"{name}: backbone is missing. Add backbone={'|'.join(choices()['backbone'])}")
    _check_parts(name, config, _PARTS)
    check_network(f"{name}: ", config)
    for key, section in _SECTIONS.items():
        given = _section(name, config, key)
        check_arguments(f"{name}: {key}", signature_of(section), given)
        config[key] = asdict(section(**given))
    config["training"] = asdict(read_training(f"{name}: training", _section(name, config, "training")))
    return Recipe(name, {key: config[key] for key in _KEYS})


def expand_sweep(overrides: list[str]) -> list[list[str]]:
    """Every combination of the values that `key=a,b,c` and `key=range(1,4)` list, in the order given."""
    return [list(combination) for combination in product(*map(_alternatives, overrides))]


def to_yaml(config: Config) -> str:
    """A configuration as text that `load_recipe` reads back."""
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)


def _with_start(name: str, config: Config) -> Config:
    """The recipe with what its checkpoint decides. That is read once: a resolved recipe does not need it again."""
    start = config["start"]
    start = {"checkpoint": start} if isinstance(start, str) else _section(name, config, "start")
    check_arguments(f"{name}: start", signature_of(Start), start)
    if start.get("vocabulary") is not None:
        return {**config, "start": start}
    from helixwave.start import resolve

    return resolve(name, {**config, "start": start})


def _has_own_layers(model: Any) -> bool:
    return isinstance(model, dict) and model.get("name") in MODELS and not takes_backbone(model["name"])


def _check_parts(name: str, config: Config, parts: dict[str, Registry]) -> None:
    for key, registry in parts.items():
        if key == "baseline" and config[key] is None:
            continue
        if key not in config:
            raise InputError(f"{name}: {key} is missing. Add {key}.name=NAME. {nearest('', registry)}")
        registry.check(f"{name}: {key}", config[key])


def _section(name: str, config: Config, key: str) -> Config:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"{name}: {key} is {value!r}, expected a group of keys such as {key}.{_first_key(key)}=VALUE")
    return value


def _first_key(key: str) -> str:
    section = {**_SECTIONS, "start": Start, "training": Training}.get(key)
    return next(iter(signature_of(section).parameters)) if section else "d_model"


def _compose(name: str, overrides: list[str]) -> Config:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = _locate(name)
    shipped = f"hydra.searchpath=[file://{files('helixwave_recipes')}]"
    try:
        with initialize_config_dir(str(path.parent), version_base="1.3"):
            composed = compose(path.stem, [shipped, *chain.from_iterable(map(_normalise, overrides))])
        resolved = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        if str(error).startswith("Could not override 'backbone'"):
            advice = "begin the recipe with `defaults: [/backbone: hyena, _self_]`"
            raise InputError(
                f"{name}: its backbone is written out, no choice can replace it. To have one, {advice}"
            ) from error
        raise InputError(f"{name}: {' '.join(str(error).split())}") from error
    return {**resolved, "backbone": None} if _drops_backbone(overrides) else resolved  # type: ignore


def _locate(name: str) -> Path:
    """The file of a recipe: a path to the user's own, or the name of a shipped one."""
    if name.endswith(".yml"):
        raise InputError(f"{name}: the name of a recipe file ends in .yaml. Rename it")
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise InputError(f"no recipe file {name}. Shipped recipes: {', '.join(recipe_names())}")
        return Path(name).resolve()
    if name not in recipe_names():
        raise InputError(f"no recipe named {name!r}. {nearest(name, recipe_names())}")
    return Path(str(files("helixwave_recipes"))) / f"{name}.yaml"


@cache
def _parser() -> Any:
    """Made once: Hydra looks up the signature of each of its functions to make one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _parse(override: str) -> Any:
    from hydra.errors import HydraException

    try:
        return _parser().parse_override(override)
    except HydraException as error:
        raise InputError(f"cannot read {override!r}. Expected key=value, as in trainer.max_epochs=5") from error


def _normalise(override: str) -> list[str]:
    """Make `key=value`, `+key=value` and `++key=value` one thing: the checks, not the YAML, decide which keys exist.

    The name of a part alone, as in `model=NAME`, takes the place of the whole part.
    """
    parsed = _parse(override)
    key = parsed.key_or_group
    section = override.lstrip("+~").partition("=")[0].partition(".")[0]
    known = dict.fromkeys([*_KEYS, *_ESTIMATOR_KEYS])
    if section not in known:
        raise InputError(f"unknown key {section!r} in {override!r}. {nearest(section, known)}")
    if parsed.is_sweep_override():
        raise InputError(f"{override!r} lists several values. Add -m to run each of them")
    if parsed.is_delete():
        return [override]
    value = parsed.value()
    if key in choices():
        _check_choice(key, value)
        return [] if value is None else [f"{key}={value}"]
    if key in {**_PARTS, **_ESTIMATOR_PARTS} and isinstance(value, str):
        return [f"++{key}=null", f"++{key}.name={value}"]
    return [f"++{override.lstrip('+')}"]


def _drops_backbone(overrides: list[str]) -> bool:
    """Whether a recipe has none afterwards: the user says so, or asks for a model with layers of its own."""
    dropped = False
    for parsed in map(_parse, overrides):
        value = None if parsed.is_delete() else parsed.value()
        if parsed.key_or_group == "model" and isinstance(value, str):
            dropped = _has_own_layers({"name": value})
        elif parsed.key_or_group == "backbone" and not parsed.is_delete():
            dropped = value is None
    return dropped


def _check_choice(group: str, value: object) -> None:
    known = choices()[group]
    if value is not None and value not in known:
        raise InputError(f"no {group} named {str(value)!r}. {nearest(str(value), known)}")


def _alternatives(override: str) -> list[str]:
    parsed = _parse(override)
    if not parsed.is_sweep_override():
        return [override]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(key, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(inner, f"{key}.{name}" if key else str(name))]
