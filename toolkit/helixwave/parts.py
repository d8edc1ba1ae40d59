"""The parts that a recipe names, built for each other."""

from torch import nn

from helixwave.checkpoint import build_model
from helixwave.data import Source
from helixwave.data.views import respelt, vocabulary_of
from helixwave.errors import InputError
from helixwave.objectives import Objective
from helixwave.recipe import Recipe
from helixwave.registry import MODELS, OBJECTIVES, Config
from helixwave.training.mixture import Mixture


def build_objective(config: Config, recipe: Recipe, source: Source) -> Objective:
    """An objective for a source.

    Raises:
        InputError: it needs tokens or labels that the source has not.
    """
    asked = OBJECTIVES.signature(config["name"]).parameters
    if "vocabulary" in asked:
        vocabulary = vocabulary_of(source)
        own = recipe.start and recipe.start.vocabulary
        return OBJECTIVES.build(config, vocabulary=vocabulary.among(own) if own else vocabulary)
    if not source.classes:
        raise InputError(
            f"objective: {config['name']} learns labels and {recipe.config['data']['name']} has none. "
            "Choose objective.name=masked or causal, or another data.name"
        )
    # a published benchmark is judged by the metric that others report, where the recipe names none and may name one
    judged = {"monitor": source.metric} if hasattr(source, "metric") and "monitor" in asked else {}
    return OBJECTIVES.build({**judged, **config}, classes=source.classes)


def examples_of(recipe: Recipe, source: Source, objective: Objective) -> Source:
    """What the model is given: in the tokens that it reads, as the objective learns from it."""
    own = recipe.start and recipe.start.vocabulary
    return objective.prepare(respelt(source, own) if own else source)


def build_mixture(recipe: Recipe, source: Source, model: nn.Module) -> Mixture | None:
    """The further objectives that a recipe asks for, for a model of its own objective."""
    settings = recipe.training.objective_mixture
    if settings is None:
        return None
    objectives = [build_objective(config, recipe, source) for config in settings.objectives]
    return Mixture(model, objectives, [examples_of(recipe, source, each) for each in objectives], settings)


def build_network(recipe: Recipe, objective: Objective, source: Source) -> nn.Module:
    """The recipe's model, untrained.

    Raises:
        InputError: it cannot learn the objective.
    """
    parts = {"model": _reading(recipe.config["model"], source), "backbone": recipe.config["backbone"]}
    facts = {"classes": objective.classes, "predicts": objective.predicts, "recipe": recipe.name}
    if hasattr(source, "preprocessing"):
        facts["preprocessing"] = source.preprocessing
    model = build_model({**parts, **facts})
    if getattr(model, "predicts", objective.predicts) != objective.predicts:
        raise InputError(
            f"model: {recipe.config['model']['name']} predicts a {model.predicts} alone, the objective asks for "
            f"{objective.predicts}. Choose another model.name or objective.name"
        )
    objective.check(model)
    return model


def _reading(model: Config, source: Source) -> Config:
    """The recipe's model with what the data say of their inputs, where it takes this and the recipe says nothing."""
    known = MODELS.signature(model["name"]).parameters
    return {
        **model,
        **{key: value for key, value in getattr(source, "reads", {}).items() if key in known and key not in model},
    }
