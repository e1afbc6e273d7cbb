"""Masking, and the log through which everything passes."""

from __future__ import annotations

import io
import json
import logging

import pytest

from engine.log import configure_logging
from engine.secrets import Masker

SECRET = 'p@ss/word "42"'


def test_a_secret_is_masked_alone_within_text_in_urls_and_in_json() -> None:
    masker = Masker([SECRET])
    assert masker.text(SECRET) == "***"
    assert masker.text(f"before {SECRET} after") == "before *** after"
    assert masker.text("https://h/?k=p%40ss%2Fword%20%2242%22&x=1") == "https://h/?k=***&x=1"
    assert masker.text(json.dumps({"k": SECRET})) == '{"k": "***"}'


def test_a_short_secret_is_masked_only_where_it_stands_alone() -> None:
    masker = Masker(["a"])
    assert masker.text("a") == "***"
    assert masker.text("banana") == "banana"


def test_a_tree_is_masked_in_values_and_keys_and_left_as_it_was() -> None:
    tree = {"x": [SECRET, 5, None], SECRET: {"y": f"={SECRET}"}}
    assert Masker([SECRET]).tree(tree) == {"x": ["***", 5, None], "***": {"y": "=***"}}
    assert tree["x"][0] == SECRET


def test_two_maskers_together_mask_what_either_does() -> None:
    both = Masker(["first-secret"]) | Masker(["second-secret"])
    assert both.text("first-secret second-secret") == "*** ***"


def test_the_empty_text_is_no_secret() -> None:
    assert Masker([""]).text("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_way_into_a_log_line_gets_a_secret_out(style: str) -> None:
    stream = io.StringIO()
    logger = configure_logging(style, "info", lambda: Masker([SECRET]), stream)
    logger.info("message %s", SECRET, extra={"field": SECRET, "tree": {"k": [SECRET]}})
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("trouble")
    logging.getLogger("engine.action.log").warning(SECRET)
    text = stream.getvalue()
    assert "word" not in text
    assert text.count("***") >= 5
    assert "ValueError" in text


def test_json_lines_are_json_with_the_facts_as_fields() -> None:
    stream = io.StringIO()
    configure_logging("json", "info", Masker, stream).info("routed", extra={"event": "e1", "deliveries": 2})
    line = json.loads(stream.getvalue())
    assert (line["message"], line["level"], line["event"], line["deliveries"]) == ("routed", "info", "e1", 2)
