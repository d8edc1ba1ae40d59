"""The recipes that `helixwave train` knows by name, as package data."""
