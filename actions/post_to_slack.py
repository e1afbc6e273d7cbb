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

#: Characters of ``text`` that Slack shows as one message.
_TEXT = 4000
#: The sections that a longer text becomes, and the characters of each.
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

        Without ``text`` and ``blocks`` the message has what happened, error or score, latency, cost and a link.

        ``thread_by``: messages of one key and channel form a thread, also after a restart and when they are replayed.
        A thread is remembered until ``retention.events`` after its last message.
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

    main = "channel"
    libraries = ("slack_sdk.web.async_client", "slack_sdk.webhook.async_client")

    def __init__(self) -> None:
        #: One message of a thread at a time while it has no first one; a lock lasts as long as it is used.
        self._starting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """A message, where neither text nor blocks are written."""
        return {} if {"text", "blocks"} & params.keys() else {"text": slack_text(words)}

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """A channel is posted to with the token; a webhook's address is all it takes."""
        return frozenset({"slack"}) if "channel" in params else frozenset()

    def destination(self, params: Params) -> str:
        """Slack counts by channel; a webhook, whose address is a secret, has one of its own."""
        if params.webhook_url is None:
            return f"slack {params.channel}"
        return f"slack webhook {hashlib.sha256(params.webhook_url.encode()).hexdigest()[:8]}"

    def scope(self, params: Params) -> Scope:
        """A token that is refused is refused for every channel; a webhook is a destination of its own."""
        return Scope() if params.webhook_url is not None else Scope(credential="token", service="slack")

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Post once.

        Raises:
            Retry: Slack is busy or limits the rate.
            Discard: Slack refuses for good; says what to do about it.
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
            if first is None:  # who comes second waits until the thread has a first message
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
    """An answer that slack_sdk takes for success."""

    status = 200
    content_type = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})

    async def text(self) -> str:
        return "ok"

    async def json(self) -> dict[str, bool]:
        return {"ok": True}


class _Session:
    """The engine's session as slack_sdk uses one, without following redirects and within the attempt's time.

    It keeps the answer for ``check`` and hands slack_sdk another: the SDK takes a 201 for a failure, and raises
    errors of its own about HTML, broken JSON and JSON that is not an object.
    """

    closed = False

    def __init__(self, context: ActionContext) -> None:
        self._context = context
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The answer to the one request that was made."""
        assert self._answer is not None  # a request that fails raises through slack_sdk
        return self._answer

    @asynccontextmanager
    async def request(self, method: str, url: str, **options: Any) -> AsyncIterator[_Accepted]:
        # slack_sdk takes a proxy from the environment; the engine does not.
        options |= {"proxy": None, "allow_redirects": False}
        options["timeout"] = aiohttp.ClientTimeout(total=self._context.timeout)
        async with self._context.http.request(method, url, **options) as response:
            self._answer = Answer(response.status, response.headers, await read_text(response))
        yield _Accepted()


def _quiet_logger() -> logging.Logger:
    """A logger that says nothing: slack_sdk's debug lines hold webhook addresses and whole messages."""
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
    # Tells people and programs which delivery a message came from, should one ever appear twice.
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
    """A message's body within Slack's limits. ``cuts`` names what was shortened or left out for that."""

    body: dict[str, Any]
    cuts: Sequence[str]

    def mark(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result of an attempt that sent it."""
        return {**result, "cut": list(self.cuts)} if self.cuts else result


def _message(params: PostToSlack.Params, context: ActionContext) -> _Message:
    """The message; with blocks, ``text`` is what notifications show.

    Raises:
        Discard: there is nothing in it.
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
    """Whether sections can begin and end between the lines of a text."""
    return max(map(len, text.split("\n"))) <= _SECTION


def _sections(text: str, tail: Tail) -> Fitted:
    """A text that is too long for one message's ``text``, as sections, which have room for three times as much."""
    pieces = split(text, _SECTION, _SECTIONS, tail)
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": piece}} for piece in pieces.texts if piece.strip()]
    return Fitted(blocks, [] if pieces.whole else ["text"])


def _link(context: ActionContext) -> str:
    """A link to the run that a message is about; empty where it has none, or is about many."""
    url = context.run.get("url") if context.run is not None and not context.digest else None
    if not isinstance(url, str) or not url:
        return ""
    safe = url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
    return f"; <{safe}|full run>"


def _tail(link: str, lines: int) -> str:
    """What stands where a text was cut, with the number of lines that are left out."""
    more = f"{lines} more line{'s' if lines > 1 else ''} " if lines else ""
    return f"… {more}(cut{link})"
