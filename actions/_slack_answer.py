"""Interprets Slack's responses to a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from engine import Discard, Retry, check_response

#: The maximum characters of a response quoted in a reason.
_LONGEST_EXCERPT = 200
_CODE = re.compile(r"[a-z][a-z0-9_]{1,99}")

#: Advice for Slack's error codes (docs.slack.dev: chat.postMessage, "Errors"; incoming webhooks).
_ADVICE = {
    "not_in_channel": "invite the bot there: /invite @bot",
    "channel_not_found": "check the channel's name; for a private one, invite the bot there: /invite @bot",
    "is_archived": "unarchive the channel or choose another",
    "channel_is_archived": "unarchive the channel or choose another",
    "invalid_auth": "check slack.token; it starts with xoxb-",
    "not_authed": "check slack.token; it starts with xoxb-",
    "account_inactive": "the token's app or user was removed; install the app again and change slack.token",
    "token_revoked": "install the Slack app again and change slack.token",
    "token_expired": "install the Slack app again and change slack.token",
    "no_permission": "give the bot leave to post there",
    "restricted_action": "the workspace's settings forbid posting there; ask its administrator",
    "action_prohibited": "the workspace's settings forbid posting there; ask its administrator",
    "posting_to_general_channel_denied": "the workspace's settings forbid posting there; ask its administrator",
    "no_service": "the webhook was removed; make a new one and change webhook_url",
    "no_active_hooks": "the webhook was disabled; make a new one and change webhook_url",
    "no_channel": "the webhook's channel is gone; make a new webhook and change webhook_url",
    "no_team": "the webhook's workspace is gone; change webhook_url",
    "invalid_token": "check webhook_url",
    "msg_too_long": "shorten text",
    "msg_blocks_too_long": "shorten the blocks: Slack limits their texts taken together, too",
    "invalid_blocks": "check the blocks in Slack's Block Kit Builder",
    "invalid_blocks_format": "blocks must be a list of Block Kit objects",
}
#: What Slack says with a 200 and HTTP has a status for: about the key, the rate, and faults of its own. By the status
#: the engine knows what follows, for this delivery and for the channel.
_STATUSES = {
    **dict.fromkeys(("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"), 401),
    **dict.fromkeys(("ratelimited", "rate_limited", "message_limit_exceeded"), 429),
    **dict.fromkeys(("fatal_error", "internal_error", "rollup_error"), 500),
    "service_unavailable": 503,
    "request_timeout": 504,
}
#: Error codes that mean that the thread's first message is gone.
_THREAD_GONE = frozenset({"thread_not_found", "message_not_found", "cannot_reply_to_message", "invalid_thread_ts"})


class ThreadGone(Discard):
    """The message to reply to does not exist."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: the status, the headers and at most 1 MiB of the body."""

    status: int
    headers: Mapping[str, str]
    text: str


def check(answer: Answer, channel: str, thread_ts: str | None) -> Mapping[str, Any]:
    """Return the content of a response with ``"ok": true``. Without it the message was not accepted, even with a 200.

    Raises:
        HttpFailure: by the status, or by the status that corresponds to the error code.
        Retry: the response has neither ok nor an error code.
        Discard: Slack refuses the message permanently.
    """
    parsed = _parsed(answer.text)
    content: Mapping[str, Any] = parsed if isinstance(parsed, Mapping) else {}
    code = _code(content, answer.text)
    message = f"{code}{_advice(code, content)}"
    check_response(answer.status, answer.headers, message or excerpt(answer.text))
    if content.get("ok") is True:
        return content
    check_response(_STATUSES.get(code, answer.status), answer.headers, f"Slack said {message}")
    if not code:
        what = "is not JSON" if parsed is None else "has neither ok nor an error code"
        raise Retry(f"Slack's answer {what}: {excerpt(answer.text) or 'it is empty'}")
    if thread_ts and code in _THREAD_GONE:
        raise ThreadGone(f"Slack: {code}: there is no message {thread_ts} to reply to in {channel}")
    raise Discard(f"Slack refused the message for {channel}: {message}")


def _parsed(text: str) -> Any:
    """The JSON value of a text; None if it is not JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _code(content: Mapping[str, Any], text: str) -> str:
    """The error code of a response: in the Web API under ``error``, for an incoming webhook the whole text."""
    code = content["error"] if "error" in content else text.strip()
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return ""
    return code if "error" in content or "_" in code or code in _STATUSES else ""


def _advice(code: str, content: Mapping[str, Any]) -> str:
    if code == "missing_scope":
        return f": add the scope {content.get('needed') or 'chat:write'} to the Slack app and install it again"
    metadata = content.get("response_metadata")
    details = metadata.get("messages") if isinstance(metadata, Mapping) else None
    texts = [_ADVICE[code]] if code in _ADVICE else []
    texts += map(str, details if isinstance(details, list) else [])
    return f": {'; '.join(texts)}" if texts else ""


def excerpt(text: str) -> str:
    """The start of a response on one line, with control characters escaped. If it was cut it ends in "…"."""
    line = " ".join(text[: 2 * _LONGEST_EXCERPT].split())
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
    whole = len(line) <= _LONGEST_EXCERPT and len(text) <= 2 * _LONGEST_EXCERPT
    return line if whole else f"{line[: _LONGEST_EXCERPT - 1]}…"
