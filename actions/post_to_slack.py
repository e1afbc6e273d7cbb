"""Post a message to Slack, through the Web API or an incoming webhook."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
from pydantic import AfterValidator, Field, model_validator

from actions._addresses import absolute_url
from actions._default_message import slack_text
from actions._slack_answer import Answer, ThreadGone, check, excerpt
from actions._slack_blocks import BLOCK_COST, TOGETHER, Fitted, Tail, fallback_of, fit_blocks
from actions._slack_text import split
from engine import Action, ActionContext, Discard, EscapePayload, Retry, Scope, Service, read_text
from engine import Params as BaseParams

#: The maximum characters of ``text`` that Slack shows as one message.
_TEXT = 4000
#: The maximum number of sections of a longer text, and the characters of each.
_SECTIONS = 4
_SECTION = (TOGETHER - (_SECTIONS - 1) * BLOCK_COST) // _SECTIONS
_ICON = re.compile(r":[^:\s]+:")


def _web_address(url: str) -> str:
    return absolute_url(url, "webhook_url", "https://hooks.slack.com/services/…")


def _emoji_or_address(icon: str) -> str:
    if _ICON.fullmatch(icon) or urlsplit(icon).scheme in ("http", "https"):
        return icon
    raise ValueError("icon must be an emoji like :robot_face: or the address of an image")


class PostToSlack(Action):
    """Post a message to a Slack channel."""

    class Params(BaseParams):
        """``channel`` (with ``slack.token``) or ``webhook_url``.

        Without ``text`` and ``blocks`` the message contains what happened, error or score, latency, cost and a link.

        ``thread_by``: messages with the same key and channel form a thread, also after a restart and in replays.
        A thread is remembered until ``retention.events`` after its last message.
        """

        channel: Annotated[str, Field(min_length=1)] | None = Field(
            None, description="its name or id; needs slack.token", examples=["#llm-quality"]
        )
        webhook_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
            None, description="an incoming webhook, instead of a channel"
        )
        text: Annotated[str | None, EscapePayload()] = Field(
            None, description="Slack's mrkdwn; data is escaped", examples=["<{{ run.url }}|{{ run.name }}> failed"]
        )
        blocks: Annotated[list[dict[str, Any]] | None, EscapePayload()] = Field(None, description="Block Kit")
        thread_ts: str | None = Field(None, description="the ts of the message to reply to")
        thread_by: str | int | None = Field(None, description="messages with the same key form a thread")
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
                    "thread_by needs a channel (a webhook does not return the ts of its messages) and no thread_ts"
                )
            return self

    main = "channel"
    libraries = ("slack_sdk.web.async_client", "slack_sdk.webhook.async_client")

    def __init__(self) -> None:
        #: A lock for each thread, so that only one message becomes the first. A lock exists while it is used.
        self._starting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """A default message, if there is neither text nor blocks."""
        return {} if {"text", "blocks"} & params.keys() else {"text": slack_text(words)}

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """A channel needs the token; a webhook needs only its address."""
        return frozenset({"slack"}) if "channel" in params else frozenset()

    def destination(self, params: Params) -> str:
        """Slack's limits are by channel. A webhook is identified by a hash, because its address is a secret."""
        if params.webhook_url is None:
            return f"slack {params.channel}"
        return f"slack webhook {hashlib.sha256(params.webhook_url.encode()).hexdigest()[:8]}"

    def scope(self, params: Params) -> Scope:
        """A refused token affects every channel; a webhook is a separate destination."""
        return Scope() if params.webhook_url is not None else Scope(credential="token", service="slack")

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Post once.

        Raises:
            Retry: Slack is busy or limits the rate.
            Discard: Slack refuses the message permanently; says what to do.
        """
        message = _message(params, context)
        return message.mark(await self._send(params, message.body, context))

    async def _send(self, params: Params, body: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        if params.webhook_url is not None:
            return await _post_to_webhook(params.webhook_url, body, params.thread_ts, context)
        channel = params.channel or ""
        if params.thread_by is None:
            return await _post(channel, body, params.thread_ts, context)
        return await self._post_in_thread(channel, str(params.thread_by), body, context)

    async def _post_in_thread(
        self, channel: str, key: str, message: dict[str, Any], context: ActionContext
    ) -> dict[str, Any]:
        starting = self._starting.setdefault((channel, key), asyncio.Lock())
        async with starting:
            first = await context.threads.first(channel, key)
            if first is None:  # the lock makes others wait for the first message
                result = await _post(channel, message, None, context)
                await context.threads.keep(channel, key, result["ts"])
                return result
        try:
            result = await _post(channel, message, first, context)
        except ThreadGone as gone:
            await context.threads.keep(channel, key, None)
            raise Retry(f"{gone}; the next attempt starts a new thread") from gone
        await context.threads.keep(channel, key, first)
        return result


class _Accepted:
    """A response that slack_sdk accepts as success."""

    status = 200
    content_type = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})

    async def text(self) -> str:
        return "ok"

    async def json(self) -> dict[str, bool]:
        return {"ok": True}


class _Session:
    """The engine's session with the interface that slack_sdk uses, without redirects and within the attempt's time.

    It keeps the response for ``check`` and gives slack_sdk a fixed one: the SDK treats a 201 as a failure, and raises
    its own errors for HTML, invalid JSON and JSON that is not an object.
    """

    closed = False

    def __init__(self, context: ActionContext) -> None:
        self._context = context
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The response to the request."""
        assert self._answer is not None  # a request that fails raises through slack_sdk
        return self._answer

    @asynccontextmanager
    async def request(self, method: str, url: str, **options: Any) -> AsyncIterator[_Accepted]:
        # slack_sdk reads a proxy from the environment; the engine does not.
        options |= {"proxy": None, "allow_redirects": False}
        options["timeout"] = aiohttp.ClientTimeout(total=self._context.timeout)
        async with self._context.http.request(method, url, **options) as response:
            self._answer = Answer(response.status, response.headers, await read_text(response))
        yield _Accepted()


