"""A text that is cut keeps most of itself, and its links and entities whole."""

from __future__ import annotations

import re

from slack_cases import deliver

_LINK = re.compile(r"<(https://[^<>|]+)\|([^<>]+)>")


async def test_a_long_label_is_shortened_within_its_link_and_no_entity_is_cut(slack, tmp_path):
    rows = {one.row.action: one for one in await deliver("04", slack, tmp_path, deliveries=2)}
    link, header = rows["link"], rows["header"]
    assert (link.row.state, header.row.state) == ("succeeded", "succeeded")
    (linked,) = (one for one in slack.messages if one.text != "x")
    label, run = _LINK.findall(linked.text)
    assert run == (label[0], "full run")
    assert label[1].startswith("How do I really really")
    assert label[1].endswith("…")
    assert len(label[1]) > 2000
    assert re.sub(_LINK, "", linked.text) == "… (cut; )"
    assert (link.attempts[0].detail["cut"], header.attempts[0].detail["cut"]) == (["text"], ["blocks[0].text"])
    (titled,) = (one for one in slack.messages if one.text == "x")
    title = titled.blocks[0]["text"]["text"]
    assert title.strip("x") in ("…", "&amp;…")
    assert len(title) > 140
