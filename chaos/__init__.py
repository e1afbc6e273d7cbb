"""Breaks everything around a running engine and checks what it promises: ``make chaos``."""
