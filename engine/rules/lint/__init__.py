"""Warnings about a configuration: what is valid in it but probably a mistake."""
