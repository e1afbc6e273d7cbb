"""Post a message to Slack, through the Web API or an incoming webhook."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn, Self
from urllib.parse import urlsplit

import aiohttp
from pydantic import AfterValidator, Field, model_validator

from engine import Action, ActionContext, Discard, EscapePayload, Retry, Service, check_response
from engine import Params as BaseParams

#: Slack's limits, in characters and pieces (docs.slack.dev: chat.postMessage, Block Kit reference).
_TEXT, _FALLBACK, _SECTION, _FIELD, _HEADER, _MARKDOWN, _BUTTON = 4000, 1000, 3000, 2000, 150, 12000, 75
_BLOCKS, _FIELDS, _ELEMENTS = 50, 10, 10
#: Threads remembered for ``thread_by``.
_MOST_THREADS = 10_000
_ICON = re.compile(r":[^:\s]+:")

#: What a person can do about Slack's refusals (docs.slack.dev: chat.postMessage, "Errors"; incoming webhooks).
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
#: Refusals that mean: the thread's first message is gone.
_THREAD_GONE = frozenset({"thread_not_found", "message_not_found", "cannot_reply_to_message", "invalid_thread_ts"})


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("webhook_url must be absolute, like https://hooks.slack.com/services/…")
    return url


def _emoji_or_address(icon: str) -> str:
    if _ICON.fullmatch(icon) or urlsplit(icon).scheme in ("http", "https"):
        return icon
    raise ValueError("icon must be an emoji like :robot_face: or the address of an image")


@dataclass(slots=True)
class _Thread:
    """A thread by key: its first message's ``ts``, once that is posted."""

    ts: str | None = None
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)


class PostToSlack(Action):
    """Post a message to a Slack channel."""

    class Params(BaseParams):
        """``channel`` (with ``slack.token``) or ``webhook_url``; at least one of ``text`` and ``blocks``.

        ``thread_by``: messages of one key and channel form a thread. The engine remembers
        threads while it runs; after a restart, the next message of a key starts a new one.
        """

        channel: Annotated[str, Field(min_length=1)] | None = Field(
            None, description="its name or id; needs slack.token", examples=["#llm-quality"]
        )
        webhook_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
            None, description="an incoming webhook, in place of a channel"
        )
        text: Annotated[str | None, EscapePayload()] = Field(
            None, description="Slack's mrkdwn; data is escaped", examples=["<{{ run.url }}|{{ run.name }}> failed"]
        )
        blocks: Annotated[list[dict[str, Any]] | None, EscapePayload()] = Field(None, description="Block Kit")
        thread_ts: str | None = Field(None, description="the ts of the message to answer")
        thread_by: str | int | None = Field(None, description="messages of one key form a thread")
        unfurl: bool = Field(default=False, description="show previews of links")
        username: str | None = Field(None, description="the name to post under")
        icon: Annotated[str, AfterValidator(_emoji_or_address)] | None = Field(
            None, description="an :emoji: or an image's address"
        )

        @model_validator(mode="after")
        def _fits_together(self) -> Self:
            if (self.channel is None) == (self.webhook_url is None):
                raise ValueError("post_to_slack needs channel or webhook_url, one of the two")
            if not self.text and not self.blocks:
                raise ValueError("post_to_slack needs text or blocks")
            if self.thread_by is not None and (self.thread_ts is not None or self.channel is None):
                raise ValueError(
                    "thread_by needs a channel (a webhook does not tell its messages' ts) and no thread_ts"
                )
            return self

    libraries = ("slack_sdk.web.async_client", "slack_sdk.webhook.async_client")

    def __init__(self) -> None:
        self._threads: OrderedDict[tuple[str, str], _Thread] = OrderedDict()

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """A channel is posted to with the token; a webhook's address is all it takes."""
        return frozenset({"slack"}) if "channel" in params else frozenset()

    def destination(self, params: Params) -> str:
        """Slack counts by channel; a webhook, whose address is a secret, has one of its own."""
        if params.webhook_url is None:
            return f"slack {params.channel}"
        return f"slack webhook {hashlib.sha256(params.webhook_url.encode()).hexdigest()[:8]}"

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Post once.

        Raises:
            Retry: Slack is busy or limits the rate.
            Discard: Slack refuses for good; says what to do about it.
        """
        message = _message(params, context)
        if params.webhook_url is not None:
            thread = {} if params.thread_ts is None else {"thread_ts": params.thread_ts}
            return await _post_to_webhook(params.webhook_url, message | thread, context)
        channel = params.channel or ""
        if params.thread_by is None:
            return await _post(channel, message, params.thread_ts, context)
        return await self._post_in_thread(channel, str(params.thread_by), message, context)

    async def _post_in_thread(
        self, channel: str, key: str, message: dict[str, Any], context: ActionContext
    ) -> dict[str, Any]:
        thread = self._thread(channel, key)
        async with thread.starting:  # who comes second waits until the thread has a first message
            if thread.ts is None:
                result = await _post(channel, message, None, context)
                thread.ts = result["ts"]
                return result
        try:
            return await _post(channel, message, thread.ts, context)
        except _ThreadGone as gone:
            thread.ts = None
            raise Retry(f"{gone}; the next attempt starts a new thread") from gone

    def _thread(self, channel: str, key: str) -> _Thread:
        thread = self._threads.setdefault((channel, key), _Thread())
        self._threads.move_to_end((channel, key))
        if len(self._threads) > _MOST_THREADS:
            self._threads.popitem(last=False)
        return thread


class _ThreadGone(Discard):
    """The message that was to be replied to is not there."""


class _Session:
    """The engine's session as slack_sdk uses one, without following redirects and within the attempt's time."""

    def __init__(self, context: ActionContext) -> None:
        self._context = context

    @property
    def closed(self) -> bool:
        return self._context.http.closed

    def request(self, method: str, url: str, **options: Any) -> Any:
        # slack_sdk takes a proxy from the environment; the engine does not.
        options |= {"proxy": None, "allow_redirects": False}
        options["timeout"] = aiohttp.ClientTimeout(total=self._context.timeout)
        return self._context.http.request(method, url, **options)


def _quiet_logger() -> logging.Logger:
    """A logger that says nothing: slack_sdk's debug lines hold webhook addresses and whole messages."""
    logger = logging.Logger("slack", level=logging.CRITICAL)
    logger.addHandler(logging.NullHandler())
    return logger


