"""Compiled conditions: a fast check for the router and a full explanation for people."""

from engine.rules.conditions.compile import MAX_DEPTH
from engine.rules.conditions.filter import Filter, compile_filter
from engine.rules.conditions.verdict import Check, Verdict

__all__ = ["MAX_DEPTH", "Check", "Filter", "Verdict", "compile_filter"]
