"""A text of 8 MB is cut to 80 characters: caps are for what a template makes, not for what it reads."""

from __future__ import annotations

import json
from pathlib import Path

from destination_cases import configuration, deliver

from engine.testing import SlackStandIn


def payload() -> bytes:
    """One run whose output has 8,400,000 characters."""
    run = {
        "id": "6ab80f10-d79c-4fa2-b441-922ed6feb001",
        "name": "answer-question",
        "status": "success",
        "session_id": "6a3be6a2-9a8c-4fc8-b4c6-a8983b286cc5",
        "outputs": {"output": "x " * 4_200_000},
    }
    times = {"start_time": "2026-09-01T10:00:00+00:00", "end_time": "2026-09-01T10:01:00+00:00"}
    return json.dumps({"rule_id": "d75d7417-0c57-4655-88fe-1db3cda3a47a", **times, "runs": [run]}).encode()


async def test_a_large_value_is_cut_down(tmp_path: Path, slack: SlackStandIn) -> None:
    deliveries = await deliver(tmp_path, configuration("08", slack=slack.origin), payload(), 4)
    reasons = {name: detail.row.reason for name, detail in deliveries.items()}
    texts = [message.text for message in slack.messages]
    assert reasons == {"truncate": "", "slice": "", "whole-inputs": "", "plain": ""}
    assert "runaway answer: " + "x " * 37 + "x..." in texts
    assert "runaway answer: " + ("x " * 40).rstrip() in [text.rstrip() for text in texts]
    assert '{"output":"' + "x " * 32 + "x..." in texts
    (whole,) = [text for text in texts if len(text) > 1000]
    assert whole.startswith("x x x ")
    assert len(whole) <= 40_000
