"""What people change through the admin listener: one line of the log for each change, with who made it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

#: A request's header with the name of its user, URL-encoded. It is shown, and proves nothing.
USER_HEADER = "X-Engine-User"
#: The most that is taken of a name, in characters.
_LONGEST = 100


def user_header(name: str) -> dict[str, str]:
    """The header with the name of who asks."""
    return {USER_HEADER: quote(name[:_LONGEST])}


def user_of(headers: Mapping[str, str]) -> str:
    """Who asks, as far as a request says."""
    return unquote(headers.get(USER_HEADER, "")).strip()[:_LONGEST] or "the admin API"


class Journal:
    """Logs changes at info. ``by`` is who made them."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def muted(self, mute: Mapping[str, Any]) -> None:
        """A mute, as the API shows it."""
        until = mute["until"] or "unmuted"
        self._log("muted", route=mute["route"], until=until, by=mute["by"], reason=mute["reason"])

    def unmuted(self, answer: Mapping[str, Any], by: str) -> None:
        """A route that was muted is not muted any more."""
        if answer["muted"]:
            self._log("unmuted", route=answer["route"], by=by)

    def resumed(self, destination: str, by: str) -> None:
        """A destination was opened."""
        self._log("destination resumed", destination=destination, by=by)

    def replayed(self, answer: Mapping[str, Any], by: str) -> None:
        """Deliveries and events were made due."""
        self._about("replayed", answer, by=by)

    def discarded(self, answer: Mapping[str, Any], by: str, reason: str) -> None:
        """Deliveries and events were given up."""
        self._about("discarded", answer, by=by, reason=reason)

    def _about(self, message: str, answer: Mapping[str, Any], **facts: str) -> None:
        """A single one by its id, several by their number."""
        deliveries, events = answer["deliveries"], answer["events"]
        if answer["dry_run"] or not (deliveries or events):
            return
        if len(deliveries) + len(events) == 1:
            self._log(message, delivery="".join(deliveries), event="".join(events), **facts)
        else:
            self._log(message, deliveries=len(deliveries), events=len(events), **facts)

    def _log(self, message: str, **facts: str | int) -> None:
        self._logger.info(message, extra=facts)
