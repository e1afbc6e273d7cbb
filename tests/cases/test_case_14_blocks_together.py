"""Sections that fit one by one, but not together, are fitted as a whole."""

from __future__ import annotations

from slack_cases import deliver


async def test_five_long_sections_are_fitted_together(slack, tmp_path):
    (delivery,) = await deliver("14", slack, tmp_path)
    assert delivery.row.state == "succeeded"
    (message,) = slack.messages
    texts = [block["text"]["text"] for block in message.blocks]
    assert [text.split()[0] for text in texts] == ["*question*", "*context*", "*prompt*", "*answer*", "*reference*"]
    assert all(2000 < len(text) <= 3000 for text in texts)
    assert all("(cut; <https://" in text for text in texts)
    assert delivery.attempts[0].detail["cut"] == [f"blocks[{number}].text" for number in range(5)]
