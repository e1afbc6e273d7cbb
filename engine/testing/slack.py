"""A stand-in for Slack: incoming webhooks and the part of the Web API that posts messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.testing.langsmith.rows import Row
from engine.testing.rate_limits import RateLimit, RateLimiter
from engine.testing.server import Answer, Recorded, Refused, StandIn
from engine.testing.slack_limits import check_message

_HOOK = "/services/T0001/B0001/sandboxwebhooktoken"
#: The status of an incoming webhook's error codes (docs.slack.dev: incoming webhooks); others come with a 200.
_WEBHOOK_STATUSES = {
    "invalid_payload": 400,
    "no_text": 400,
    "user_not_found": 400,
    "action_prohibited": 403,
    "invalid_token": 403,
    "posting_to_general_channel_denied": 403,
    "channel_not_found": 404,
    "no_active_hooks": 404,
    "no_service": 404,
    "no_team": 404,
    "channel_is_archived": 410,
    "rollup_error": 500,
}
#: 2024-04-05, the day of the seed's payload; message times count up from here.
_FIRST_TS = 1712280000


@dataclass(frozen=True, slots=True)
class Message:
    """A message that Slack accepted. ``channel`` is empty for an incoming webhook, which has its own."""

    channel: str
    text: str
    blocks: list[Row] | None
    thread_ts: str | None
    ts: str
    sent: Row


class SlackStandIn(StandIn):
    """Slack on loopback. ``url`` is the Web API's base, ``webhook_url`` an incoming webhook.

    With ``token`` every other token is ``invalid_auth``. With ``channels`` every other channel is
    ``channel_not_found`` (names with or without ``#``, or ids). ``archived`` ones refuse.
    With ``webhook_error`` the incoming webhook refuses every message with that code, at the
    status that Slack gives it (200 for those that it gives none).
    ``rate_limits`` is none, or ``SLACK_LIMITS``: one message a second per channel.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token: str | None = None,
        channels: Sequence[str] | None = None,
        archived: Sequence[str] = (),
        webhook_error: str = "",
        rate_limits: Sequence[RateLimit] = (),
        on_request: Callable[[Recorded], None] | None = None,
    ) -> None:
        super().__init__(host=host, port=port, on_request=on_request)
        self.token = token
        self.channels = None if channels is None else {channel.lstrip("#") for channel in channels}
        self.archived = {channel.lstrip("#") for channel in archived}
        self.webhook_error = webhook_error
        self.limiter = RateLimiter(rate_limits)
        self.messages: list[Message] = []
        self._count = itertools.count(1)

    @property
    def url(self) -> str:
        """The base of the Web API, as ``AsyncWebClient(base_url=…)`` takes it."""
        return f"{self.origin}/api/"

    @property
    def webhook_url(self) -> str:
        """An incoming webhook that works."""
        return f"{self.origin}{_HOOK}"

    def fault_body(self, recorded: Recorded, status: int) -> Any:
        """Plain text from a webhook, ``ok: false`` from the Web API."""
        if recorded.path.startswith("/services/"):
            return "rate_limited" if status == 429 else "fault_on_demand"
        return {"ok": False, "error": "ratelimited" if status == 429 else "fault_on_demand"}

    async def answer(self, recorded: Recorded) -> Answer:
        """Post a message, or handle one of the few other methods."""
        if recorded.path.startswith("/services/"):
            return self._webhook(recorded)
        if not recorded.path.startswith("/api/"):
            raise Refused(404, "not found")
        method = recorded.path.removeprefix("/api/")
        call = {"chat.postMessage": self._post, "auth.test": self._auth_test, "conversations.list": self._list}
        if method not in call:
            return _no("unknown_method", req_method=method)
        if error := self._auth_error(recorded):
            return _no(error)
        return call[method](recorded)

    def _auth_error(self, recorded: Recorded) -> str:
        scheme, _, token = recorded.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return "not_authed"
        return "invalid_auth" if self.token is not None and token != self.token else ""

    def _post(self, recorded: Recorded) -> Answer:
        body = recorded.body
        if not isinstance(body, dict):
            return _no("invalid_json")
        channel = str(body.get("channel") or "").lstrip("#")
        if error := self._channel_error(channel):
            recorded.note = error
            return _no(error)
        if problem := check_message(body):
            recorded.note = problem.code
            details = {"response_metadata": {"messages": list(problem.messages)}} if problem.messages else {}
            return _no(problem.code, **details)
        self._limit(recorded, channel)
        message = self._keep(recorded, str(body["channel"]), body)
        shown = {"type": "message", "text": message.text, "ts": message.ts, "bot_id": "B0001", "user": "U0001"}
        return Answer({"ok": True, "channel": _channel_id(channel), "ts": message.ts, "message": shown})

    def _channel_error(self, channel: str) -> str:
        known = self.channels
        if not channel or (known is not None and channel not in known | {_channel_id(name) for name in known}):
            return "channel_not_found"
        return "is_archived" if channel in self.archived else ""

    def _webhook(self, recorded: Recorded) -> Answer:
        if recorded.path != _HOOK:
            raise Refused(404, "no_service")
        if not isinstance(recorded.body, dict):
            raise Refused(400, "invalid_payload")
        if problem := check_message(recorded.body):
            recorded.note = problem.code
            raise Refused(400, problem.code)
        if error := self.webhook_error:
            recorded.note = error
            raise Refused(_WEBHOOK_STATUSES.get(error, 200), error)
        self._limit(recorded, _HOOK)
        self._keep(recorded, "", recorded.body)
        return Answer("ok")

    def _limit(self, recorded: Recorded, channel: str) -> None:
        wait = self.limiter.refuse(f"{recorded.method} {recorded.path}", channel)
        if wait is not None:
            body: Any = {"ok": False, "error": "ratelimited"} if recorded.path != _HOOK else "rate_limited"
            raise Refused(429, body, {"Retry-After": str(wait)})

    def _keep(self, recorded: Recorded, channel: str, body: Row) -> Message:
        number = next(self._count)
        ts = f"{_FIRST_TS + number}.{number:06d}"
        message = Message(channel, str(body.get("text") or ""), body.get("blocks"), body.get("thread_ts"), ts, body)
        self.messages.append(message)
        recorded.note = f"{channel or 'webhook'}: {message.text[:80]}"
        return message

    def _auth_test(self, _recorded: Recorded) -> Answer:
        who = {"url": f"{self.origin}/", "team": "Sandbox", "user": "engine", "team_id": "T0001", "user_id": "U0001"}
        return Answer({"ok": True, **who, "bot_id": "B0001", "is_enterprise_install": False})

    def _list(self, _recorded: Recorded) -> Answer:
        rows = [{"id": _channel_id(name), "name": name, "is_channel": True} for name in sorted(self.channels or ())]
        return Answer({"ok": True, "channels": rows, "response_metadata": {"next_cursor": ""}})


def _channel_id(name: str) -> str:
    """A channel's id from its name. An id is returned unchanged."""
    if name[:1] in ("C", "G", "D") and name.isalnum() and name.isupper():
        return name
    return "C" + "".join(letter for letter in name.upper() if letter.isalnum())[:10].ljust(10, "0")


def _no(error: str, **more: Any) -> Answer:
    """Slack refuses requests with a 200."""
    return Answer({"ok": False, "error": error, **more})
