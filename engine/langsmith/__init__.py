"""The one door to LangSmith."""

from engine.langsmith.client import LangSmith, LangSmithSettings

__all__ = ["LangSmith", "LangSmithSettings"]