async def _post(channel: str, message: dict[str, Any], thread_ts: str | None, context: ActionContext) -> dict[str, Any]:
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.async_client import AsyncWebClient

    if not context.slack.token:
        raise Retry("there is no Slack token: set slack.token in the configuration, or use webhook_url")
    client = AsyncWebClient(
        token=context.slack.token,
        base_url=context.slack.endpoint,
        session=_Session(context),  # type: ignore[arg-type]  # it uses these two members only
        logger=_quiet_logger(),
        retry_handlers=[],
    )
    # Tells people and programs which delivery a message came from, should one ever appear twice.
    metadata = {"event_type": "langsmith_rules_engine", "event_payload": {"delivery_id": context.delivery_id}}
    try:
        answer = await client.chat_postMessage(channel=channel, thread_ts=thread_ts, metadata=metadata, **message)
    except SlackApiError as error:
        _refuse(error.response, channel, thread_ts)
    posted = {"channel": answer.get("channel"), "ts": answer.get("ts")}
    return {**posted, "thread_ts": thread_ts} if thread_ts else posted


def _refuse(response: Any, channel: str, thread_ts: str | None) -> NoReturn:
    """Raise what follows from an answer that is not ok: by its status, else by the error it names."""
    data = getattr(response, "data", None)
    answer: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    code = str(answer.get("error") or "")
    # Where its JSON is broken, slack_sdk hands on aiohttp's response instead of its own.
    status = response.status_code if hasattr(response, "status_code") else response.status
    check_response(status, response.headers, code)
    check_response(_STATUSES.get(code, status), response.headers, f"Slack said {code}{_advice(code, answer)}")
    if not code:
        raise Retry("Slack: an answer that makes no sense")
    if thread_ts and code in _THREAD_GONE:
        raise _ThreadGone(f"Slack: {code}: there is no message {thread_ts} to reply to in {channel}")
    raise Discard(f"Slack refused the message for {channel}: {code}{_advice(code, answer)}")


def _advice(code: str, answer: Mapping[str, Any]) -> str:
    if code == "missing_scope":
        return f": add the scope {answer.get('needed') or 'chat:write'} to the Slack app and install it again"
    details = (answer.get("response_metadata") or {}).get("messages") or ()
    words = "; ".join([*([_ADVICE[code]] if code in _ADVICE else []), *map(str, details)])
    return f": {words}" if words else ""


async def _post_to_webhook(url: str, message: dict[str, Any], context: ActionContext) -> dict[str, Any]:
    from slack_sdk.webhook.async_client import AsyncWebhookClient

    client = AsyncWebhookClient(
        url,
        session=_Session(context),  # type: ignore[arg-type]  # it uses these two members only
        logger=_quiet_logger(),
        retry_handlers=[],
    )
    response = await client.send_dict(message)
    code = response.body.strip()
    check_response(response.status_code, response.headers, code + _advice(code, {}))
    return {"status": response.status_code, "response": _cut_plain(code, 200)}


