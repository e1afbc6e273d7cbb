"""log writes one line, whatever it is given."""

from __future__ import annotations

import io
import logging

import pytest

from actions.log import Log
from engine.core.masking import Masker
from engine.telemetry.log import TextFormatter, fields_of


@pytest.fixture
def lines():
    """The engine's own formatter over a logger of the test's."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(Masker))
    logger = logging.Logger("engine.action.log")
    logger.addHandler(handler)
    return logger, stream


async def test_writes_message_level_and_fields(attempt, lines):
    logger, stream = lines
    await attempt(Log(), {"message": "100% wrong", "level": "warning", "fields": {"score": 0.1}}, logger=logger)
    assert stream.getvalue().endswith("WARNING 100% wrong  score=0.1\n")


async def test_the_level_is_info_unless_said(attempt, lines):
    logger, stream = lines
    await attempt(Log(), {"message": "hello"}, logger=logger)
    assert " INFO " in stream.getvalue()


async def test_text_from_a_run_cannot_forge_a_line_or_steer_a_terminal(attempt, lines):
    logger, stream = lines
    await attempt(Log(), {"message": "a\n12:00:00 INFO  forged\x1b[2J", "fields": {"x": "b\nc"}}, logger=logger)
    assert stream.getvalue().count("\n") == 1
    assert r"a\n12:00:00 INFO  forged\x1b[2J" in stream.getvalue()


async def test_fields_may_have_any_name(attempt, make_context):
    seen: list[logging.LogRecord] = []
    logger = logging.Logger("test")
    logger.addHandler(handler := logging.Handler())
    handler.emit = seen.append  # type: ignore[method-assign]
    await attempt(Log(), {"message": "m", "fields": {"name": "n", "message": "x", "ok": 1}}, logger=logger)
    assert fields_of(seen[0]) == {"name": "n", "message": "x", "ok": 1}


async def test_fields_are_shown_to_the_letter_the_author_chose_them(attempt, lines):
    logger, stream = lines
    fields = {"run": "0198d6a0-0000-4000-8000-00000000000e", "empty": "", "none": None}
    await attempt(Log(), {"message": "m", "fields": fields}, logger=logger)
    assert stream.getvalue().endswith('m  run=0198d6a0-0000-4000-8000-00000000000e  empty=""  none=""\n')


async def test_no_field_can_forge_a_line_or_steer_a_terminal(attempt, lines):
    logger, stream = lines
    fields = {"a\n12:00:00 INFO  forged": 1, "b": "x\r\n\x1b[2J", "c": "\x9b2J\u202etxt"}
    await attempt(Log(), {"message": "m", "fields": fields}, logger=logger)
    assert stream.getvalue().count("\n") == 1
    assert not set("\r\x1b\x9b\u202e") & set(stream.getvalue())
