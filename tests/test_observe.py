"""What the log says of attempts."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.execute import Job, Ran
from engine.log import configure_logging, logging_restored
from engine.observe import LogObserver
from engine.plugins import PluginLoader
from engine.registry import Registry
from engine.retry import classify
from engine.secrets import Masker
from engine.store.protocol import Again, Attempt, Dead

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
    ran = Ran(classify(caught.value), None, "tickets", 100.0, 0.1, caught.value)
    work = SimpleNamespace(id="0198d6a01234" + "ab" * 10, run_id=None)
    event = SimpleNamespace(id="0198d6a0-1234-7abc-8000-00000000000e")
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
        ran = Ran(classify(error), None, "", 100.0, 0.1, error)
    LogObserver(logging.getLogger("engine")).attempted(job, ran, attempt, then)
    assert "test_observe.py" in stream.getvalue()


async def test_a_line_fits_on_a_screen(stream: io.StringIO, action: Any) -> None:
    LogObserver(logging.getLogger("engine")).attempted(*await attempt_of(action, 2))
    (line,) = stream.getvalue().splitlines()
    assert len(line) < 230
    assert "run=" not in line
    assert line.partition("delivery again  ")[2].startswith("reason=")
