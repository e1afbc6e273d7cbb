"""One table of answers, and what every HTTP action's delivery comes to by it."""

from __future__ import annotations

import pytest

from actions.add_to_dataset import AddToDataset
from actions.annotate import Annotate
from actions.forward_webhook import ForwardWebhook
from actions.post_to_slack import PostToSlack
from engine.retry import classify

#: Status, the header with it, and what follows: success, another attempt (at the earliest after seconds), or the end.
TABLE = [
    (400, None, "final", None),
    (401, None, "retry", None),
    (403, None, "final", None),
    (403, 7, "retry", 7.0),
    (404, None, "final", None),
    (408, None, "retry", None),
    (409, None, "final", None),
    (410, None, "final", None),
    (422, None, "final", None),
    (425, None, "retry", None),
    (429, None, "retry", None),
    (429, 7, "retry", 7.0),
    (429, 90_000, "retry", 3600.0),
    (500, None, "retry", None),
    (502, None, "retry", None),
    (503, None, "retry", None),
    (503, 7, "retry", 7.0),
    (504, None, "retry", None),
    (301, None, "final", None),
    (307, None, "final", None),
]
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
@pytest.mark.parametrize(("status", "retry_after", "verdict", "after"), TABLE)
async def test_an_answer_means_the_same_to_every_action(attempt, subject, status, retry_after, verdict, after):
    name, action, params, stand_in, path = subject
    location = {"Location": f"{stand_in.origin}/elsewhere"} if 300 <= status < 400 else None
    # A 404 drives queue and dataset to a second request, which is to get the same answer.
    times = 3 if status == 404 else 1
    stand_in.faults.add(status=status, retry_after=retry_after, path=path, times=times, headers=location)
    came_to, failure = await outcome(attempt, action, params)
    expected = BETTER.get((name, status), verdict)
    assert came_to == expected
    if expected != "success" and (name, status) not in BETTER:
        assert failure.after == after
        assert failure.expected
        assert len(failure.reason) < 600
    if status not in (404, 409):
        assert len(stand_in.requests) == 1, "no request is made twice within one attempt, and no redirect followed"


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_every_2xx_is_success_to_a_webhook(attempt, sink, status):
    sink.faults.add(status=status, body=b"")
    assert (await outcome(attempt, ForwardWebhook(), {"url": sink.url}))[0] == "success"


async def test_a_reset_connection_is_tried_again(attempt, subject):
    _, action, params, stand_in, path = subject
    stand_in.faults.add(reset=True, path=path)
    came_to, failure = await outcome(attempt, action, params)
    assert (came_to, failure.cause, failure.expected) == ("retry", "connection", True)


async def test_a_refused_connection_is_tried_again(attempt, subject):
    _, action, params, stand_in, _path = subject
    await stand_in.stop()
    came_to, failure = await outcome(attempt, action, params)
    assert (came_to, failure.cause, failure.expected) == ("retry", "connection", True)


async def test_silence_is_a_timeout_and_tried_again(attempt, subject):
    _, action, params, stand_in, path = subject
    # The first call pays for the import of an SDK; that is not what is measured here.
    await outcome(attempt, action, params)
    stand_in.faults.add(hang=30, path=path)
    came_to, failure = await outcome(attempt, action, params | {}, timeout=0.2)
    assert (came_to, failure.cause) == ("retry", "timeout")
