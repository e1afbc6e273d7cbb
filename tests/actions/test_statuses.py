"""The table of answers in docs/delivery.md: every status by itself, and through every action that speaks HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from actions.add_to_dataset import AddToDataset
from actions.annotate import Annotate
from actions.forward_webhook import ForwardWebhook
from actions.post_to_slack import PostToSlack
from engine.action.failures import LONGEST_RETRY_AFTER, classify
from engine.core.errors import HttpFailure, check_response

PAGE = Path(__file__).parents[2] / "docs" / "delivery.md"
#: What the table's words about a destination mean (``engine.action.failures.Health``).
SAYS = {
    "healthy": "healthy",
    "paused": "pause",
    "busy": "busy",
    "counted": "failing",
    "unauthorized": "refused",
    "gone": "gone",
}
#: What ``Retry-After`` says in these tests, in seconds.
AFTER = 7.0


@dataclass(frozen=True)
class Row:
    """One line of the documented table."""

    statuses: frozenset[int]
    with_retry_after: bool
    #: succeeded, retried or dead.
    verdict: str
    waits: bool
    says: str


def documented() -> list[Row]:
    """The table in docs/delivery.md, as far as it is about statuses."""
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and (statuses := _statuses(cells[0])):
            verdict = re.split(r"[,: ]", cells[1])[0]
            says = SAYS[re.split(r"[,: ]", cells[2])[0]]
            rows.append(Row(statuses, "Retry-After" in cells[0], verdict, "not before" in cells[1], says))
    return rows


def _statuses(cell: str) -> frozenset[int]:
    """``1xx, 404-407, 409`` as numbers."""
    found: set[int] = set()
    for word in re.findall(r"[1-5]xx|[1-5]\d\d(?:-[1-5]\d\d)?", cell):
        first, _, last = word.replace("xx", "00").partition("-")
        found.update(range(int(first), int(last or (first[0] + "99" if "x" in word else first)) + 1))
    return frozenset(found)


ROWS = documented()


def row_of(status: int, *, retry_after: bool) -> Row:
    """The one line that is about a status; with Retry-After the line that says so goes first."""
    plain = [row for row in ROWS if status in row.statuses and not row.with_retry_after]
    special = [row for row in ROWS if status in row.statuses and row.with_retry_after]
    assert len(plain) == 1, f"{status} stands in {len(plain)} lines"
    assert len(special) <= 1
    return special[0] if special and retry_after else plain[0]


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_means_what_is_documented(status, retry_after):
    row = row_of(status, retry_after=retry_after)
    try:
        check_response(status, {"Retry-After": str(AFTER)} if retry_after else {})
    except HttpFailure as error:
        failure = classify(error)
    else:
        assert (row.verdict, row.says) == ("succeeded", "healthy")
        return
    assert ("retried" if failure.retry else "dead") == row.verdict
    assert failure.health == row.says
    if failure.retry:
        assert failure.after == (AFTER if retry_after else None)
    if row.waits:
        assert retry_after


#: Of every line, what stands there by itself and the ends of what stands there as a range.
CHOSEN = (
    *(301, 302, 307, 308, 399, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 411, 413, 418, 422, 424, 425, 426),
    *(428, 429, 430, 451, 499, 500, 501, 502, 503, 504, 507, 520, 529, 599),
)
#: Where an action knows better than the table: what LangSmith does not have yet, and what is there already.
BETTER = {
    ("feedback", 404): "retry",
    ("feedback", 409): "success",
    ("queue", 404): "retry",
    ("queue", 409): "success",
    ("example", 409): "final",
}


@pytest.fixture(params=["example", "feedback", "queue", "forward", "slack", "slack_webhook"])
def subject(request, langsmith, slack, sink):
    """An action, its parameters, the stand-in that answers it, and the path where the answer counts."""
    dataset, queue = langsmith.add_dataset("d"), langsmith.add_queue("q")
    subjects = {
        "example": (AddToDataset(), {"dataset": dataset, "inputs": {"a": 1}}, langsmith, "/examples"),
        "feedback": (Annotate(), {"feedback": {"key": "k"}}, langsmith, "/feedback"),
        "queue": (Annotate(), {"queue": queue}, langsmith, "*annotation-queues*"),
        "forward": (ForwardWebhook(), {"url": sink.url}, sink, ""),
        "slack": (PostToSlack(), {"channel": "#q", "text": "t"}, slack, ""),
        "slack_webhook": (PostToSlack(), {"webhook_url": slack.webhook_url, "text": "t"}, slack, ""),
    }
    return request.param, *subjects[request.param]


async def outcome(attempt, action, params, **fields):
    try:
        await attempt(action, params, **fields)
    except Exception as error:  # noqa: BLE001 - as the worker does
        failure = classify(error)
        return ("retry" if failure.retry else "final"), failure
    return "success", None


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
@pytest.mark.parametrize("retry_after", [None, AFTER])
async def test_an_answer_means_the_same_to_every_action(attempt, subject, retry_after):
    for status in CHOSEN:
        await check(attempt, subject, status, retry_after)


async def check(attempt, subject, status, retry_after):
    name, action, params, stand_in, path = subject
    row = row_of(status, retry_after=retry_after is not None)
    location = {"Location": f"{stand_in.origin}/elsewhere"} if 300 <= status < 400 else None
    # These drive queue and dataset to a second request, which is to get the same answer; after a 409 feedback is read.
    asks_again = status in (404, 405, 409)
    times = 3 if asks_again and (name, status) != ("feedback", 409) else 1
    stand_in.requests.clear()
    stand_in.faults.clear()
    stand_in.faults.add(status=status, retry_after=retry_after, path=path, times=times, headers=location)
    came_to, failure = await outcome(attempt, action, params)
    expected = BETTER.get((name, status), {"retried": "retry", "dead": "final"}[row.verdict])
    assert came_to == expected, status
    if expected != "success" and (name, status) not in BETTER:
        assert failure.after == (retry_after if failure.retry else None), status
        # Who asks again, and knows then that it is not there, says so in words of its own.
        assert failure.health == row.says or (failure.health == "unknown" and asks_again), status
        assert failure.expected, status
        assert len(failure.reason) < 600
    if not asks_again:
        assert len(stand_in.requests) == 1, "no request is made twice within one attempt, and no redirect followed"


async def test_a_pause_that_is_asked_for_is_bounded(attempt, subject):
    _, action, params, stand_in, path = subject
    stand_in.faults.add(status=429, retry_after=90_000, path=path)
    _, failure = await outcome(attempt, action, params)
    assert (failure.after, failure.health) == (LONGEST_RETRY_AFTER, "pause")


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_every_2xx_is_success_to_a_webhook(attempt, sink, status):
    sink.faults.add(status=status, body=b"")
    assert (await outcome(attempt, ForwardWebhook(), {"url": sink.url}))[0] == "success"


async def test_a_reset_connection_is_tried_again(attempt, subject):
    _, action, params, stand_in, path = subject
    stand_in.faults.add(reset=True, path=path)
    came_to, failure = await outcome(attempt, action, params)
    assert (came_to, failure.cause, failure.expected) == ("retry", "connection", True)
    assert failure.health == "failing"


async def test_a_refused_connection_is_tried_again(attempt, subject):
    _, action, params, stand_in, _path = subject
    await stand_in.stop()
    came_to, failure = await outcome(attempt, action, params)
    assert (came_to, failure.cause, failure.expected) == ("retry", "connection", True)
    assert failure.health == "failing"


async def test_silence_is_a_timeout_and_tried_again(attempt, subject):
    _, action, params, stand_in, path = subject
    # The first call pays for the import of an SDK; that is not what is measured here.
    await outcome(attempt, action, params)
    stand_in.faults.add(hang=30, path=path)
    came_to, failure = await outcome(attempt, action, params | {}, timeout=0.2)
    assert (came_to, failure.cause, failure.health) == ("retry", "timeout", "failing")