def _message(params: PostToSlack.Params, context: ActionContext) -> dict[str, Any]:
    """The message's body, every text within Slack's limits; with blocks, ``text`` is what notifications show."""
    tail = _tail(context)
    message: dict[str, Any] = {"unfurl_links": params.unfurl, "unfurl_media": params.unfurl}
    message["text"] = _cut(params.text or _words_of(params.blocks or [], context), _TEXT, tail)
    if params.blocks:
        message["blocks"] = _fit_blocks(params.blocks, tail)
    if params.username is not None:
        message["username"] = params.username
    if params.icon is not None:
        message["icon_emoji" if _ICON.fullmatch(params.icon) else "icon_url"] = params.icon
    return message


def _tail(context: ActionContext) -> str:
    """What stands where a text was cut: a link to the run, if it has one."""
    url = context.run.get("url") if context.run is not None else None
    if not isinstance(url, str) or not url:
        return "… (cut)"
    safe = url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
    return f"… (cut; <{safe}|full run>)"


def _cut(text: str, limit: int, tail: str) -> str:
    """The text, cut between code points when it is too long: never within an entity, a link or an open code block."""
    if len(text) <= limit:
        return text
    tail = tail if len(tail) < limit // 2 else "…"
    head = _whole_markup(text[: limit - len(tail) - 4], text)
    fence = "\n```" if head.count("```") % 2 else ""
    return head + fence + tail


def _whole_markup(head: str, text: str) -> str:
    """Leave out what would be half of ``&amp;`` or of ``<address|words>``."""
    ampersand = head.rfind("&", -6)
    if ampersand >= 0 and ";" not in head[ampersand:]:
        head = head[:ampersand]
    opening = head.rfind("<")
    if opening > head.rfind(">") and re.match(r"<[^<>\s][^<>\n]*>", text[opening:]):
        head = head[:opening]
    return head


def _cut_plain(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fit_blocks(blocks: list[dict[str, Any]], tail: str) -> list[dict[str, Any]]:
    kept = [_fit_block(block, tail) for block in blocks[:_BLOCKS]]
    if len(blocks) > _BLOCKS:
        left_out = len(blocks) - _BLOCKS + 1
        words = f"{left_out} more blocks {tail}"
        kept[-1] = {"type": "context", "elements": [{"type": "mrkdwn", "text": words}]}
    return kept


def _fit_block(block: dict[str, Any], tail: str) -> dict[str, Any]:
    fitted, kind = dict(block), block.get("type")
    if kind == "markdown" and isinstance(block.get("text"), str):
        fitted["text"] = _cut_plain(block["text"], _MARKDOWN)
    elif "text" in block:
        fitted["text"] = _fit_text(block["text"], _HEADER if kind == "header" else _SECTION, tail)
    if isinstance(block.get("fields"), list):
        fitted["fields"] = [_fit_text(text, _FIELD, tail) for text in block["fields"][:_FIELDS]]
    if kind == "context" and isinstance(block.get("elements"), list):
        fitted["elements"] = [_fit_text(element, _SECTION, tail) for element in block["elements"][:_ELEMENTS]]
    if kind == "actions" and isinstance(block.get("elements"), list):
        fitted["elements"] = [_fit_button(element, tail) for element in block["elements"]]
    if isinstance(block.get("accessory"), dict):
        fitted["accessory"] = _fit_button(block["accessory"], tail)
    return fitted


def _fit_button(element: Any, tail: str) -> Any:
    if not isinstance(element, dict) or "text" not in element:
        return element
    return {**element, "text": _fit_text(element["text"], _BUTTON, tail)}


def _fit_text(text: Any, limit: int, tail: str) -> Any:
    """A Block Kit text object within a limit; whatever else stands there is left to Slack to judge."""
    if not isinstance(text, dict) or not isinstance(text.get("text"), str):
        return text
    is_markup = text.get("type") == "mrkdwn"
    words = _cut(text["text"], limit, tail) if is_markup else _cut_plain(text["text"], limit)
    return {**text, "text": words}


def _words_of(blocks: list[dict[str, Any]], context: ActionContext) -> str:
    """A fallback for notifications and screen readers: the blocks' own words."""
    words = " ".join(text for block in blocks for text in _texts(block)).strip()
    return _cut(words, _FALLBACK, "…") or f"A message of {context.route}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        text = value.get("text")
        if isinstance(text, str):
            yield text
        else:
            yield from _texts(text)
        for name in ("fields", "elements"):
            yield from _texts(value.get(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
