"""Warnings about a configuration: what is legal in it and hardly meant."""
