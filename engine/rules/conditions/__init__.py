"""Conditions, compiled: a quick answer for the router, a whole verdict for people."""

from engine.rules.conditions.compile import MAX_DEPTH
from engine.rules.conditions.filter import Filter, compile_filter
from engine.rules.conditions.verdict import Check, Verdict

__all__ = ["MAX_DEPTH", "Check", "Filter", "Verdict", "compile_filter"]
