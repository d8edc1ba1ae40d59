"""The registry of forecasters: what the command line, recipes and saved models name."""

from helixwave.registry import Registry

FORECASTERS = Registry("forecaster")
