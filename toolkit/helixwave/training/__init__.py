"""Techniques of training that any recipe may switch on in its section `training`."""
