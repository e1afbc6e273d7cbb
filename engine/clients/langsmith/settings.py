"""The LangSmith settings, and what depends on the endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

#: LangSmith's US cloud.
DEFAULT_ENDPOINT = "https://api.smith.langchain.com"
#: The longest retention of a trace in LangSmith's cloud, in seconds (extended retention).
CLOUD_RETENTION = 180 * 86400.0
#: The default for a self-hosted LangSmith.
OWN_RETENTION = 400 * 86400.0
_CLOUD = "api.smith.langchain.com"


@dataclass(frozen=True, slots=True)
class LangSmithSettings:
    """The ``langsmith:`` block. ``workspace_id`` is needed for organisation-scoped keys only.

    ``retention`` is how long LangSmith keeps a trace at most, in seconds; None means the default.
    """

    api_key: str | None = field(default=None, repr=False)
    endpoint: str = DEFAULT_ENDPOINT
    workspace_id: str | None = None
    retention: float | None = None

    @property
    def web_url(self) -> str:
        """LangSmith's web address without a trailing slash. A relative ``app_path`` is appended to it.

        The cloud's web host has no ``api.`` prefix. A self-hosted API is under ``/api`` of the web address (docs:
        self-hosted, "SDK configuration").
        """
        parts = urlsplit(self.endpoint)
        path = _without_suffix(parts.path.rstrip("/"), "/api/v1", "/api")
        netloc = parts.netloc.rpartition("@")[2]
        if netloc == _CLOUD or netloc.endswith(f".{_CLOUD}"):
            netloc = netloc.replace("api.smith.", "smith.", 1)
        return f"{parts.scheme}://{netloc}{path}"

    @property
    def api_root(self) -> str:
        """The base URL for the paths of generated resources (``/api/v1/…``)."""
        return _without_suffix(self.endpoint.rstrip("/"), "/api/v1", "/api")

    @property
    def on_cloud(self) -> bool:
        """Whether the endpoint is LangSmith's cloud in any region, which always has the newest API."""
        host = urlsplit(self.endpoint).hostname or ""
        return host == _CLOUD or host.endswith(f".{_CLOUD}")

    @property
    def trace_retention(self) -> timedelta:
        """How far back traces exist."""
        usual = CLOUD_RETENTION if self.on_cloud else OWN_RETENTION
        return timedelta(seconds=usual if self.retention is None else self.retention)


def _without_suffix(text: str, *suffixes: str) -> str:
    return next((text.removesuffix(suffix) for suffix in suffixes if text.endswith(suffix)), text)
