"""Destinations as people see them: one word for the state, then since when, why, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from engine.admin.destinations import OPEN_STATES
from engine.cli.support.output import age, ago, at

#: What people read for a state where that is another word: attempts that fail in a row are failing, too.
_SHOWN: Mapping[str, str] = {"erring": "failing", "probing": "failing"}
_STYLES = {"healthy": "green", "paused": "yellow", "erring": "yellow", "probing": "yellow", "unknown": "dim"}


def state_of(row: Mapping[str, Any]) -> Text:
    """The state in one word."""
    word = row["state"]
    return Text(_SHOWN.get(word, word), style=_STYLES.get(word, "red"))


def is_open(row: Mapping[str, Any]) -> bool:
    """Whether deliveries may go there, as far as is known."""
    return row["state"] in OPEN_STATES


def detail_lines(row: Mapping[str, Any], *, live: bool) -> Iterator[Text]:
    """Since when and why, then the command that ends it; of a healthy one its last error. ``live``: an engine runs."""
    for line in (_times(row, live=live), row["reason"], _last(row, live=live)):
        if line:
            yield Text(line, style="dim")
    if not is_open(row):
        yield resume_line(row["name"])


def resume_line(name: str) -> Text:
    """The command that lets deliveries go to a destination, to be copied: it is never wrapped."""
    return Text(f"engine destinations resume {shlex.quote(name)}", style="cyan", no_wrap=True)


def _times(row: Mapping[str, Any], *, live: bool) -> str:
    word = row["state"]
    until = at(row["until"]) if row["until"] and live else ""
    if word == "paused" and until:
        return f"until {until} ({age(row['until']).removeprefix('in ')} more)"
    if word == "unknown" and row.get("last_attempt_at"):
        return f"last attempt {ago(row['last_attempt_at'])}"
    parts = [f"for {age(row['since'])}" if row["since"] else "", *_next(word, until)]
    return "; ".join(part for part in parts if part)


def _next(word: str, until: str) -> Iterator[str]:
    if word == "gone":
        yield "until the configuration changes"
    elif word == "probing":
        yield "a probe is due"
    elif until:
        yield f"next probe at {until}"


def _last(row: Mapping[str, Any], *, live: bool) -> str:
    """Why the latest attempt failed, unless the reason says so, and when the next one is due that waits for a retry."""
    if not row.get("last_error"):  # an engine of an earlier version has none
        return ""
    parts = [] if row["last_error"] in row["reason"] else [f"last error: {row['last_error']}"]
    if row["state"] == "erring" and row["next_at"] and live:
        parts.append(f"next attempt at {at(row['next_at'])}")
    return "; ".join(parts)
