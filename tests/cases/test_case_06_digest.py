"""A digest of many runs arrives whole as far as Slack takes it, and says how many are missing."""

from __future__ import annotations

import re

from slack_cases import deliver


async def test_a_digest_shows_most_runs_and_says_how_many_more_there_are(slack, tmp_path):
    (digest,) = await deliver("06", slack, tmp_path)
    assert digest.row.state == "succeeded"
    (message,) = slack.messages
    text = "\n".join(block["text"]["text"] for block in message.blocks)
    shown = re.findall(r"^- <https://[^|>]+/r/([0-9a-f-]{36})\?[^|>]+\|answer-question-(\d\d)>$", text, re.MULTILINE)
    assert [number for _, number in shown] == [f"{number:02}" for number in range(len(shown))]
    assert len({run for run, _ in shown}) == len(shown)
    (more,) = re.findall(r"^… (\d+) more lines \(cut\)$", text, re.MULTILINE)
    assert text.startswith("50 low scores:")
    assert len(shown) + int(more) == 50
    assert len(shown) > 40
    assert digest.attempts[-1].detail["cut"] == ["text"]
