"""post_to_slack against Slack's stand-in, through the real slack_sdk."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from action_samples import RUN
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actions._slack_text import cut, split
from actions.post_to_slack import PostToSlack
from engine import Discard, EscapePayload, Retry
from engine.action.failures import classify
from engine.action.params import escaped_params
from engine.clients.slack import SlackSettings
from engine.core.errors import HttpFailure, StoreError
from engine.testing import SlackStandIn
from engine.worker.slack_threads import StoredThreads

LINK = "<https://smith.langchain.com/o/1/projects/p/2/r/3?trace_id=4&amp;start_time=5|full run>"


def section(text, kind="mrkdwn"):
    return {"type": "section", "text": {"type": kind, "text": text}}


def plain_text(text):
    return {"type": "plain_text", "text": text}


def rich(*elements):
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


OPTIONS = [{"text": plain_text(""), "value": "1"}, {"text": plain_text("two"), "value": "2"}]


async def test_posts_to_a_channel_without_unfurling(attempt, slack):
    result = await attempt(PostToSlack(), {"channel": "#quality", "text": "hello"}, delivery_id="d-1")
    (message,) = slack.messages
    assert (message.channel, message.text) == ("#quality", "hello")
    assert message.sent["unfurl_links"] is False
    assert message.sent["unfurl_media"] is False
    assert message.sent["metadata"]["event_payload"] == {"delivery_id": "d-1"}
    assert result["ts"] == message.ts
    assert slack.requests[0].headers["Authorization"] == "Bearer xoxb-test"


async def test_posts_to_a_webhook_without_a_token(attempt, slack):
    params = {"webhook_url": slack.webhook_url, "text": "hello", "thread_ts": "1.2"}
    result = await attempt(PostToSlack(), params, slack=SlackSettings())
    assert slack.messages[0].sent == {"text": "hello", "unfurl_links": False, "unfurl_media": False, "thread_ts": "1.2"}
    assert result == {"status": 200, "response": "ok"}


async def test_name_icon_thread_and_unfurling_are_sent(attempt, slack):
    params = {"channel": "#q", "text": "t", "username": "Judge", "unfurl": True, "thread_ts": "1.2"}
    await attempt(PostToSlack(), params | {"icon": ":robot_face:"})
    await attempt(PostToSlack(), params | {"icon": "https://x.y/z.png"})
    first, second = (message.sent for message in slack.messages)
    assert (first["username"], first["unfurl_links"], first["thread_ts"]) == ("Judge", True, "1.2")
    assert (first["icon_emoji"], second["icon_url"]) == (":robot_face:", "https://x.y/z.png")


async def test_messages_of_one_key_form_a_thread(attempt, slack):
    action = PostToSlack()
    for number, key in enumerate(["a", "a", "b", 7, "7"]):
        await attempt(action, {"channel": "#q", "text": str(number), "thread_by": key})
    roots = [message.thread_ts for message in slack.messages]
    assert roots == [None, slack.messages[0].ts, None, None, slack.messages[3].ts]


async def test_messages_of_one_key_at_once_form_one_thread(attempt, slack):
    action = PostToSlack()
    params = {"channel": "#q", "text": "t", "thread_by": "key"}
    await asyncio.gather(*(attempt(action, params) for _ in range(8)))
    assert [message.thread_ts for message in slack.messages] == [None] + [slack.messages[0].ts] * 7


class _BrokenStore:
    """A store that takes no thread."""

    async def thread(self, *_thread):
        raise StoreError("the disk is full")

    save_thread = thread


async def test_a_thread_that_cannot_be_stored_goes_on_as_long_as_the_process(attempt, slack, caplog):
    broken = StoredThreads(_BrokenStore(), logging.getLogger("engine.test"))
    params = {"channel": "#q", "text": "t", "thread_by": "key"}
    with pytest.raises(Retry, match="the thread cannot be looked up: the disk is full"):
        await attempt(PostToSlack(), params, threads=broken)
    assert slack.messages == []
    await broken.keep("#q", "key", "1.5")
    await attempt(PostToSlack(), params, threads=broken)
    assert [message.thread_ts for message in slack.messages] == ["1.5"]
    assert "a thread could not be stored" in caplog.text


class _TenSeconds:
    """Threads that are forgotten ten seconds after they were kept last."""

    def __init__(self):
        self.now, self._known = 0.0, {}

    async def first(self, channel, key):
        ts, at = self._known.get((channel, key), (None, 0.0))
        return ts if self.now - at < 10.0 else None

    async def keep(self, channel, key, ts):
        self._known[channel, key] = ts, self.now


async def test_a_thread_is_remembered_from_its_last_message_on(attempt, slack):
    threads = _TenSeconds()
    for threads.now in (0.0, 8.0, 16.0, 40.0):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t", "thread_by": "key"}, threads=threads)
    root = slack.messages[0].ts
    assert [message.thread_ts for message in slack.messages] == [None, root, root, None]


async def test_a_first_message_that_failed_leaves_the_thread_to_the_next(attempt, slack):
    action, params = PostToSlack(), {"channel": "#q", "text": "t", "thread_by": "key"}
    slack.faults.add(status=500)
    with pytest.raises(HttpFailure):
        await attempt(action, params)
    await attempt(action, params)
    await attempt(action, params)
    assert [message.thread_ts for message in slack.messages] == [None, slack.messages[0].ts]


async def test_a_thread_whose_first_message_is_gone_is_started_anew(attempt, slack):
    action, params = PostToSlack(), {"channel": "#q", "text": "t", "thread_by": "key"}
    await attempt(action, params)
    refusal = b'{"ok": false, "error": "thread_not_found"}'
    slack.faults.add(body=refusal, headers={"Content-Type": "application/json"})
    with pytest.raises(Retry, match="starts a new thread"):
        await attempt(action, params)
    await attempt(action, params, attempt=2)
    assert slack.messages[-1].thread_ts is None


async def test_blocks_alone_get_their_own_words_as_fallback(attempt, slack):
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Bad run"}},
        section("*score* 0.1"),
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "left"}, {"type": "mrkdwn", "text": "right"}]},
        {"type": "divider"},
    ]
    await attempt(PostToSlack(), {"channel": "#q", "blocks": blocks})
    assert slack.messages[0].text == "Bad run *score* 0.1 left right"
    assert slack.messages[0].blocks == blocks


async def test_blocks_without_words_still_have_a_fallback(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "blocks": [{"type": "divider"}]})
    assert slack.messages[0].text == "A message of corrections/good"


async def test_long_text_is_cut_with_a_link_to_the_run(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "text": "ü" * 50_000})
    text = slack.messages[0].text
    assert 3900 < len(text) <= 4000
    assert text.endswith(f"ü… (cut; {LINK})")
    assert slack.messages[0].blocks is None


async def test_the_link_to_the_run_stays_one_whatever_its_address_holds(attempt, slack):
    run = RUN | {"url": "https://x.y/a|b<c>d&e"}
    await attempt(PostToSlack(), {"channel": "#q", "text": "u" * 50_000}, run=run)
    assert slack.messages[0].text.endswith("(cut; <https://x.y/a%7Cb%3Cc%3Ed&amp;e|full run>)")


async def test_long_text_without_a_run_is_cut_and_says_so(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "text": "u" * 50_000}, run=None)
    assert slack.messages[0].text.endswith("u… (cut)")


async def test_blocks_are_cut_to_slacks_limits(attempt, slack):
    field = {"type": "mrkdwn", "text": "f" * 2001}
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "h" * 200}},
        section("s" * 3001),
        {"type": "section", "fields": [field] * 11},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "e"}] * 11},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "b" * 80}}]},
        section("p" * 3001, "plain_text"),
    ]
    sent = []
    for one in blocks:
        result = await attempt(PostToSlack(), {"channel": "#q", "blocks": [one]})
        assert all(where.startswith("blocks[0].") for where in result["cut"])
        sent += slack.messages[-1].blocks
    header, text, fields, context, actions, plain = sent
    assert header["text"]["text"] == "h" * 149 + "…"
    assert len(text["text"]["text"]) <= 3000
    assert text["text"]["text"].endswith(f"(cut; {LINK})")
    assert len(fields["fields"]) == len(context["elements"]) == 10
    assert {len(one["text"]) for one in fields["fields"]} == {1200}
    assert len(actions["elements"][0]["text"]["text"]) == 75
    assert plain["text"]["text"] == "p" * 2999 + "…"


async def test_blocks_are_cut_anew_for_every_message_of_an_action(attempt, slack):
    params = {"channel": "#q", "blocks": [section("s" * 4000)]}
    for url in ("https://x.y/1", "https://x.y/2"):
        assert (await attempt(PostToSlack(), params, run=RUN | {"url": url}))["cut"] == ["blocks[0].text"]
        assert slack.messages[-1].blocks[0]["text"]["text"].endswith(f"(cut; <{url}|full run>)")


async def test_too_many_blocks_end_in_a_note(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "blocks": [section(str(n)) for n in range(60)]})
    blocks = slack.messages[0].blocks
    assert len(blocks) == 50
    assert blocks[-1]["elements"][0]["text"] == f"11 more blocks … (cut; {LINK})"


@pytest.mark.parametrize("block", ["section", "markdown", "header", "fields", "context"])
async def test_texts_that_fit_one_by_one_are_fitted_together(attempt, slack, block):
    def make(number, length):
        text = {"type": "mrkdwn", "text": chr(97 + number) * length}
        return {
            "section": {"type": "section", "text": text},
            "markdown": {"type": "markdown", "text": text["text"]},
            "header": {"type": "header", "text": text | {"type": "plain_text"}},
            "fields": {"type": "section", "fields": [text]},
            "context": {"type": "context", "elements": [text]},
        }[block]

    lengths = {"header": 150, "fields": 2000}.get(block, 3000)
    blocks = [section("short"), *(make(number, lengths) for number in range(12))]
    result = await attempt(PostToSlack(), {"channel": "#q", "text": "t", "blocks": blocks})
    (message,) = slack.messages
    assert message.blocks[0] == blocks[0]
    assert len(message.blocks) == 13
    if block == "header":
        assert (message.blocks, "cut" in result) == (blocks, False)
    else:
        assert result["cut"][0].startswith("blocks[1].")
        assert len(result["cut"]) == 12


@pytest.mark.parametrize(
    ("block", "left"),
    [
        (section(""), None),
        (section(" \n"), None),
        ({"type": "header", "text": {"type": "plain_text", "text": ""}}, None),
        ({"type": "markdown", "text": ""}, None),
        ({"type": "section", "fields": [{"type": "mrkdwn", "text": ""}]}, None),
        ({"type": "context", "elements": [{"type": "mrkdwn", "text": ""}]}, None),
        ({"type": "image", "image_url": "", "alt_text": "x"}, None),
        ({"type": "image", "image_url": "https://x.y/" + "z" * 3000, "alt_text": "x"}, None),
        (
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": ""}]}],
            },
            None,
        ),
        (
            {"type": "section", "text": {"type": "mrkdwn", "text": ""}, "fields": [{"type": "mrkdwn", "text": "f"}]},
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "f"}]},
        ),
        (
            {"type": "section", "text": {"type": "mrkdwn", "text": "t"}, "fields": [{"type": "mrkdwn", "text": ""}]},
            section("t"),
        ),
        (section("t") | {"accessory": {"type": "image", "image_url": "", "alt_text": ""}}, section("t")),
        (
            {"type": "image", "image_url": "https://x.y/z.png", "alt_text": ""},
            {"type": "image", "image_url": "https://x.y/z.png", "alt_text": "image"},
        ),
        (
            {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": ""}}]},
            None,
        ),
        (
            rich({"type": "link", "url": "https://x.y", "text": ""}, {"type": "text", "text": " "}),
            rich({"type": "link", "url": "https://x.y"}, {"type": "text", "text": " "}),
        ),
        (
            {"type": "image", "image_url": "https://x.y", "alt_text": "a", "title": plain_text("")},
            {"type": "image", "image_url": "https://x.y", "alt_text": "a"},
        ),
        (
            section("t") | {"accessory": {"type": "static_select", "placeholder": plain_text(" "), "options": OPTIONS}},
            section("t") | {"accessory": {"type": "static_select", "options": OPTIONS[1:]}},
        ),
    ],
)
async def test_what_is_empty_in_a_block_is_left_out(attempt, slack, block, left):
    await attempt(PostToSlack(), {"channel": "#q", "text": "t", "blocks": [section("a"), block, section("b")]})
    assert slack.messages[0].blocks == [section("a"), *([left] if left else []), section("b")]


async def test_a_message_of_empty_blocks_is_its_text_or_dead(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "text": "t", "blocks": [section("")]})
    assert (slack.messages[0].text, slack.messages[0].blocks) == ("t", None)
    with pytest.raises(Discard, match="every block is empty, and there is no text"):
        await attempt(PostToSlack(), {"channel": "#q", "blocks": [section("")]})


async def test_a_block_that_slack_refuses_is_named(attempt):
    with pytest.raises(Discard, match=r"must be a text object.*/blocks/1/text"):
        await attempt(PostToSlack(), {"channel": "#q", "blocks": [section("a"), {"type": "section"}]})


async def test_a_rich_text_that_is_too_long_is_cut_and_what_stands_beside_it_is_not(attempt, slack):
    blocks = [section("question"), rich({"type": "text", "text": "answer " * 5000})]
    result = await attempt(PostToSlack(), {"channel": "#q", "text": "t", "blocks": blocks})
    assert result["cut"] == ["blocks[1].elements[0].elements[0]"]
    first, second = slack.messages[0].blocks
    assert first == section("question")
    assert 11_000 < len(second["elements"][0]["elements"][0]["text"]) < 12_000


@pytest.mark.parametrize(
    ("url", "cut"),
    [
        ("https://x.y/" + "z" * 3000, True),
        ("", False),
        ("no address", True),
        ("!channel", True),
        ("https://x.y/a b", True),
        ("JavaScript:alert(1)", True),
    ],
)
async def test_a_button_goes_without_what_is_no_address(attempt, slack, url, cut):
    button = {"type": "button", "text": {"type": "plain_text", "text": "b"}, "url": url}
    result = await attempt(PostToSlack(), {"channel": "#q", "blocks": [{"type": "actions", "elements": [button]}]})
    assert result.get("cut", []) == ["blocks[0].elements[0].url"] * cut
    assert slack.messages[0].blocks[0]["elements"] == [{"type": "button", "text": button["text"]}]


async def test_a_long_text_becomes_sections_between_its_lines(attempt, slack):
    lines = [f"- <https://x.y/{number:03}?{'q' * 80}|run {number}>" for number in range(100)]
    assert "cut" not in await attempt(PostToSlack(), {"channel": "#q", "text": "\n".join(lines)})
    (message,) = slack.messages
    texts = [block["text"]["text"] for block in message.blocks]
    assert [line for text in texts for line in text.split("\n")] == lines
    assert len(message.text) <= 4000
    assert message.text.endswith(f" more lines (cut; {LINK})")


async def test_a_long_line_becomes_sections_in_a_digest_only(attempt, slack):
    text = "words " * 1500
    assert "cut" not in await attempt(PostToSlack(), {"channel": "#q", "text": text}, digest=True)
    assert "".join(block["text"]["text"] for block in slack.messages[0].blocks).split() == text.split()
    assert (await attempt(PostToSlack(), {"channel": "#q", "text": text}))["cut"] == ["text"]
    assert slack.messages[1].blocks is None


async def test_a_text_that_is_too_long_says_how_many_lines_are_missing(attempt, slack):
    lines = [f"- line {number} {'x' * 190}" for number in range(100)]
    result = await attempt(PostToSlack(), {"channel": "#q", "text": "\n".join(lines)}, digest=True)
    assert result["cut"] == ["text"]
    *shown, last = [line for block in slack.messages[0].blocks for line in block["text"]["text"].split("\n")]
    assert shown == lines[: len(shown)]
    assert len(shown) > 50
    assert last == f"… {100 - len(shown)} more lines (cut)"


async def test_a_code_block_goes_on_in_the_next_section(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "text": "```\n" + "code\n" * 1500 + "```\nend"})
    texts = [block["text"]["text"] for block in slack.messages[0].blocks]
    assert len(texts) > 1
    assert all(text.count("```") % 2 == 0 for text in texts)
    assert sum(text.count("code") for text in texts) == 1500
    assert texts[-1].endswith("end")


@given(st.text("ab&;<>|`\n ", max_size=400), st.integers(30, 200))
def test_a_cut_text_keeps_the_limit_and_no_half_entity_or_link(text, limit):
    shortened = cut(text.replace("&", "&amp;"), limit, "… (cut)")
    assert len(shortened) <= limit
    head = shortened.removesuffix("… (cut)").removesuffix("\n```")
    assert "&" not in head[-4:] or ";" in head[head.rfind("&") :]


def test_a_cut_does_not_split_a_link_or_leave_a_code_block_open():
    link = "<https://x.y/" + "z" * 40 + "|words>"
    assert cut("a" * 80 + link + "b" * 80, 100) == "a" * 80 + "…"
    assert cut("a < b " * 50, 100).startswith("a < b a < b")
    assert cut("```" + "a" * 200, 100).endswith("a\n```…")
    assert cut("```" + "a" * 90 + "```" + "b" * 50, 100) == "```" + "a" * 90 + "```" + "b" * 3 + "…"


def test_a_long_label_is_shortened_inside_its_link():
    assert cut("<https://x.y|" + "words " * 50 + ">", 40) == "<https://x.y|words words words words …>…"
    assert cut("<https://x.y|" + "a&amp;" * 50 + ">", 30) == "<https://x.y|a&amp;a&amp;a…>…"
    assert cut("x" * 87 + "<https://x.y|words>", 100) == "x" * 87 + "…"
    assert (
        cut("[" + "words " * 50 + "](https://x.y)", 40, markup="markdown") == "[words words words words…](https://x.y)…"
    )


def test_a_link_that_alone_is_too_long_leaves_its_label_and_the_text_around_it():
    link = f"<https://x.y/{'z' * 200}|label>"
    assert cut(f"a {link} b{'c' * 200}", 100) == "a label b" + "c" * 90 + "…"
    markdown = f"[label](https://x.y/{'z' * 200})"
    assert cut(f"a {markdown} b{'c' * 200}", 100, markup="markdown") == "a label b" + "c" * 90 + "…"
    for around in range(85, 95):  # shorter than what there is room for without the address, just as long, and longer
        whole = "a label b" + "c" * around
        assert cut(f"a {link} b{'c' * around}", 100) == whole[:99] + "…"


def test_a_split_text_of_which_only_a_label_was_shortened_says_so():
    pieces = split(f"<https://x.y|{'label ' * 50}> end", 100, 4, lambda _: "… (cut)")
    assert not pieces.whole
    assert pieces.texts[-1] == " end… (cut)"


@given(st.integers(20, 120))
def test_no_cut_of_markdown_is_inside_a_link_or_between_a_backslash_and_what_it_escapes(limit):
    text = "ab \\* cd [la\\[bel](https://x.y/z) &lt;ef <https://x.y> " * 4
    head = cut(text, limit, markup="markdown").removesuffix("…")
    assert head.count("[") - head.count("\\[") == head.count("](https://x.y/z)")
    assert not head.replace("\\\\", "").endswith("\\")
    assert head.count("<") == head.count(">")


@pytest.mark.parametrize("kind", ["header", "button", "section", "markdown", "mrkdwn"])
@pytest.mark.parametrize(
    "entity", ["&amp;", "&lt;", "&gt;", "&#128512;", "&#x1F600;", "&CounterClockwiseContourIntegral;"]
)
async def test_no_text_of_a_block_is_cut_inside_an_entity(attempt, slack, kind, entity):
    limit = {"header": 150, "button": 75, "markdown": 12_000}.get(kind, 3000)
    for before in range(len(entity) + 2):
        words = "x" * (limit - before) + entity + "y" * 40
        blocks = {
            "header": {"type": "header", "text": {"type": "plain_text", "text": words}},
            "button": {
                "type": "actions",
                "elements": [{"type": "button", "text": {"type": "plain_text", "text": words}}],
            },
            "section": section(words, "plain_text"),
            "markdown": {"type": "markdown", "text": words},
            "mrkdwn": section(words),
        }
        await attempt(PostToSlack(), {"channel": "#q", "text": "t", "blocks": [blocks[kind]]}, run=None)
        sent = slack.messages[-1].blocks[0]
        sent = sent["elements"][0]["text"] if kind == "button" else sent["text"]
        text = sent if kind == "markdown" else sent["text"]
        whole = entity if before > len(entity) else ""
        tail = "… (cut)" if kind == "mrkdwn" else "…"
        kept = min(limit - before, limit - len(tail))
        assert text == ("x" * kept + (whole if kind != "mrkdwn" else "") + tail)


@pytest.mark.parametrize(
    "letter",
    ["e\u0301", "👍🏽", "👨\u200d👩\u200d👧", "🇩🇪", "❤\ufe0f", "🏴\U000e0067\U000e0062\U000e007f"],
)
def test_no_cut_is_inside_what_is_shown_as_one_character(letter):
    for markup in (True, False):
        cuts = {
            cut("x" * before + letter * 30, 60, markup="mrkdwn" if markup else "plain_text") for before in range(30, 60)
        }
        for text in cuts:
            assert text.rstrip("…").lstrip("x").replace(letter, "") == ""


def test_marks_without_end_do_not_empty_a_text():
    assert cut("e" + "\u0301" * 500, 100) == "e" + "\u0301" * 98 + "…"


@given(st.text("a&;mp#x1<>|`\n\u0301\u200d🇩", max_size=300), st.integers(30, 200), st.booleans())
def test_a_cut_keeps_the_limit_and_the_beginning(text, limit, markup):
    shortened = cut(text, limit, markup="mrkdwn" if markup else "plain_text")
    assert len(shortened) <= limit
    assert shortened == text or shortened.endswith("…")
    if not markup:
        assert text.startswith(shortened.removesuffix("…"))


@given(
    st.lists(
        st.sampled_from(
            ["word ", "\n", "\n\n", "&amp;", "<https://x.y/z|a label>", "<@U1>", "```", "x" * 70, "e\u0301", "- item\n"]
        ),
        max_size=120,
    ).map("".join),
    st.integers(60, 200),
    st.integers(1, 4),
)
def test_a_split_text_keeps_the_limits_and_is_whole_or_says_so(text, limit, most):
    pieces = split(text, limit, most, lambda lines: f"… {lines} more (cut)")
    assert len(pieces.texts) <= most
    assert all(len(piece) <= limit for piece in pieces.texts)
    joined = "".join(pieces.texts)
    assert pieces.whole or "(cut)" in joined
    if pieces.whole:
        bare = str.maketrans("", "", "\n`")
        assert joined.translate(bare) == text.translate(bare)
    else:
        assert joined.count("<") == joined.count(">")
    assert not re.search(r"&(?!amp;)", joined)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("not_in_channel", "/invite @bot"),
        ("channel_not_found", "check the channel's name"),
        ("is_archived", "unarchive the channel"),
        ("something_new", "something_new"),
    ],
)
async def test_a_refusal_is_dead_and_says_what_to_do(attempt, slack, error, words):
    slack.faults.add(body=f'{{"ok": false, "error": "{error}"}}', headers={"Content-Type": "application/json"})
    with pytest.raises(Discard, match=words):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})


async def test_a_missing_scope_is_named(attempt, slack):
    body = '{"ok": false, "error": "missing_scope", "needed": "chat:write.customize", "provided": "chat:write"}'
    slack.faults.add(body=body, headers={"Content-Type": "application/json"})
    with pytest.raises(Discard, match=r"add the scope chat:write\.customize"):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})


@pytest.mark.parametrize(
    ("error", "says"),
    [("ratelimited", "pause"), ("message_limit_exceeded", "pause"), ("internal_error", "busy")],
)
async def test_what_passes_by_itself_is_tried_again(attempt, slack, error, says):
    headers = {"Content-Type": "application/json", "Retry-After": "7"}
    slack.faults.add(body=f'{{"ok": false, "error": "{error}"}}', headers=headers)
    with pytest.raises(HttpFailure) as caught:
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})
    failure = classify(caught.value)
    assert (failure.retry, failure.after, failure.health) == (True, 7.0, says)


@pytest.mark.parametrize(
    ("error", "says", "words"),
    [
        ("invalid_auth", "refused", "check slack.token"),
        ("token_revoked", "refused", "install the Slack app again"),
        ("fatal_error", "failing", "Slack said fatal_error"),
    ],
)
async def test_what_slack_says_with_a_200_means_what_its_status_would(attempt, slack, error, says, words):
    slack.faults.add(body=f'{{"ok": false, "error": "{error}"}}', headers={"Content-Type": "application/json"})
    with pytest.raises(HttpFailure) as caught:
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})
    failure = classify(caught.value)
    assert (failure.retry, failure.health) == (True, says)
    assert words in failure.reason


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        ("<html>\x1b[2J\n busy</html>", "text/html", r"is not JSON: <html>\x1b[2J busy</html>"),
        ("<html>", "application/json", "is not JSON: <html>"),
        ("{", "application/json", "is not JSON: {"),
        ("", "application/json", "is not JSON: it is empty"),
        ("ok", "text/plain", "is not JSON: ok"),
        ("[1]", "application/json", "has neither ok nor an error code: [1]"),
        ('{"ok": 1}', "application/json", 'has neither ok nor an error code: {"ok": 1}'),
        ('{"ok": false}', "application/json", 'has neither ok nor an error code: {"ok": false}'),
        (
            '{"ok": false, "error": {}}',
            "application/json",
            'has neither ok nor an error code: {"ok": false, "error": {}}',
        ),
        ("x" * 300, "application/gzip", f"is not JSON: {'x' * 199}…"),
        ("[" * 100_000, "application/json", f"is not JSON: {'[' * 199}…"),
    ],
)
async def test_an_answer_that_is_unclear_is_tried_again_and_quoted(attempt, slack, body, content_type, words):
    slack.faults.add(body=body, headers={"Content-Type": content_type})
    with pytest.raises(Retry) as caught:
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})
    failure = classify(caught.value)
    assert (failure.reason, failure.expected) == (f"Slack's answer {words}", True)


async def test_an_answer_that_is_not_utf8_is_tried_again(attempt, slack):
    slack.faults.add(body=b"\xff\xfe", headers={"Content-Type": "application/json"})
    with pytest.raises(Retry, match="is not JSON: \ufffd\ufffd"):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})


async def test_an_endless_answer_is_not_read_to_its_end(attempt, slack):
    slack.faults.add(body=b" " * (3 << 20) + b'{"ok": true}')
    with pytest.raises(Retry, match="is not JSON: …"):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_ok_is_success_with_every_status_of_success(attempt, slack, status):
    body = '{"ok": true, "channel": "C1", "ts": "1.5", "warning": "missing_charset"}'
    slack.faults.add(status=status, body=body, headers={"Content-Type": "application/json"})
    assert await attempt(PostToSlack(), {"channel": "#q", "text": "t"}) == {"channel": "C1", "ts": "1.5"}


async def test_ok_is_no_success_with_a_status_of_failure(attempt, slack):
    slack.faults.add(status=502, body='{"ok": true}', headers={"Content-Type": "application/json"})
    with pytest.raises(HttpFailure, match="HTTP 502"):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no_channel", "no_channel: the webhook's channel is gone; make a new webhook and change webhook_url"),
        ("channel_is_archived", "channel_is_archived: unarchive the channel or choose another"),
        (
            "action_prohibited\n",
            "action_prohibited: the workspace's settings forbid posting there; ask its administrator",
        ),
        ("invalid_token", "invalid_token: check webhook_url"),
        ('{"ok": false, "error": "no_channel", "response_metadata": 1}', "no_channel: the webhook's channel is gone"),
        ('{"ok": false, "error": "something"}', "something"),
        ("something_new", "something_new"),
    ],
)
async def test_a_webhook_that_refuses_with_a_200_is_dead_and_says_what_to_do(attempt, slack, body, words):
    slack.faults.add(body=body)
    with pytest.raises(Discard) as caught:
        await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    assert str(caught.value).startswith(f"Slack refused the message for the webhook: {words}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html>busy</html>", "Slack's answer is not JSON: <html>busy</html>"),
        ("", "Slack's answer is not JSON: it is empty"),
        ("OK", "Slack's answer is not JSON: OK"),
        ("maintenance", "Slack's answer is not JSON: maintenance"),
        ('{"ok": false}', 'Slack\'s answer has neither ok nor an error code: {"ok": false}'),
        ("ratelimited", "HTTP 429: Slack said ratelimited"),
        ("rollup_error", "HTTP 500: Slack said rollup_error"),
        ('{"ok": false, "error": "internal_error"}', "HTTP 500: Slack said internal_error"),
    ],
)
async def test_a_webhook_that_fails_with_a_200_is_tried_again(attempt, slack, body, words):
    slack.faults.add(body=body)
    with pytest.raises((Retry, HttpFailure)) as caught:
        await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    failure = classify(caught.value)
    assert (failure.reason, failure.retry, failure.expected) == (words, True, True)


@pytest.mark.parametrize("body", ["ok", "ok\n", '{"ok": true}', '{"ok":true,"warning":"x"}'])
async def test_a_webhook_succeeds_with_ok_alone(attempt, slack, body):
    slack.faults.add(body=body)
    result = await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    assert result == {"status": 200, "response": body.strip()}


async def test_the_real_rate_limit_of_a_channel(attempt):
    from engine.testing import SLACK_LIMITS

    async with SlackStandIn(rate_limits=SLACK_LIMITS) as slack:
        settings = SlackSettings("xoxb-test", slack.url)
        posts = [attempt(PostToSlack(), {"channel": "#q", "text": "t"}, slack=settings) for _ in range(20)]
        with pytest.raises(HttpFailure) as caught:
            await asyncio.gather(*posts)
    failure = classify(caught.value)
    assert failure.retry
    assert failure.after >= 1
    assert failure.status == 429


@pytest.mark.parametrize(
    ("status", "body", "words", "retry"),
    [
        (404, "no_service", "make a new one and change webhook_url", False),
        (403, "action_prohibited", "ask its administrator", False),
        (410, "channel_is_archived", "unarchive the channel", True),
        (400, "invalid_blocks", "Block Kit Builder", False),
        (500, "rollup_error", "rollup_error", True),
        (302, "", "HTTP 302", False),
    ],
)
async def test_a_webhooks_refusals_say_what_to_do(attempt, slack, status, body, words, retry):
    slack.faults.add(status=status, body=body, headers={"Location": "https://x.y"} if status == 302 else None)
    with pytest.raises(HttpFailure, match=words) as caught:
        await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    assert classify(caught.value).retry is retry
    assert slack.webhook_url not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "status", "failure"),
    [("no_channel", 200, Discard), ("channel_not_found", 404, HttpFailure), ("invalid_token", 403, HttpFailure)],
)
async def test_the_webhooks_stand_in_refuses_as_slack_does(attempt, slack, code, status, failure):
    slack.webhook_error = code
    with pytest.raises(failure, match=code):
        await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    assert (slack.requests[0].status, slack.requests[0].answer, slack.messages) == (status, code, [])


def test_only_a_channel_requires_the_token():
    assert PostToSlack().requires({"channel": "#q", "text": "t"}) == {"slack"}
    assert PostToSlack().requires({"webhook_url": "https://x", "text": "t"}) == frozenset()


async def test_no_token_is_tried_again_with_advice(attempt):
    with pytest.raises(Retry, match=r"set slack\.token"):
        await attempt(PostToSlack(), {"channel": "#q", "text": "t"}, slack=SlackSettings())


async def test_proxy_variables_are_not_read(attempt, slack, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    await attempt(PostToSlack(), {"channel": "#q", "text": "t"})
    await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"})
    assert len(slack.messages) == 2


async def test_the_sdk_logs_neither_addresses_nor_texts(attempt, slack, caplog):
    caplog.set_level(logging.DEBUG)
    await attempt(PostToSlack(), {"webhook_url": slack.webhook_url, "text": "confidential"})
    await attempt(PostToSlack(), {"channel": "#q", "text": "confidential"})
    assert "confidential" not in caplog.text
    assert "services/T0001" not in caplog.text


def test_payload_text_is_escaped_in_text_and_blocks():
    assert escaped_params(PostToSlack.Params) == {"text", "blocks"}
    assert any(isinstance(mark, EscapePayload) for mark in PostToSlack.Params.model_fields["text"].metadata)


def test_the_destination_is_the_channel_or_a_hash_of_the_webhook():
    action = PostToSlack()
    url = "https://hooks.slack.com/services/T/B/secret"
    assert action.destination(PostToSlack.Params(channel="#q", text="t")) == "slack #q"
    assert "secret" not in action.destination(PostToSlack.Params(webhook_url=url, text="t"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"text": "t"}, "needs channel or webhook_url"),
        ({"text": "t", "channel": "#q", "webhook_url": "https://x.y"}, "one of the two"),
        ({"channel": "#q"}, "needs text or blocks"),
        ({"channel": "#q", "text": ""}, "needs text or blocks"),
        ({"webhook_url": "https://x.y", "text": "t", "thread_by": "k"}, "thread_by needs a channel"),
        ({"channel": "#q", "text": "t", "thread_by": "k", "thread_ts": "1.2"}, "no thread_ts"),
        ({"webhook_url": "hooks.slack.com/x", "text": "t"}, "must be absolute, like https://hooks"),
        ({"webhook_url": "https://x.y/services/..%2fb", "text": "t"}, "webhook_url contains /../ or /./"),
        ({"webhook_url": "https://x.y:port/", "text": "t"}, "webhook_url cannot be parsed: Port could not be cast"),
        ({"channel": "#q", "text": "t", "icon": "robot"}, "an emoji like :robot_face:"),
        ({"channel": "#q", "text": "t", "thread_ts": 1.2}, "valid string"),
    ],
)
def test_what_does_not_fit_together_is_refused(params, words):
    with pytest.raises(ValidationError, match=words):
        PostToSlack.Params.model_validate(params, strict=True)


async def test_a_run_without_a_link_is_no_trouble(attempt, slack):
    await attempt(PostToSlack(), {"channel": "#q", "text": "u" * 5000}, run=RUN | {"url": None})
    assert slack.messages[0].text.endswith("… (cut)")


async def test_a_webhook_where_an_event_must_not_lead_is_dead_with_the_way_to_permit_it(make_context, slack):
    from engine.clients.session import open_session

    async with open_session() as http:
        params = PostToSlack.Params(webhook_url=slack.webhook_url, text="t")
        with pytest.raises(Discard, match=r"127\.0\.0\.1 is loopback.*network: \{allow: \[127\.0\.0\.1\]\}"):
            await PostToSlack().run(params, make_context(http=http))
    assert slack.messages == []
