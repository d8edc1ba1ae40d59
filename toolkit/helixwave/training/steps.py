"""The batches of a run: plain, in pieces, or each for one of several objectives."""

from typing import Any

from helixwave.data import Source
from helixwave.data.batches import Draw, draw_batches, load_draws
from helixwave.recipe import Recipe
from helixwave.training.mixture import Mixture
from helixwave.training.pieces import PiecePlan


class TrainingSteps:
    """What each step of a run learns from, as a function of the seed and of the mixture's weights.

    Args:
        source: the examples of the recipe's own objective.
        mixture: further objectives, with their examples.
    """

    def __init__(self, recipe: Recipe, source: Source, mixture: Mixture | None):
        self.recipe, self.mixture = recipe, mixture
        self.splits = [each.train for each in [source, *(mixture.sources if mixture else [])]]
        self.plan = _plan(recipe, source)

    @property
    def count(self) -> int:
        """Of all epochs, for the schedule of the learning rate."""
        if self.plan is not None:
            return self.plan.n_step
        return len(self._batches(0)) * self.recipe.trainer.max_epochs

    def loader(self, epoch: int) -> Any:
        """The batches of an epoch, from 0."""
        batches, seed = self._batches(epoch), self.recipe.seed
        if self.mixture is not None:
            batches = self.mixture.assigned(batches, seed, epoch)
        return load_draws(self.splits, batches, self.recipe.batches, seed=seed)

    def _batches(self, epoch: int) -> list[list[Draw]]:
        if self.plan is not None:
            return self.plan.batches(epoch)
        return draw_batches(self.splits[0], self.recipe.batches, seed=self.recipe.seed, epoch=epoch)


def _plan(recipe: Recipe, source: Source) -> PiecePlan | None:
    """The pieces that a recipe asks for; None for whole examples."""
    training, split = recipe.training, source.train
    if training.length_warmup is None and training.length_buckets is None:
        return None
    longest = max(split.length(i) for i in range(len(split)))
    return PiecePlan(
        source.train,
        tokens=recipe.batches.tokens or recipe.batches.size * longest,
        epochs=recipe.trainer.max_epochs,
        seed=recipe.seed,
        warmup=training.length_warmup,
        buckets=training.length_buckets,
    )
