"""The one door to LangSmith."""

from engine.langsmith.client import LangSmith
from engine.langsmith.settings import LangSmithSettings
from engine.langsmith.sunset import Sunsets

__all__ = ["LangSmith", "LangSmithSettings", "Sunsets"]
