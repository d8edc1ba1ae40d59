"""What a model learns: a loss, the metrics that judge it and the pictures that show it."""

from helixwave.objectives.classification import Classification
from helixwave.objectives.labels import MultiLabel
from helixwave.objectives.language import CausalLanguage, MaskedLanguage
from helixwave.objectives.objective import Objective
from helixwave.objectives.regression import Regression

__all__ = ["CausalLanguage", "Classification", "MaskedLanguage", "MultiLabel", "Objective", "Regression"]
