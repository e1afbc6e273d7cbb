"""The stand-in for Slack, called by the real slack_sdk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from engine.testing import SLACK_LIMITS, SlackStandIn


def _client(stand_in: SlackStandIn, token: str = "xoxb-sandbox") -> AsyncWebClient:
    return AsyncWebClient(token, base_url=stand_in.url)


@contextlib.asynccontextmanager
async def _bare_post(url: str, body: Any) -> AsyncIterator[tuple[int, str]]:
    """A request that the SDK would never send."""
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        yield response.status, await response.text()


async def _refusal(client: AsyncWebClient, **message) -> str:
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(**({"channel": "#quality", "text": "hello"} | message))
    return caught.value.response["error"]


def _section(text: str) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


async def test_messages_are_kept_and_threads_follow_their_ts(slack):
    client = _client(slack)
    blocks = [_section("*hello*"), {"type": "divider"}]
    first = await client.chat_postMessage(channel="#quality", text="hello", blocks=blocks)
    await client.chat_postMessage(channel=first["channel"], text="more", thread_ts=first["ts"], unfurl_links=False)
    assert [(one.channel, one.text, one.thread_ts) for one in slack.messages] == [
        ("#quality", "hello", None),
        (first["channel"], "more", first["ts"]),
    ]
    assert slack.messages[0].blocks == blocks
    assert slack.messages[1].sent["unfurl_links"] is False
    assert first["message"]["text"] == "hello"
    assert slack.messages[0].ts < slack.messages[1].ts


async def test_the_other_methods(slack):
    client = _client(slack)
    assert (await client.auth_test())["team"] == "Sandbox"
    assert (await client.conversations_list())["channels"] == []
    with pytest.raises(SlackApiError, match="unknown_method"):
        await client.files_list()


async def test_tokens_channels_and_archives():
    async with SlackStandIn(token="xoxb-right", channels=["#quality", "old"], archived=["old"]) as stand_in:
        assert await _refusal(_client(stand_in, "xoxb-wrong")) == "invalid_auth"
        right = _client(stand_in, "xoxb-right")
        assert await _refusal(right, channel="#nowhere") == "channel_not_found"
        assert await _refusal(right, channel="old") == "is_archived"
        by_id = (await right.chat_postMessage(channel="quality", text="hello"))["channel"]
        assert (await right.chat_postMessage(channel=by_id, text="again"))["channel"] == by_id
        listed = [one["name"] for one in (await right.conversations_list())["channels"]]
        assert listed == ["old", "quality"]


async def test_a_request_without_a_token_is_not_authed(slack):
    async with _bare_post(f"{slack.url}chat.postMessage", {"channel": "c", "text": "t"}) as answer:
        assert answer == (200, '{"ok":false,"error":"not_authed"}')


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": ""}, "no_text"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": [_section("x" * 3001)]}, "invalid_blocks"),
        ({"blocks": [_section("")]}, "invalid_blocks"),
        ({"blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}]}, "invalid_blocks"),
        ({"blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        ({"blocks": [{"type": "divider", "block_id": "x" * 256}]}, "invalid_blocks"),
        ({"blocks": [{"type": "sectoin"}]}, "invalid_blocks"),
        ({"blocks": ["text"]}, "invalid_blocks"),
        ({"blocks": [_section("x" * 3000)] * 5}, "msg_blocks_too_long"),
    ],
)
@pytest.mark.filterwarnings("ignore:The top-level `text` argument is missing")
async def test_what_slack_refuses_is_refused(slack, message, error):
    assert await _refusal(_client(slack), **message) == error
    assert slack.messages == []


@pytest.mark.parametrize(
    "message",
    [
        {"text": "x" * 40_000},
        {"blocks": [{"type": "divider"}] * 50},
        {"blocks": [_section("x" * 3000)]},
        {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 150}}]},
        {"blocks": [{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 10}]},
    ],
)
async def test_what_slack_just_takes_is_taken(slack, message):
    await _client(slack).chat_postMessage(**({"channel": "c", "text": "fallback"} | message))
    assert len(slack.messages) == 1


async def test_one_message_a_second_per_channel():
    async with SlackStandIn(rate_limits=SLACK_LIMITS) as stand_in:
        client = _client(stand_in)
        await client.chat_postMessage(channel="#a", text="1")
        with pytest.raises(SlackApiError) as caught:
            await client.chat_postMessage(channel="#a", text="2")
        assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
        assert caught.value.response.headers["Retry-After"] == "1"
        await client.chat_postMessage(channel="#b", text="3")
        assert [one.text for one in stand_in.messages] == ["1", "3"]


async def test_faults_reach_the_sdk(slack):
    slack.faults.add(status=503, path="/api/chat.postMessage")
    slack.faults.add(status=429, retry_after=7)
    for status, error in ((503, "fault_on_demand"), (429, "ratelimited")):
        with pytest.raises(SlackApiError) as caught:
            await _client(slack).chat_postMessage(channel="c", text="t")
        assert (caught.value.response.status_code, caught.value.response["error"]) == (status, error)
    assert caught.value.response.headers["Retry-After"] == "7"


async def test_an_incoming_webhook_answers_in_plain_text(slack):
    answer = await AsyncWebhookClient(slack.webhook_url).send(text="hello", blocks=[_section("hello")])
    assert (answer.status_code, answer.body) == (200, "ok")
    assert (slack.messages[0].channel, slack.messages[0].text) == ("", "hello")


async def test_an_incoming_webhook_refuses_in_plain_text(slack):
    client = AsyncWebhookClient(slack.webhook_url)
    empty = await client.send(text="")
    assert (empty.status_code, empty.body) == (400, "no_text")
    gone = await AsyncWebhookClient(slack.webhook_url + "x").send(text="hello")
    assert (gone.status_code, gone.body) == (404, "no_service")
    slack.faults.add(status=410, body="channel_is_archived", path="/services")
    archived = await client.send(text="hello")
    assert (archived.status_code, archived.body) == (410, "channel_is_archived")
    async with _bare_post(slack.webhook_url, [1]) as answer:
        assert answer == (400, "invalid_payload")


async def test_an_incoming_webhook_has_its_rate_limit_too():
    async with SlackStandIn(rate_limits=SLACK_LIMITS) as stand_in:
        client = AsyncWebhookClient(stand_in.webhook_url)
        answers = [await client.send(text=str(number)) for number in range(2)]
        assert [one.status_code for one in answers] == [200, 429]
        assert answers[1].headers["Retry-After"] == "1"
