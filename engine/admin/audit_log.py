"""What people change through the admin listener: one line of the log for each change, with the user's name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from engine.admin.operations import Call

#: A request's header with the name of its user, URL-encoded. It is shown, and proves nothing.
USER_HEADER = "X-Engine-User"
#: The most characters of a name.
_LONGEST = 100


def user_header(name: str) -> dict[str, str]:
    """The header with the user's name."""
    return {USER_HEADER: quote(name[:_LONGEST])}


def user_of(headers: Mapping[str, str]) -> str:
    """The user's name, as far as a request has one."""
    return unquote(headers.get(USER_HEADER, "")).strip()[:_LONGEST] or "the admin API"


class Journal:
    """Logs changes at info. Each method takes an operation's answer, and what it was called with."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def muted(self, answer: Mapping[str, Any], _call: Call) -> None:
        """A route was muted."""
        mute = answer["mute"]
        until = mute["until"] or "unmuted"
        self._log("muted", route=mute["route"], until=until, by=mute["by"], reason=mute["reason"])

    def unmuted(self, answer: Mapping[str, Any], call: Call) -> None:
        """A route that was muted is not muted any more."""
        if answer["muted"]:
            self._log("unmuted", route=answer["route"], by=call.by)

    def resumed(self, answer: Mapping[str, Any], call: Call) -> None:
        """Deliveries go to a destination again."""
        if answer["resumed"] or answer["due"]:
            self._log("destination resumed", destination=answer["name"], by=call.by)

    def replayed(self, answer: Mapping[str, Any], call: Call) -> None:
        """Deliveries and events were made due."""
        self._about("replayed", answer, by=call.by)

    def discarded(self, answer: Mapping[str, Any], call: Call) -> None:
        """Deliveries and events were given up."""
        self._about("discarded", answer, by=call.fields.get("by") or call.by, reason=call.fields.get("reason") or "")

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
