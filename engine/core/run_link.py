"""The link to a run's page in LangSmith: the link in the run, else one built from ``app_path``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

#: Fields that may contain the link. LangSmith's changelog (June 2026) announces one without naming the field.
_KEYS: Final = ("url", "run_url", "trace_url", "app_url", "trace_link", "deep_link", "link", "app_path")
#: Characters that are invalid in URLs. Programs interpret them differently.
_REFUSED: Final = re.compile(r"""[\x00-\x20\x7f\\<>|"]""")


def run_link(run: Mapping[str, Any], web_url: str | None) -> str | None:
    """The URL of a run's page, or None if it is not known.

    ``web_url`` is LangSmith's web address. A link sent by LangSmith takes precedence over ``app_path``, which has no
    host.
    """
    if web_url is None:
        return None
    if (sent := _sent_link(run, web_url)) is not None:
        return sent
    path = run.get("app_path")
    return web_url.rstrip("/") + path if isinstance(path, str) and path.startswith("/") else None


def _sent_link(run: Mapping[str, Any], web_url: str) -> str | None:
    """The link in the run.

    A run can contain text from anyone, so only links to LangSmith's host are used. In a field that is not in ``_KEYS``
    the link must also contain the id of the run or its trace.
    """
    for key in _KEYS:
        if key in run and _leads_to(run[key], web_url):
            return str(run[key])
    for key in run:  # runs for every run, so it must be fast
        if ("url" in key or "link" in key) and _leads_to(run[key], web_url) and _names_run(run[key], run):
            return str(run[key])
    return None


def _leads_to(link: object, web_url: str) -> bool:
    """Whether a value is unambiguously an http or https URL on the host of ``web_url``."""
    if not isinstance(link, str) or not link.startswith(("https://", "http://")):
        return False
    return link.isascii() and not _REFUSED.search(link) and (host := _host(link)) is not None and host == _host(web_url)


def _names_run(link: str, run: Mapping[str, Any]) -> bool:
    """Whether a link leads to this run or its trace and requires login. A public share does not."""
    ids = (run.get("id"), run.get("trace_id"))
    return "/public/" not in link and any(id_ in link for id_ in ids if isinstance(id_, str) and id_)


def _host(url: str) -> tuple[str, int | None] | None:
    """A URL's host, and its port if not the default; None if it has no host or contains credentials."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in parts.netloc:
        return None
    return host, None if port == {"http": 80, "https": 443}.get(parts.scheme) else port