def _quiet_logger() -> logging.Logger:
    """A silent logger: slack_sdk's debug lines contain webhook addresses and whole messages."""
    logger = logging.Logger("slack", level=logging.CRITICAL)
    logger.addHandler(logging.NullHandler())
    return logger


async def _post(channel: str, message: dict[str, Any], thread_ts: str | None, context: ActionContext) -> dict[str, Any]:
    from slack_sdk.web.async_client import AsyncWebClient

    if not context.slack.token:
        raise Retry("there is no Slack token: set slack.token in the configuration, or use webhook_url")
    session = _Session(context)
    client = AsyncWebClient(
        token=context.slack.token,
        base_url=context.slack.endpoint,
        session=session,  # type: ignore[arg-type]  # it uses these two members only
        logger=_quiet_logger(),
        retry_handlers=[],
    )
    # Identifies the delivery of a message, in case it appears twice.
    metadata = {"event_type": "langsmith_rules_engine", "event_payload": {"delivery_id": context.delivery_id}}
    await client.chat_postMessage(channel=channel, thread_ts=thread_ts, metadata=metadata, **message)
    answer = check(session.answer, channel, thread_ts)
    posted = {"channel": answer.get("channel"), "ts": answer.get("ts")}
    return {**posted, "thread_ts": thread_ts} if thread_ts else posted


async def _post_to_webhook(
    url: str, message: dict[str, Any], thread_ts: str | None, context: ActionContext
) -> dict[str, Any]:
    from slack_sdk.webhook.async_client import AsyncWebhookClient

    session = _Session(context)
    client = AsyncWebhookClient(
        url,
        session=session,  # type: ignore[arg-type]  # it uses these two members only
        logger=_quiet_logger(),
        retry_handlers=[],
    )
    await client.send_dict(message if thread_ts is None else {**message, "thread_ts": thread_ts})
    answer = session.answer
    if not (200 <= answer.status < 300 and answer.text.strip() == "ok"):
        check(answer, "the webhook", thread_ts)
    return {"status": answer.status, "response": excerpt(answer.text)}


@dataclass(frozen=True, slots=True)
class _Message:
    """A message's body within Slack's limits. ``cuts`` names what was shortened or omitted."""

    body: dict[str, Any]
    cuts: Sequence[str]

    def mark(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result of an attempt, with the cuts."""
        return {**result, "cut": list(self.cuts)} if self.cuts else result


def _message(params: PostToSlack.Params, context: ActionContext) -> _Message:
    """The message. With blocks, ``text`` is shown in notifications.

    Raises:
        Discard: the message is empty.
    """
    tail = partial(_tail, _link(context))
    fitted = fit_blocks(params.blocks or [], tail)
    if params.blocks and not fitted.blocks and not params.text:
        raise Discard("every block is empty, and there is no text: nothing can be sent")
    text = params.text or fallback_of(fitted.blocks) or f"A message of {context.route}"
    if not fitted.blocks and len(text) > _TEXT:
        fitted = _sections(text, tail) if context.digest or _in_lines(text) else Fitted([], ["text"])
    body: dict[str, Any] = {"unfurl_links": params.unfurl, "unfurl_media": params.unfurl}
    body["text"] = split(text, _TEXT, 1, tail).texts[0]
    if fitted.blocks:
        body["blocks"] = fitted.blocks
    if params.username is not None:
        body["username"] = params.username
    if params.icon is not None:
        body["icon_emoji" if _ICON.fullmatch(params.icon) else "icon_url"] = params.icon
    return _Message(body, fitted.cuts)


def _in_lines(text: str) -> bool:
    """Whether a text can be split into sections between lines."""
    return max(map(len, text.split("\n"))) <= _SECTION


def _sections(text: str, tail: Tail) -> Fitted:
    """A text that is too long for ``text``, as sections, which have room for three times as much."""
    pieces = split(text, _SECTION, _SECTIONS, tail)
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": piece}} for piece in pieces.texts if piece.strip()]
    return Fitted(blocks, [] if pieces.whole else ["text"])


def _link(context: ActionContext) -> str:
    """A link to the message's run; empty if it has no run or many."""
    url = context.run.get("url") if context.run is not None and not context.digest else None
    if not isinstance(url, str) or not url:
        return ""
    safe = url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
    return f"; <{safe}|full run>"


def _tail(link: str, lines: int) -> str:
    """The end of a text that was cut, with the number of omitted lines."""
    more = f"{lines} more line{'s' if lines > 1 else ''} " if lines else ""
    return f"… {more}(cut{link})"
