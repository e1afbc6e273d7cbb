"""The queue before standard error: it never waits, it says what it dropped, and nothing that is logged changes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from logs import logging_restored

from engine.core.errors import Retry
from engine.core.log_context import write_line
from engine.core.masking import Masker
from engine.telemetry.log import JsonFormatter, TextFormatter, route_logging
from engine.telemetry.log_queue import LogQueue

Made = Callable[..., tuple[logging.Logger, LogQueue]]


class Gate(io.StringIO):
    """A stream whose reader pauses while it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return [line[17:] for line in self.getvalue().splitlines()]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def made() -> Iterator[Made]:
    queues: list[LogQueue] = []

    def make(stream: Any, formatter: Any = None, **bounds: int) -> tuple[logging.Logger, LogQueue]:
        queue = LogQueue(formatter or TextFormatter(Masker), stream=stream, **bounds)
        queues.append(queue)
        logger = logging.Logger("engine")
        logger.addHandler(queue)
        return logger, queue

    yield make
    for queue in queues:
        queue.close()


def test_lines_wait_until_it_is_started_and_come_out_in_order(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.open.set()
    for number in range(1000):
        logger.info("line %d", number)
    assert gate.lines == []
    queue.start()
    assert queue.drain(5)
    assert gate.lines == [f"line {number}" for number in range(1000)]


def test_what_does_not_fit_is_dropped_and_one_line_says_how_many_where_it_happened(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=10)
    for number in range(14):
        logger.info("line %d", number)
    gate.open.set()
    assert queue.drain(5)
    logger.info("after")
    assert queue.drain(5)
    dropped = "4 log lines were dropped because standard error could not be written"
    assert gate.lines == [*(f"line {number}" for number in range(10)), dropped, "after"]
    assert queue.dropped.read() == {(): 4}


def test_a_queue_that_was_full_takes_lines_again_when_it_is_half_empty(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=4)
    queue.start()
    logger.info("writing")
    assert gate.entered.wait(5)
    for number in range(4):
        logger.info("line %d", number)
    gate.open.set()
    assert queue.drain(5)
    logger.info("again")
    assert queue.drain(5)
    dropped = "1 log line was dropped because standard error could not be written"
    assert gate.lines == ["writing", "line 0", "line 1", "line 2", dropped, "again"]


def test_what_is_being_written_counts_among_what_waits(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=1)
    queue.start()
    logger.info("writing")
    assert gate.entered.wait(5)
    logger.info("dropped")
    assert queue.dropped.read() == {(): 1}
    gate.open.set()


def test_the_queue_is_bounded_by_bytes_and_takes_one_line_that_is_larger_alone(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_bytes=10_000)
    logger.info("x" * 20_000)
    logger.info("small")
    assert queue.dropped.read() == {(): 1}
    gate.open.set()
    assert queue.drain(5)
    logger.info("y", extra={"fields": {"z": "z" * 9000}})
    logger.info("w" * 1000)
    assert queue.drain(5)
    assert [len(line) for line in gate.lines[:1]] == [20_000]
    assert queue.dropped.read() == {(): 2}


def test_the_queue_takes_exactly_as_many_bytes_as_it_may(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_bytes=2 * (500 + 100))  # two lines of 100 characters
    for text in ("a", "b", "c"):
        logger.info(text * 100)
    gate.open.set()
    assert queue.drain(5)
    assert [line[0] for line in gate.lines] == ["a", "b", "1"]


def test_written_lines_free_space_however_many_arrive(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=3, most_bytes=4000)
    for number in range(0, 20, 2):
        gate.open.clear()
        logger.info("%d %s", number, "x" * 1000)
        logger.info("%d %s", number + 1, "x" * 1000)
        gate.open.set()
        assert queue.drain(5)
    assert [line.split()[0] for line in gate.lines] == [str(number) for number in range(20)]


@pytest.mark.parametrize(("lines", "length", "together"), [(20, 20_000, 4), (600, 24, 126)])
def test_many_lines_are_written_in_portions(made: Made, lines: int, length: int, together: int) -> None:
    """Of about 64 KiB, with what a line takes beside its text."""
    portions: list[int] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            portions.append(text.count("\n"))
            return super().write(text)

    logger, queue = made(Stream())
    for _ in range(lines):
        logger.info("x" * length)
    assert queue.drain(5)
    assert (portions[0], max(portions), sum(portions)) == (together, together, lines)


def test_handing_a_line_in_does_not_wait_for_what_reads_it(made: Made) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as stream:
        logger, queue = made(stream, most_bytes=1 << 20)
        queue.start()
        begun = time.monotonic()
        for _ in range(2000):
            logger.info("x" * 1000)
        assert time.monotonic() - begun < 3
        assert not queue.drain(0.05)
        dropped = int(queue.dropped.read()[()])
        assert dropped > 0
        with os.fdopen(read_end, "rb") as reader:
            whole = 0
            while whole < 2000 - dropped:
                whole += reader.readline().endswith(b"x\n")
            assert f"{dropped} log lines were dropped because".encode() in reader.readline()


def test_a_stop_does_not_wait_for_a_reader_that_has_stopped(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    logger.info("stuck")
    begun = time.monotonic()
    assert not queue.drain(0.1)
    queue.close()
    assert time.monotonic() - begun < 2
    gate.open.set()


def test_lines_after_the_end_are_dropped_and_block_no_one(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.open.set()
    logger.info("before")
    assert queue.drain(5)
    queue.close()
    logger.info("after")
    assert queue.drain(5)
    assert gate.lines == ["before"]
    assert queue.dropped.read() == {(): 1}


# --- errors in writing -----------------------------------------------------------------------------------------------


def test_an_error_in_writing_loses_lines_and_not_the_thread(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.error = OSError(28, "no space left")
    gate.open.set()
    logger.info("lost")
    logger.info("lost")
    assert queue.drain(5)
    gate.error = None
    logger.info("written")
    assert queue.drain(5)
    assert gate.lines == ["2 log lines were dropped because standard error could not be written", "written"]
    assert queue.dropped.read() == {(): 2}


def test_lost_lines_are_reported_when_writing_works_even_if_nothing_else_is_logged(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.error = BrokenPipeError()
    gate.open.set()
    logger.info("lost")
    assert queue.drain(5)
    gate.error = None
    assert queue.drain(5)
    assert gate.lines == ["1 log line was dropped because standard error could not be written"]


def test_lost_lines_are_reported_without_anything_else_to_do(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.error = BrokenPipeError()
    gate.open.set()
    logger.info("lost")
    assert queue.drain(5)
    gate.error = None
    deadline = time.monotonic() + 10
    while not gate.lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert gate.lines == ["1 log line was dropped because standard error could not be written"]


def test_lines_that_cannot_be_captured_are_reported_each_time(made: Made, gate: Gate, monkeypatch: Any) -> None:
    capture = TextFormatter.capture

    def failing(self: Any, record: logging.LogRecord) -> Any:
        return 1 / 0 if record.msg == "lost" else capture(self, record)

    monkeypatch.setattr(TextFormatter, "capture", failing)
    logger, queue = made(gate)
    gate.open.set()
    for count in (1, 2):
        logger.info("lost")
        assert queue.drain(5)
        assert gate.lines == ["1 log line was dropped because standard error could not be written"] * count
    assert queue.dropped.read() == {(): 2}


def test_a_line_that_is_dropped_while_the_thread_counts_is_reported_too(made: Made, gate: Gate) -> None:
    class Odd(TextFormatter):
        def capture(self, record: logging.LogRecord) -> Any:
            return 1 / 0 if record.msg == "lost" else super().capture(record)

    logger, queue = made(gate, Odd(Masker), most_lines=1)
    real, entered = queue._state, []

    class Lock:
        def __enter__(self) -> None:
            if threading.current_thread() is queue._thread:
                entered.append(1)
                if len(entered) == 2:  # the first is for the lines that were written
                    other = threading.Thread(target=logger.info, args=("lost",))
                    other.start()
                    other.join(5)
            real.__enter__()

        def __exit__(self, *error: Any) -> None:
            real.__exit__(*error)

    queue._state = Lock()  # type: ignore[assignment]
    gate.open.set()
    logger.info("kept")
    logger.info("dropped")
    assert queue.drain(5)
    assert gate.lines == ["kept", "2 log lines were dropped because standard error could not be written"]
    assert queue.dropped.read() == {(): 2}


def test_where_nothing_can_be_formatted_the_thread_goes_on(made: Made, gate: Gate, monkeypatch: Any) -> None:
    logger, queue = made(gate)
    gate.open.set()
    with monkeypatch.context() as broken:
        broken.setattr(TextFormatter, "capture", lambda *_: 1 / 0)
        logger.info("lost")
        assert queue.drain(5)
    logger.info("kept")
    assert queue.drain(5)
    assert gate.getvalue().startswith("1 log line was dropped because standard error could not be written\n")
    assert gate.getvalue().endswith("kept\n")


def test_a_pipe_without_a_reader_ends_nothing(made: Made) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream:
        logger, queue = made(stream)
        logger.info("lost")
        assert queue.drain(5)
        assert queue.dropped.read() == {(): 1}
        logger.info("lost")
        assert queue.drain(5)
        assert queue.dropped.read() == {(): 2}


def test_a_line_that_was_written_in_part_does_not_run_into_the_next(made: Made, monkeypatch: Any) -> None:
    read_end, write_end = os.pipe()
    real, calls = os.write, []

    def write(descriptor: int, data: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            return real(descriptor, data[:20])
        if len(calls) == 2:
            raise OSError(28, "no space left")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb") as reader:
        logger, queue = made(stream)
        logger.info("torn apart")
        assert queue.drain(5)
        logger.info("whole")
        assert queue.drain(5)
        assert [reader.readline()[17:].decode() for _ in range(3)] == [
            "tor\n",
            "1 log line was dropped because standard error could not be written\n",
            "whole\n",
        ]


async def test_a_line_that_is_torn_behind_a_report_is_not_taken_for_written(made: Made, monkeypatch: Any) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    real, report, torn = os.write, b"could not be written\n", []

    def write(descriptor: int, data: Any) -> int:
        text = bytes(data)
        if not torn and report in text and b"torn apart" in text:
            torn.append(text)
            return real(descriptor, data[: text.index(report) + len(report) + 20])
        if b"whole" not in text:
            raise OSError(28, "no space left")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb") as reader:
        logger, queue = made(stream)
        logger.info("lost")
        assert await asyncio.to_thread(queue.drain, 5)
        with pytest.raises(Retry, match="no space left"):
            await write_line(logger, logging.INFO, "torn apart", {})
        assert await asyncio.to_thread(queue.drain, 5)
        await write_line(logger, logging.INFO, "whole", {})
        assert [line[17:].decode() for line in reader.readlines()] == [
            "1 log line was dropped because standard error could not be written\n",
            "tor\n",
            "whole\n",
        ]
        assert queue.dropped.read() == {(): 1}


def test_a_descriptor_that_does_not_block_is_waited_for(made: Made) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb") as reader:
        logger, queue = made(stream)
        for _ in range(200):
            logger.info("x" * 1000)
        assert not queue.drain(0.1)
        assert sum(len(reader.readline()) for _ in range(200)) == 200 * (17 + 1001)
        assert queue.dropped.read() == {(): 0}


def test_standard_error_that_is_closed_ends_nothing(made: Made, monkeypatch: Any) -> None:
    logger, queue = made(None)
    monkeypatch.setattr("sys.stderr", None)
    logger.info("lost")
    assert queue.drain(5)
    assert queue.dropped.read() == {(): 1}
    queue.close()
    queue._thread.join(5)  # it would report the line on the next standard error


def test_a_line_that_cannot_be_formatted_is_reported_and_ends_nothing(made: Made, gate: Gate) -> None:
    class Odd(TextFormatter):
        def line(self, line: Any, mask: Any) -> str:
            if line.message == "odd":
                raise KeyError("secret")
            return super().line(line, mask)

    gate.open.set()
    logger, queue = made(gate, Odd(Masker))
    logger.info("odd")
    logger.info("good")
    assert queue.drain(5)
    assert gate.lines == ["a log line of engine could not be written: KeyError", "good"]


# --- lines that must not be lost -------------------------------------------------------------------------------------


async def test_a_line_that_must_not_be_lost_is_done_when_it_is_written(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    queue.start()
    writing = asyncio.create_task(write_line(logger, logging.INFO, "kept", {"a": 1}))
    await asyncio.to_thread(gate.entered.wait, 5)
    await asyncio.sleep(0.05)
    assert not writing.done()
    gate.open.set()
    await asyncio.wait_for(writing, 5)
    assert gate.lines == ["kept  a=1"]


async def test_it_is_retried_while_the_queue_is_full(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=1)
    logger.info("full")
    with pytest.raises(Retry, match="cannot take lines now"):
        await write_line(logger, logging.INFO, "refused", {})
    gate.open.set()
    assert queue.drain(5)
    await write_line(logger, logging.INFO, "kept", {})
    assert gate.lines == ["full", "kept"]  # nothing was lost, so no line says that something was
    assert queue.dropped.read() == {(): 0}


async def test_while_one_is_refused_further_lines_wait_until_the_queue_is_half_empty(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_bytes=3000)
    logger.info("x" * 1600)  # with what a line takes beside its text, it fills more than half
    with pytest.raises(Retry):
        await write_line(logger, logging.INFO, "y" * 1600, {})
    logger.info("small")
    gate.open.set()
    assert queue.drain(5)
    assert gate.lines[1:] == ["1 log line was dropped because standard error could not be written"]
    assert queue.dropped.read() == {(): 1}


async def test_it_is_retried_where_writing_fails(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    queue.start()
    gate.error = OSError(28, "no space left")
    gate.open.set()
    with pytest.raises(Retry, match=r"the log could not be written: \[Errno 28\] no space left"):
        await write_line(logger, logging.INFO, "kept", {})
    assert queue.dropped.read() == {(): 0}


async def test_one_that_is_not_waited_for_any_longer_is_taken_back(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    queue.start()
    logger.info("writing")
    await asyncio.to_thread(gate.entered.wait, 5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await write_line(logger, logging.INFO, "taken back", {})
    gate.open.set()
    await asyncio.to_thread(queue.drain, 5)
    assert gate.lines == ["writing"]
    assert queue.dropped.read() == {(): 0}


async def test_withdrawn_lines_free_space(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, most_lines=3)
    queue.start()
    logger.info("writing")
    await asyncio.to_thread(gate.entered.wait, 5)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await write_line(logger, logging.INFO, "taken back", {})
    gate.open.set()
    await asyncio.to_thread(queue.drain, 5)
    gate.open.clear()
    for number in range(3):
        logger.info("%d", number)
    gate.open.set()
    await asyncio.to_thread(queue.drain, 5)
    assert gate.lines == ["writing", "0", "1", "2"]


async def test_below_the_level_and_with_other_handlers_nothing_is_waited_for(made: Made, gate: Gate) -> None:
    logger, _queue = made(gate)
    logger.setLevel("ERROR")
    await write_line(logger, logging.INFO, "hush", {})
    other = logging.Logger("engine")
    other.addHandler(logging.StreamHandler(heard := io.StringIO()))
    await write_line(other, logging.INFO, "said", {})
    assert heard.getvalue() == "said\n"


# --- what was logged stays what it was -------------------------------------------------------------------------------


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_nothing_changes_a_line_once_it_was_handed_in(formatter: Any, made: Made, gate: Gate) -> None:
    class Says:
        words = "before"

        def __str__(self) -> str:
            return self.words

    says, tree, error = Says(), {"k": ["before"]}, ValueError("before")
    logger, queue = made(gate, formatter(Masker))
    logger.info("%s %s", says, tree, extra={"tree": tree, "says": says})
    try:
        raise error
    except ValueError:
        logger.exception("trouble")
    says.words, tree["k"], error.args = "later", ["later"], ("later",)
    gate.open.set()
    assert queue.drain(5)
    assert gate.getvalue().count("before") == 5
    assert "later" not in gate.getvalue()


def test_a_line_is_masked_with_the_secrets_of_then_and_of_now(made: Made, gate: Gate) -> None:
    masker = Masker(["old-secret"])
    logger, queue = made(gate, TextFormatter(lambda: masker))
    logger.info("old-secret and new-secret")
    masker = Masker(["new-secret"])
    gate.open.set()
    assert queue.drain(5)
    assert gate.lines == ["*** and ***"]


def test_a_finalizer_that_logs_while_a_line_is_handed_in_does_not_hang(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.open.set()
    put = queue._entries.put

    class Entries:
        def __getattr__(self, name: str) -> Any:
            return getattr(queue_entries, name)

        def put(self, entry: Any) -> None:
            if "outer" in str(getattr(getattr(entry, "line", None), "message", "")):
                logger.info("inner")
            put(entry)

    queue_entries, queue._entries = queue._entries, Entries()  # type: ignore[assignment]
    logger.info("outer")
    assert queue.drain(5)
    assert gate.lines == ["inner", "outer"]


@pytest.mark.parametrize("name", ["engine", "a.plug.in"])
def test_a_record_that_takes_long_to_look_at_holds_up_no_other_thread(made: Made, gate: Gate, name: str) -> None:
    begun, end = threading.Event(), threading.Event()

    class Slow:
        def __str__(self) -> str:
            begun.set()
            assert end.wait(20)
            return "slow"

    _, queue = made(gate)
    gate.open.set()
    with logging_restored():
        logging.getLogger().handlers[:] = []  # pytest's own, which have locks
        route_logging(queue, "info")
        logger = logging.getLogger(name)
        thread = threading.Thread(target=logger.warning, args=("%s", Slow()))
        thread.start()
        assert begun.wait(5)
        other = threading.Thread(target=logger.warning, args=("quick",))
        other.start()
        other.join(5)
        held_up = other.is_alive()
        end.set()
        thread.join(5)
    assert not held_up
    assert queue.drain(5)
    assert [line.removeprefix("a.plug.in: ") for line in gate.lines] == ["quick", "slow"]


def test_a_filter_of_the_handler_counts(made: Made, gate: Gate) -> None:
    logger, queue = made(gate)
    gate.open.set()
    queue.addFilter(lambda record: "not this" not in record.msg)
    logger.info("not this")
    logger.info("this")
    assert queue.drain(5)
    assert gate.lines == ["this"]


def test_json_lines_hold_trees_as_trees(made: Made, gate: Gate) -> None:
    logger, queue = made(gate, JsonFormatter(Masker))
    gate.open.set()
    logger.info("m", extra={"fields": {"tree": {"a": [1, None]}, "nan": float("nan"), "n": 1.5, "t": True, "s": "x"}})
    assert queue.drain(5)
    line = json.loads(gate.getvalue())
    assert {name: line[name] for name in ("tree", "nan", "n", "t", "s")} == {
        "tree": {"a": [1, None]},
        "nan": "nan",
        "n": 1.5,
        "t": True,
        "s": "x",
    }
