"""The LangSmith client. All requests to LangSmith go through it."""

from engine.clients.langsmith.client import LangSmith
from engine.clients.langsmith.settings import LangSmithSettings
from engine.clients.langsmith.sunset import Sunsets

__all__ = ["LangSmith", "LangSmithSettings", "Sunsets"]
