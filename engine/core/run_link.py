"""The link to a run's page in LangSmith: the one that came with the run, else one that is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

#: Where a run's own link may stand. LangSmith's changelog (June 2026) announces one without naming the field.
_KEYS: Final = ("url", "run_url", "trace_url", "app_url", "trace_link", "deep_link", "link", "app_path")
#: Characters that no URL has unescaped. Programs disagree on what they mean.
_REFUSED: Final = re.compile(r"""[\x00-\x20\x7f\\<>|"]""")


def run_link(run: Mapping[str, Any], web_url: str | None) -> str | None:
    """Where a person sees a run, or None where that is not known.

    ``web_url`` is LangSmith's web address. The link that LangSmith sent comes before one made of ``app_path``, which
    has no host.
    """
    if web_url is None:
        return None
    if (sent := _sent_link(run, web_url)) is not None:
        return sent
    path = run.get("app_path")
    return web_url.rstrip("/") + path if isinstance(path, str) and path.startswith("/") else None


def _sent_link(run: Mapping[str, Any], web_url: str) -> str | None:
    """The link that came with the run.

    A run can hold text from anybody, so a link counts on LangSmith's own host only. In a field whose name is not among
    the known ones it must also contain the id of the run or of its trace.
    """
    for key in _KEYS:
        if key in run and _leads_to(run[key], web_url):
            return str(run[key])
    for key in run:  # for every run, so it must be quick
        if ("url" in key or "link" in key) and _leads_to(run[key], web_url) and _names_run(run[key], run):
            return str(run[key])
    return None


def _leads_to(link: object, web_url: str) -> bool:
    """Whether something is an http or https URL on the host of ``web_url``, and every program reads it so."""
    if not isinstance(link, str) or not link.startswith(("https://", "http://")):
        return False
    return link.isascii() and not _REFUSED.search(link) and (host := _host(link)) is not None and host == _host(web_url)


def _names_run(link: str, run: Mapping[str, Any]) -> bool:
    """Whether a link is to this run or its trace, for those who may see it: a public share is for everybody."""
    ids = (run.get("id"), run.get("trace_id"))
    return "/public/" not in link and any(id_ in link for id_ in ids if isinstance(id_, str) and id_)


def _host(url: str) -> tuple[str, int | None] | None:
    """A URL's host, and its port where it is not the usual one; None where it has no host, or credentials as well."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in parts.netloc:
        return None
    return host, None if port == {"http": 80, "https": 443}.get(parts.scheme) else port
