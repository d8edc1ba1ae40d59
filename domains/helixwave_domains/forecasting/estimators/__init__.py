"""Forecasters and a classifier for sktime; the only part of the package that imports it."""
