"""What the log says of attempts."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from logs import configure_logging, logging_restored

from engine.action.failures import classify
from engine.action.plugin_files import PluginLoader
from engine.action.registry import Registry
from engine.core.masking import Masker
from engine.store.records import Again, Attempt, Dead, Work
from engine.worker.attempt import AttemptResult, Job
from engine.worker.observer import LogObserver

PLUGIN = '''
import engine


class Ticket(engine.Action):
    """Open a ticket."""

    async def run(self, params, context):
        return open_ticket(context["id"])


def open_ticket(id):
    raise RuntimeError("no such queue")
'''


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with logging_restored():
        stream = io.StringIO()
        configure_logging("text", "info", Masker, stream)
        yield stream


@pytest.fixture
def action(tmp_path: Path) -> Any:
    (tmp_path / "ticket.py").write_text(PLUGIN)
    registered = PluginLoader().load([tmp_path], Registry({})).get("ticket")
    assert registered is not None
    return registered


async def attempt_of(registered: Any, number: int, *, dead: bool = False) -> tuple[Any, ...]:
    """An attempt that raised, told as the deliverer tells it."""
    with pytest.raises(RuntimeError) as caught:
        await registered.action.run(None, {"id": 1})
    ran = AttemptResult(classify(caught.value), None, "tickets", 100.0, 0.1, caught.value)
    event = SimpleNamespace(id="0198d6a0-1234-7abc-8000-00000000000e")
    work = Work("0198d6a01234" + "ab" * 10, "deliver", event.id, 99.5, 99.5, "alert", "ticket")
    routed = SimpleNamespace(name="ticket", registered=registered)
    job: Any = Job(work, event, SimpleNamespace(id="alert"), routed, {})  # type: ignore[arg-type]
    then = Dead("no") if dead else Again(130.0)
    outcome = "dead" if dead else "again"
    attempt = Attempt(number, 0, 100.0, 0.1, outcome, ran.failure.reason, destination="tickets")
    return job, ran, attempt, then


@pytest.mark.parametrize(
    ("number", "dead", "shown"), [(1, False, True), (2, False, False), (7, False, False), (8, True, True)]
)
async def test_a_traceback_is_shown_at_the_first_attempt_and_at_the_last(
    stream: io.StringIO, action: Any, number: int, dead: bool, shown: bool
) -> None:
    LogObserver(logging.getLogger("engine")).attempted(*await attempt_of(action, number, dead=dead))
    assert ("Traceback" in stream.getvalue()) is shown
    assert 'reason="RuntimeError: no such queue"' in stream.getvalue()


async def test_a_traceback_begins_in_the_plug_in(stream: io.StringIO, action: Any) -> None:
    LogObserver(logging.getLogger("engine")).attempted(*await attempt_of(action, 1))
    files = [line.split('"')[1] for line in stream.getvalue().splitlines() if line.strip().startswith("File ")]
    assert files == [action.origin, action.origin]
    assert len(stream.getvalue().splitlines()) <= 8


async def test_an_exception_from_before_the_plug_in_keeps_its_whole_traceback(stream: io.StringIO, action: Any) -> None:
    job, _, attempt, then = await attempt_of(action, 1)
    try:
        raise ZeroDivisionError("in the engine")
    except ZeroDivisionError as error:
        ran = AttemptResult(classify(error), None, "", 100.0, 0.1, error)
    LogObserver(logging.getLogger("engine")).attempted(job, ran, attempt, then)
    assert "test_observer.py" in stream.getvalue()


async def test_a_line_fits_on_a_screen(stream: io.StringIO, action: Any) -> None:
    LogObserver(logging.getLogger("engine")).attempted(*await attempt_of(action, 2))
    (line,) = stream.getvalue().splitlines()
    assert len(line) < 230
    assert "run=" not in line
    assert "waited=" not in line  # less than a second
    assert line.partition("delivery will be retried  ")[2].startswith("reason=")


async def test_for_machines_a_line_has_every_field_whatever_came_of_the_attempt(action: Any) -> None:
    names = set()
    for number, dead in ((1, False), (8, True)):
        stream = io.StringIO()
        logger = configure_logging("json", "info", Masker, stream)
        LogObserver(logger).attempted(*await attempt_of(action, number, dead=dead))
        line = json.loads(stream.getvalue())
        names.add(frozenset(line) - {"again_in", "traceback"})
        assert (line["waited"], line["outcome"], line["action_type"]) == (0.5, "dead" if dead else "again", "ticket")
    assert len(names) == 1


def test_what_was_held_back_and_what_could_not_be_attempted_are_lines_too(stream: io.StringIO) -> None:
    log = LogObserver(logging.getLogger("engine"))
    event: Any = SimpleNamespace(id="0198d6a0-1234-7abc-8000-00000000000e")
    log.held_back(event, "alert", "ticket", "muted")
    work = Work(event.id, "evaluate", event.id, 99.0, 99.0)
    log.failed(work, Attempt(8, 0, 100.0, 0.1, "dead", "no feedback"), Dead("no feedback"))
    log.paused("https://hooks.example", 1_750_000_000.0, "429")
    log.reopened("https://hooks.example")
    held, failed, paused, opened = (line.partition(" ")[2] for line in stream.getvalue().splitlines())
    assert held == "INFO    delivery held back  event=0198d6a0-1234-7abc  route=alert  action=ticket  why=muted"
    assert failed.startswith('ERROR   evaluation dead  reason="no feedback"  event=0198d6a0-1234-7abc  attempt=8')
    assert paused == (
        "WARNING destination paused  reason=429  destination=https://hooks.example  until=2025-06-15T15:06:40Z"
    )
    assert opened == "INFO    destination healthy again  destination=https://hooks.example"
