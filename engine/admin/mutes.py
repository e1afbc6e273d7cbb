"""Muting routes: the same verbs for the admin listener and for a stopped engine's store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from engine.admin.query import BadQuery, NotFound, check_fields
from engine.admin.views import iso
from engine.core.masking import Masker
from engine.core.suggest import did_you_mean
from engine.core.units import parse_duration
from engine.rules.route_names import ambiguous_message, routes_called
from engine.store.protocol import Store
from engine.store.records import Control

#: The longest time a route is muted for; who wants more writes ``enabled: false``.
_LONGEST = 366 * 86400.0
_WORDS = ("route", "for", "reason", "by")
#: The most that is kept of what somebody writes, in characters.
_LONGEST_WORDS = 500

#: The routes of the configuration: their ids and names; None where it cannot be read.
Routes = Callable[[], Sequence[tuple[str, str]] | None]


async def nothing_changed() -> None:
    """For a stopped engine, which has nothing in memory."""


class Muting:
    """Mutes and unmutes routes. ``changed`` is awaited when something did change."""

    def __init__(
        self,
        store: Store,
        masker: Callable[[], Masker],
        routes: Routes,
        *,
        changed: Callable[[], Awaitable[None]] = nothing_changed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._masker, self._routes = store, masker, routes
        self._changed, self._clock = changed, clock

    async def list(self) -> dict[str, Any]:
        """The mutes of now, by route."""
        found = [control for control in await self._store.controls() if control.kind == "mute"]
        return self._masked({"mutes": [mute_view(control) for control in found]})

    async def mute(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Mute a route, named by its id or its name, ``for`` a duration; null or left out is until it is unmuted.

        An existing mute is replaced, and the answer says so; its reason stays if no other is given.

        Raises:
            BadQuery: the body makes no sense.
            NotFound: no route goes by that name.
        """
        check_fields(body, _WORDS)
        now, seconds = self._clock(), _duration(body.get("for"))
        subject = self._subject(body.get("route"))
        earlier = next(
            (one for one in await self._store.controls() if (one.kind, one.subject) == ("mute", subject)), None
        )
        control = Control(
            kind="mute",
            subject=subject,
            reason=_fields("reason", body.get("reason")) or (earlier.reason if earlier else ""),
            set_by=_fields("by", body.get("by")) or "the admin API",
            set_at=now,
            until_at=None if seconds is None else now + seconds,
        )
        await self._store.set_control(control)
        await self._changed()
        return self._masked({"mute": mute_view(control), "replaced": mute_view(earlier) if earlier else None})

    async def unmute(self, route: str) -> dict[str, Any]:
        """Let a route act again, also one that is not configured any more; ``muted`` says whether it was muted.

        ``held_back`` are the events, newest first, of which the mute held back matches: replaying one fires them.

        Raises:
            NotFound: no route goes by that name, and none that is muted.
        """
        muted = {control.subject: control for control in await self._store.controls() if control.kind == "mute"}
        subject = self._muted_subject(route, muted)
        was = await self._store.remove_control("mute", subject)
        await self._changed()
        held = await self._store.muted_events(subject, since=muted[subject].set_at) if subject in muted else ()
        return self._masked({"route": subject, "muted": was, "held_back": list(held)})

    def _muted_subject(self, route: str, muted: Collection[str]) -> str:
        """The id of a route; of several that may be meant, that of the only one that is muted."""
        known = self._routes() or ()
        ids = routes_called(route, [*known, *((id_, None) for id_ in muted if id_ not in dict(known))])
        meant = [id_ for id_ in ids if id_ in muted] if len(ids) > 1 else ids
        return meant[0] if len(meant) == 1 else self._subject(route)

    def _subject(self, route: object) -> str:
        """The id of a route, by that, by a name that only one has, or by a start that only one has."""
        if not isinstance(route, str) or not route.strip():
            raise BadQuery("nothing says which route", 'write {"route": "ID", "for": "2h"}')
        known = self._routes()
        if known is None:
            return route
        ids = routes_called(route, known)
        if not ids:
            words = {word for pair in known for word in pair if word}
            raise NotFound(f"no route is called {route!r}", did_you_mean(route, words))
        if len(ids) > 1:
            raise BadQuery(ambiguous_message(route, ids), "write more of the one")
        return ids[0]

    def _masked(self, answer: dict[str, Any]) -> dict[str, Any]:
        masked: dict[str, Any] = self._masker().tree(answer)
        return masked


def mute_view(control: Control) -> dict[str, Any]:
    """A mute; ``until`` is null where it ends when somebody ends it."""
    return {
        "route": control.subject,
        "until": None if control.until_at is None else iso(control.until_at),
        "since": iso(control.set_at),
        "by": control.set_by,
        "reason": control.reason,
    }


def _duration(value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise BadQuery(f"for: {error}") from None
    if not 0 < seconds <= _LONGEST:
        raise BadQuery("a route is muted for more than 0s and at most 366d", "enabled: false switches it off")
    return seconds


def _fields(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_WORDS:
        raise BadQuery(f"{name} must be a text of at most {_LONGEST_WORDS} characters")
    return value.strip()
