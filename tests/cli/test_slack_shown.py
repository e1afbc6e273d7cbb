"""How the sandbox and the demo show a Slack message: as Slack shows it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.cli.support.output import out
from engine.cli.support.show_request import Received, message_lines, print_request, wrapped_around_links
from tests.cli.test_sandbox import recorded

URL = "https://smith.langchain.com/o/1/projects/p/2/r/3?trace_id=4&amp;start_time=5"
LINK = f"<{URL}|the slow run>"


def lines(body: Any, width: int = 200) -> list[str]:
    return [line.plain for line in message_lines(body, width)]


def styled(text: str) -> dict[str, str]:
    (line,) = message_lines({"text": text}, 500)
    return {line.plain[span.start : span.end]: str(span.style) for span in line.spans}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a &amp; b &lt;c&gt; &amp;lt;", "a & b <c> &lt;"),
        (f"Slow: {LINK} took 12 s", "Slow: the slow run took 12 s"),
        ("<https://example.com>", "https://example.com"),
        ("<https://example.com/?a=1&amp;b=2|x &amp; y>", "x & y"),
        ("<mailto:me@example.com|me>", "me"),
        ("<@U123> <@U1|ada> <#C1|general> <#C2> <!here> <!subteam^S1|@team>", "@U123 @ada #general #C2 @here @team"),
        ("<!date^1712280534^{date}|5 April>", "5 April"),
        ("*bold* _italic_ ~gone~ `a*b*c`", "bold italic gone a*b*c"),
        ("2*3*4 snake_case_name a~b~c", "2*3*4 snake_case_name a~b~c"),
        ("*<https://example.com|in bold>*", "in bold"),
        ("one\n\ntwo", "one||two"),
        ("", ""),
        ("\x1b[31mred \u202e", r"\x1b[31mred \u202e"),
    ],
)
def test_a_text_is_shown_as_slack_shows_it(text: str, seen: str) -> None:
    assert "|".join(lines({"channel": "#a", "text": text})) == seen


def test_formatting_becomes_style() -> None:
    found = styled(f"*loud* _soft_ ~gone~ `code` {LINK}")
    assert found["loud"] == "bold"
    assert found["soft"] == "italic"
    assert found["gone"] == "strike"
    assert found["code"] == "cyan"
    assert found["the slow run"] == "underline"


BLOCKS = [
    {"type": "header", "text": {"type": "plain_text", "text": "Slow &amp; dear"}},
    {
        "type": "section",
        "text": {"type": "mrkdwn", "text": f"*chat* {LINK}"},
        "fields": [{"type": "mrkdwn", "text": "*took* 12 s"}, {"type": "plain_text", "text": "*cost* 1"}],
        "accessory": {"type": "button", "text": {"type": "plain_text", "text": "open"}, "url": "https://example.com"},
    },
    {"type": "divider"},
    {"type": "context", "elements": [{"type": "mrkdwn", "text": "_by_ rule"}, {"type": "image", "alt_text": "logo"}]},
    {"type": "image", "title": {"type": "plain_text", "text": "Graph"}, "alt_text": "a graph", "image_url": "x"},
    {"type": "markdown", "text": "**as it stands**"},
    {
        "type": "rich_text",
        "elements": [
            {
                "type": "rich_text_section",
                "elements": [{"type": "text", "text": "see "}, {"type": "link", "url": "https://e.com", "text": "it"}],
            },
            {
                "type": "rich_text_list",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "item"}]}],
            },
        ],
    },
    {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Mute"}}]},
    {"type": "newer_than_this"},
]


def test_blocks_are_shown_in_their_order_and_in_place_of_the_text() -> None:
    assert lines({"text": "for notifications", "blocks": BLOCKS}) == [
        "Slow & dear",
        "chat the slow run",
        "took 12 s",
        "*cost* 1",
        "[open]",
        "─" * 20,
        "by rule  [logo]",
        "Graph",
        "[a graph]",
        "**as it stands**",
        "see it",
        "• item",
        "[Mute]",
        "[newer_than_this]",
    ]


def test_attachments_follow() -> None:
    body = {"text": "a", "attachments": [{"text": "b &lt; c"}, {"blocks": BLOCKS[:1]}]}
    assert lines(body) == ["a", "│ b < c", "│ Slow & dear"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "blocks", "elements", "attachments", "fields", "url", "style", "accessory"]
            ),
            inner | st.sampled_from(["section", "context", "rich_text", "rich_text_list", "mrkdwn", "link", "header"]),
            max_size=5,
        )
    ),
)


@given(JSON)
def test_whatever_a_body_holds_it_is_shown_or_left_out(body: Any) -> None:
    for line in lines(body, 40):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", line)


@given(st.lists(st.sampled_from(["word", "&amp;", "*bold*", LINK, "longer-word", "\n"])))
def test_lines_are_broken_between_words_and_lose_none(words: list[str]) -> None:
    narrow, wide = (lines({"text": " ".join(words)}, width) for width in (50, 100_000))
    assert " ".join(narrow).split() == " ".join(wide).split()
    assert all(cell_len(line) <= 50 for line in narrow)


def _message(text: str) -> Any:
    return recorded({"channel": "#a", "text": text, "unfurl_links": False}, path="/api/chat.postMessage")


def test_a_message_is_shown_as_slack_shows_it_and_its_request_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_request(out(), Received({})("Slack", _message(f"Slow: {LINK}")), 80)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  ▌ Slow: the slow run",
        "  request: channel #a, text, unfurl_links; -v shows it whole",
        "",
    ]


def test_a_refused_message_still_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    request = _message("Slow")
    request.answer = {"ok": False, "error": "channel_not_found"}
    print_request(out(), Received({})("Slack", request), 80)
    assert capsys.readouterr().out.splitlines()[3:] == ["  refused  channel_not_found", ""]


def test_the_request_stands_in_full_below_the_message_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_request(out(), Received({})("Slack", _message(f"Slow: {LINK}")), 80, whole=True)
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "  ▌ Slow: the slow run"
    assert any(line.endswith(f"{LINK}") for line in shown)
    assert "  unfurl_links  false" in shown
    assert not any("-v shows" in line for line in shown)


def test_a_links_label_is_not_divided() -> None:
    assert wrapped_around_links(f"before {LINK} after", 20) == ["before", LINK, "after"]
