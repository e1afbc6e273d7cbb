"""An empty block is left out, and the message arrives."""

from __future__ import annotations

from slack_cases import deliver


async def test_an_empty_block_is_left_out(slack, tmp_path):
    (delivery,) = await deliver("13", slack, tmp_path)
    assert delivery.row.state == "succeeded"
    (message,) = slack.messages
    assert message.blocks == [{"type": "section", "text": {"type": "mrkdwn", "text": "answer-question"}}]
