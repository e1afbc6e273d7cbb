"""The one door to LangSmith."""

from engine.clients.langsmith.client import LangSmith
from engine.clients.langsmith.settings import LangSmithSettings
from engine.clients.langsmith.sunset import Sunsets

__all__ = ["LangSmith", "LangSmithSettings", "Sunsets"]
