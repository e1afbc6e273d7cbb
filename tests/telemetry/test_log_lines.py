"""The log: nothing gets out of it unmasked, nothing gets a forged line into it."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from logs import configure_logging, logging_restored

from engine.core.masking import Masker
from engine.telemetry.log import TextFormatter, route_logging
from engine.telemetry.log_queue import LogQueue

SECRET = 'p@ss/word "42"'
LINE = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")
EVENT = "0198d6a0-1234-7abc-8000-00000000000e"
RUN = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with logging_restored():
        yield


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def configured(stream: io.StringIO, style: str = "text", *secrets: str) -> logging.Logger:
    masker = Masker(secrets)
    return configure_logging(style, "info", lambda: masker, stream)


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


# --- whatever is logged ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_way_into_a_log_line_gets_a_secret_out(style: str, stream: io.StringIO) -> None:
    logger = configured(stream, style, SECRET)
    logger.info("message %s", SECRET, extra={"field": SECRET, "tree": {"k": [SECRET]}})
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("trouble", stack_info=True)
    logging.getLogger("engine.action.log").warning(SECRET)
    text = stream.getvalue()
    assert "word" not in text
    assert text.count("***") >= 5
    assert "ValueError" in text


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("name", ["asyncio", "aiohttp.server", "httpx2", "somebodys.plugin"])
def test_other_loggers_are_masked_and_named(style: str, name: str, stream: io.StringIO) -> None:
    configured(stream, style, SECRET)
    logging.getLogger(name).warning("slow: %s", SECRET)
    logging.getLogger(name).info("chatter")
    if style == "json":
        assert only(stream)["message"] == "slow: ***"
        assert only(stream)["logger"] == name
    else:
        assert stream.getvalue().endswith(f"WARNING {name}: slow: ***\n")


def test_the_engine_s_own_lines_come_once_and_at_their_own_level(stream: io.StringIO) -> None:
    logger = configured(stream)
    logger.info("hello")
    logging.getLogger("engine.store").info("hello")
    logging.getLogger("engine").debug("hush")
    assert stream.getvalue().count("hello") == 2
    assert "hush" not in stream.getvalue()


@pytest.mark.filterwarnings("default")
def test_python_s_warnings_are_lines_as_well(stream: io.StringIO) -> None:
    configured(stream, "json", SECRET)
    warnings.warn(f"{SECRET} is deprecated", DeprecationWarning, stacklevel=1)
    assert only(stream)["logger"] == "py.warnings"
    assert "*** is deprecated" in only(stream)["message"]


def test_a_secret_of_several_lines_is_masked(stream: io.StringIO) -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"
    logger = configured(stream, "text", key)
    logger.info("key: %s", key, extra={"key": key})
    try:
        raise ValueError(key)
    except ValueError:
        logger.exception("trouble")
    assert "MIIE" not in stream.getvalue()


def test_a_secret_that_looks_like_an_id_is_masked_before_ids_are_cut(stream: io.StringIO) -> None:
    configured(stream, "text", RUN).info("hello", extra={"run": RUN, "path": f"a/{RUN}"})
    assert RUN[:8] not in stream.getvalue()
    assert stream.getvalue().count("***") == 2


def test_others_that_listen_go_on_listening(stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    logger = configured(stream)
    logger.info("to both")
    logging.getLogger("somebody").warning("to both")
    assert [record.name for record in caplog.records] == ["engine", "somebody"]


def test_what_would_print_beside_it_unmasked_is_replaced_and_a_second_time_changes_nothing() -> None:
    root, beside, first, second = logging.getLogger(), io.StringIO(), io.StringIO(), io.StringIO()
    root.addHandler(logging.StreamHandler(beside))
    configured(first)
    configured(second)
    logging.getLogger("somebody").warning("said")
    logging.getLogger("engine").warning("said")
    assert (beside.getvalue(), first.getvalue(), second.getvalue().count("said")) == ("", "", 2)


def test_all_is_as_it_was_in_the_end(stream: io.StringIO) -> None:
    root, logger = logging.getLogger(), logging.getLogger("engine")
    before = (root.handlers[:], root.level, logger.handlers[:], logger.level)
    with logging_restored():
        configured(stream)
        assert (root.handlers[:], root.level, logger.handlers[:], logger.level) != before
    assert (root.handlers[:], root.level, logger.handlers[:], logger.level) == before


def test_a_message_that_does_not_fit_its_arguments_is_logged_without_them(stream: io.StringIO, capsys: Any) -> None:
    logging.getLogger().handlers.clear()  # pytest's own would fail the test
    configured(stream, "text", SECRET).info("count: %d", SECRET)
    assert "count: %d (its arguments do not fit: TypeError)" in stream.getvalue()
    assert "word" not in stream.getvalue() + capsys.readouterr().err


def test_what_cannot_be_written_is_not_reported_elsewhere(capsys: Any) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            if "word" in text:
                raise OSError(28, "no space left")
            return super().write(text)

    stream = Full()
    queue = LogQueue(TextFormatter(Masker), stream=stream)
    route_logging(queue, "info").info(SECRET)
    assert queue.drain(5)
    assert queue.drain(5)
    queue.close()
    assert stream.getvalue().endswith("1 log line was dropped because standard error could not be written\n")
    assert "word" not in capsys.readouterr().err


# --- forging ---------------------------------------------------------------------------------------------------------


def test_the_formatter_s_own_keys_win(stream: io.StringIO) -> None:
    fields = {"level": "debug", "at": "1970", "traceback": "none", "message": "forged", "logger": "x", "level_": 1}
    configured(stream, "json").error("true", extra={"fields": fields})
    line = only(stream)
    assert (line["level"], line["message"], line["at"][:2]) == ("error", "true", "20")
    assert "traceback" not in line
    assert "logger" not in line
    assert (line["level_"], line["level__"], line["message_"], line["traceback_"]) == ("debug", 1, "forged", "none")


@pytest.mark.parametrize("control", ["\n", "\r", "\x00", "\x1b[2J", "\x7f", "\x9b2J", "\u2028", "\u202e", "\ud800"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_no_control_character_gets_out_of_a_name_or_a_value(style: str, control: str, stream: io.StringIO) -> None:
    forged = f"a{control}12:00:00 INFO    forged"
    logging.getLogger("engine.action.x")
    logger = configured(stream, style)
    for one in (logger, logging.getLogger("engine.action.x")):
        one.info("hello", extra={"fields": {forged: forged, f"x{control}": control}})
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert not any(ord(character) < 32 for line in lines for character in line)
    assert control == "\n" or control[0] not in stream.getvalue()
    stream.getvalue().encode()
    if style == "json":
        assert json.loads(lines[0])[forged] == forged


def test_the_further_lines_of_a_text_cannot_pass_for_lines_of_the_log(stream: io.StringIO) -> None:
    logger = configured(stream)
    logger.error("two problems\nthe first\nthe second", extra={"count": 2})
    logging.getLogger("plugin").warning("run \r\n12:00:00 INFO    forged")
    try:
        raise ValueError("\n12:00:00 INFO    forged")
    except ValueError:
        logger.exception("trouble")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("two problems  count=2")
    assert lines[1:3] == ["    the first", "    the second"]
    assert [bool(LINE.match(line)) for line in lines].count(True) == 3
    assert all(line.startswith("    ") for line in lines if not LINE.match(line))


# --- for machines ----------------------------------------------------------------------------------------------------


def test_json_lines_are_json_with_the_facts_as_fields(stream: io.StringIO) -> None:
    configured(stream, "json").info("routed", extra={"event": EVENT, "deliveries": 2, "run": "-", "none": None})
    line = only(stream)
    assert (line["message"], line["level"], line["event"], line["deliveries"]) == ("routed", "info", EVENT, 2)
    assert (line["run"], line["none"]) == ("-", None)


def test_whatever_a_field_holds_the_line_is_json(stream: io.StringIO) -> None:
    circle: list[Any] = []
    circle.append(circle)
    odd = {"nan": float("nan"), "circle": circle, "keys": {(1, 2): 3}, "bytes": b"x", "good": [1]}
    configured(stream, "json").info("odd", extra=odd)
    json.loads(stream.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# --- for people ------------------------------------------------------------------------------------------------------


def test_the_engine_s_facts_are_short_with_the_reason_first(stream: io.StringIO) -> None:
    facts = {
        "delivery": "0198d6a01234" + "ab" * 10,
        "event": EVENT,
        "route": f"{RUN}/low",
        "run": RUN,
        "unmatched": None,
        "destination": "",
        "rule": "-",
        "url": f"https://example.com/{RUN}",
        "reason": f"no such dataset {RUN}",
    }
    configured(stream).error("delivery dead", extra=facts)
    assert stream.getvalue().partition("dead  ")[2] == (
        f'reason="no such dataset {RUN}"  delivery=0198d6a01234ababab  event=0198d6a0-1234-7abc  '
        f"route=1b4e28ba-2fa1/low  run=1b4e28ba-2fa1  url=https://example.com/{RUN}\n"
    )


def test_values_that_would_run_into_each_other_are_quoted(stream: io.StringIO) -> None:
    configured(stream).info("m", extra={"a": "x  b=y", "c": 'say "x"', "d": "plain"})
    assert stream.getvalue().endswith(r'm  a="x  b=y"  c="say \"x\""  d=plain' + "\n")
