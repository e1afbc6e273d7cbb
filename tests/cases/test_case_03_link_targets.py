"""Data at a link's target is neither a mention, nor another target or label."""

from __future__ import annotations

from slack_cases import deliver


async def test_data_in_a_link_mentions_no_one_and_changes_no_label(slack, tmp_path):
    rows = await deliver("03", slack, tmp_path, deliveries=2)
    assert [one.row.state for one in rows] == ["succeeded", "succeeded"]
    assert sorted(message.text for message in slack.messages) == [
        "answer-question cited <https://evil.example/x%7Cbank.example|its source>",
        "answer-question cited its source (!channel)",
    ]
