"""Conditions, compiled: a quick answer for the router, a whole verdict for people."""

from engine.filters.compiler import MAX_DEPTH
from engine.filters.filter import Filter, compile_filter
from engine.filters.verdict import Check, Verdict

__all__ = ["MAX_DEPTH", "Check", "Filter", "Verdict", "compile_filter"]
