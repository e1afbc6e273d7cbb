"""A link in a ``markdown`` block leads where it should."""

from __future__ import annotations

import json

from slack_cases import CASES, deliver


async def test_the_link_of_a_markdown_block_has_its_address_as_it_is(slack, tmp_path):
    (delivery,) = await deliver("20", slack, tmp_path)
    assert delivery.row.state == "succeeded"
    (run,) = json.loads((CASES / "20" / "payload.json").read_text())["runs"]
    (message,) = slack.messages
    link = f"[answer-question](https://smith.langchain.com{run['app_path']})"
    assert "&start_time=" in link
    assert message.blocks == [{"type": "markdown", "text": link}]
