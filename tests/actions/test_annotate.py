"""annotate against LangSmith's stand-in, through the real SDK."""

from __future__ import annotations

import json
from uuid import NAMESPACE_URL, uuid5

import pytest
from action_samples import PROJECT_ID, RUN, RUN_ID
from pydantic import ValidationError

from actions.annotate import Annotate
from engine import Discard, LangSmithFailure, Retry
from engine.clients.langsmith import LangSmith, LangSmithSettings
from engine.testing import LangSmithStandIn

FEEDBACK = {"key": "triage", "score": 0.123456, "value": "low", "comment": "hm", "correction": {"output": "x"}}


async def test_gives_feedback_that_locates_its_run_and_extends_nothing(attempt, langsmith):
    result = await attempt(Annotate(), {"feedback": FEEDBACK})
    (request,) = langsmith.requests
    body = request.body
    assert (body["id"], body["run_id"], body["session_id"]) == (result["feedback_id"], RUN_ID, PROJECT_ID)
    assert (body["trace_id"], body["start_time"]) == (RUN_ID, "2023-05-05T05:13:24.571809+00:00")
    assert (body["key"], body["score"], body["value"], body["comment"]) == ("triage", 0.1235, "low", "hm")
    assert body["correction"] == {"output": "x"}
    assert body["extend_trace_retention"] is False


async def test_a_text_may_be_a_correction(attempt, langsmith):
    await attempt(Annotate(), {"feedback": {"key": "k", "correction": "better"}})
    assert langsmith.requests[0].body["correction"] == "better"


@pytest.mark.parametrize("score", [True, 1, 0.5, 0])
async def test_a_score_keeps_its_type(attempt, langsmith, score):
    await attempt(Annotate(), {"feedback": {"key": "k", "score": score}})
    sent = langsmith.requests[0].body["score"]
    assert (sent, type(sent)) == (score, type(score))


async def test_feedback_is_given_once_however_often_it_is_attempted(attempt, langsmith):
    langsmith.faults.add(status=503, path="/feedback", applied=True)
    with pytest.raises(LangSmithFailure):
        await attempt(Annotate(), {"feedback": FEEDBACK})
    await attempt(Annotate(), {"feedback": FEEDBACK}, attempt=2)
    assert len(langsmith.feedback) == 1


async def test_a_conflict_means_that_the_feedback_is_there(attempt, langsmith):
    langsmith.state.feedback_conflict = True
    await attempt(Annotate(), {"feedback": FEEDBACK})
    assert (await attempt(Annotate(), {"feedback": FEEDBACK}))["feedback_id"]
    assert [request.status for request in langsmith.requests] == [200, 409, 200], "it is looked at"


@pytest.mark.parametrize(
    ("config", "feedback", "why"),
    [
        ({"type": "continuous", "min": 0, "max": 1}, {"score": 7}, "7 is not between 0 and 1"),
        (
            {"type": "categorical", "categories": [{"value": 1, "label": "good"}, {"value": 0, "label": "bad"}]},
            {"value": "so-so"},
            "'so-so' is none of the categories good, bad",
        ),
    ],
)
@pytest.mark.parametrize("conflict", [False, True])
async def test_feedback_that_does_not_fit_its_keys_configuration_is_dead(
    attempt, langsmith, config, feedback, why, conflict
):
    langsmith.configure_feedback("triage", **config)
    langsmith.state.feedback_conflict = conflict
    words = rf"recorded the feedback 'triage' as an error: .*{why}.*make it fit .*then replay"
    for number in (1, 2):
        with pytest.raises(Discard, match=words):
            await attempt(Annotate(), {"feedback": {"key": "triage", **feedback}}, attempt=number)
    with pytest.raises(Discard, match=words):
        await attempt(Annotate(), {"feedback": {"key": "triage", **feedback}}, replayed=True)
    langsmith.configure_feedback("triage")
    assert await attempt(Annotate(), {"feedback": {"key": "triage", **feedback}}, replayed=True)
    (row,) = langsmith.feedback.values()
    assert not (row["extra"] or {}).get("error")


@pytest.mark.parametrize("row", [{"error": True}, {"extra": {"error": True}}, {"extra": {"error": {"message": "no"}}}])
async def test_an_answer_that_says_error_in_either_place_is_a_failure(attempt, langsmith, row):
    answer = {"id": RUN_ID, "key": "triage", "run_id": RUN_ID, "trace_id": None, **row}
    langsmith.faults.add(status=200, path="/feedback", body=json.dumps(answer))
    with pytest.raises(Discard, match="as an error"):
        await attempt(Annotate(), {"feedback": FEEDBACK})


async def test_feedback_that_does_not_fit_does_not_keep_the_run_out_of_the_queue(attempt, langsmith):
    langsmith.add_queue("q")
    langsmith.configure_feedback("triage", type="continuous", min=1, max=2)
    langsmith.faults.add(status=503, path="/platform/annotation-queues")
    with pytest.raises(LangSmithFailure, match="503"):
        await attempt(Annotate(), {"queue": "q", "feedback": FEEDBACK})
    with pytest.raises(Discard, match="as an error"):
        await attempt(Annotate(), {"queue": "q", "feedback": FEEDBACK}, attempt=2)
    assert len(langsmith.queue_items) == 1


def _many(count):
    return [RUN | {"id": str(uuid5(NAMESPACE_URL, f"run {number}"))} for number in range(count)]


async def test_a_whole_webhook_is_queued_a_hundred_runs_a_request(attempt, langsmith):
    queue, runs = langsmith.add_queue("q"), _many(205)
    document = {"payload": {"runs": [*runs, runs[0], {"name": "without an id"}, None]}, "run": None}
    result = await attempt(Annotate(), {"queue": queue}, run=None, document=document)
    assert result == {"runs": 205, "queue_id": queue}
    assert [len(request.body["items"]) for request in langsmith.requests] == [100, 100, 5]
    assert [item["run_id"] for item in langsmith.queue_items] == [run["id"] for run in runs]


async def test_a_digest_queues_the_runs_of_all_its_items(attempt, langsmith):
    queue, runs = langsmith.add_queue("q"), _many(5)
    items = [{"run": run, "payload": {"runs": [run]}} for run in runs[:3]]
    items.append({"run": None, "payload": {"runs": runs[2:]}})
    document = {"items": items, "run": runs[0], "payload": items[0]["payload"]}
    result = await attempt(Annotate(), {"queue": queue}, run=runs[0], document=document, digest=True)
    assert result == {"runs": 5, "queue_id": queue}
    assert len(langsmith.requests) == 1


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
@pytest.mark.parametrize("missing", [0, 2], ids=["before one that is queued already", "after one"])
async def test_runs_that_are_not_there_yet_do_not_keep_the_others_out_of_the_queue(attempt, langsmith, missing):
    queue, runs = langsmith.add_queue("q"), _many(4)
    langsmith.state.unknown_runs, langsmith.state.queue_conflict = False, True
    there = [run for run in runs if run is not runs[missing]]
    for run in there:
        langsmith.add_run(run)
    await attempt(Annotate(), {"queue": queue}, run=runs[1])
    document = {"payload": {"runs": runs}, "run": None}
    with pytest.raises(Retry, match="does not have the queue or a run"):
        await attempt(Annotate(), {"queue": queue}, run=None, document=document)
    assert {item["run_id"] for item in langsmith.queue_items} == {run["id"] for run in there}
    langsmith.add_run(runs[missing])
    await attempt(Annotate(), {"queue": queue}, run=None, document=document, attempt=2)
    assert len(langsmith.queue_items) == 4


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_of_many_runs_only_what_is_there_is_queued_across_requests(attempt, langsmith):
    queue, runs = langsmith.add_queue("q"), _many(101)
    langsmith.state.unknown_runs = False
    for run in runs[1:]:
        langsmith.add_run(run)
    document = {"payload": {"runs": runs}, "run": None}
    with pytest.raises(Retry):
        await attempt(Annotate(), {"queue": queue}, run=None, document=document)
    assert len(langsmith.queue_items) == 100


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_a_queue_that_is_gone_is_not_asked_for_every_run(attempt, langsmith):
    document = {"payload": {"runs": _many(100)}, "run": None}
    with pytest.raises(Retry):
        await attempt(Annotate(), {"queue": str(uuid5(NAMESPACE_URL, "gone"))}, run=None, document=document)
    assert len(langsmith.requests) == 3


async def test_feedback_on_a_whole_webhook_is_dead_with_advice(attempt, langsmith):
    queue = langsmith.add_queue("q")
    document = {"payload": {"runs": _many(2)}, "run": None}
    with pytest.raises(Discard, match="feedback is for one run: write for_each: run"):
        await attempt(Annotate(), {"queue": queue, "feedback": FEEDBACK}, run=None, document=document)
    assert len(langsmith.queue_items) == 2


@pytest.mark.parametrize("conflict", [True, False])
async def test_a_replay_updates_the_feedback_where_it_differs(attempt, langsmith, conflict):
    langsmith.state.feedback_conflict = conflict
    given = await attempt(Annotate(), {"feedback": FEEDBACK})
    changed = {"key": "triage", "score": 0.98765432, "value": "low", "correction": {"output": "y"}}
    assert await attempt(Annotate(), {"feedback": changed}, replayed=True) == given
    (row,) = langsmith.feedback.values()
    assert (row["score"], row["value"], row["comment"], row["correction"]) == (0.9877, "low", None, {"output": "y"})
    assert langsmith.requests[-2].body == {"score": 0.9877, "comment": None, "correction": {"output": "y"}}


async def test_a_replay_leaves_feedback_alone_that_says_the_same(attempt, langsmith):
    await attempt(Annotate(), {"feedback": FEEDBACK})
    await attempt(Annotate(), {"feedback": FEEDBACK}, replayed=True)
    assert [request.method for request in langsmith.requests] == ["POST", "GET"]


async def test_a_replay_gives_feedback_that_never_arrived(attempt, langsmith):
    await attempt(Annotate(), {"feedback": FEEDBACK}, replayed=True)
    assert [(row["key"], row["score"]) for row in langsmith.feedback.values()] == [("triage", 0.1235)]


async def test_another_key_or_delivery_is_other_feedback(attempt, langsmith):
    await attempt(Annotate(), {"feedback": FEEDBACK})
    await attempt(Annotate(), {"feedback": FEEDBACK | {"key": "other"}})
    await attempt(Annotate(), {"feedback": FEEDBACK}, delivery_id="other")
    assert len(langsmith.feedback) == 3


async def test_feedback_on_a_run_that_is_not_ingested_yet_asks_for_a_retry_after_one_request(attempt, langsmith):
    langsmith.faults.add(status=404, path="/feedback")
    with pytest.raises(Retry, match="does not have the run yet"):
        await attempt(Annotate(), {"feedback": FEEDBACK})
    assert len(langsmith.requests) == 1


async def test_puts_the_run_into_a_queue_by_name(attempt, langsmith):
    queue = langsmith.add_queue("needs-review")
    assert await attempt(Annotate(), {"queue": "needs-review"}) == {"run_id": RUN_ID, "queue_id": queue}
    request = langsmith.requests[-1]
    assert request.query["extend_trace_retention"] == "false"
    (item,) = request.body["items"]
    assert item == {
        "item_type": "RUN",
        "run_id": RUN_ID,
        "session_id": PROJECT_ID,
        "start_time": "2023-05-05T05:13:24.571809+00:00",
    }


async def test_retention_is_extended_when_asked_for(attempt, langsmith):
    queue = langsmith.add_queue("q")
    await attempt(Annotate(), {"queue": queue, "feedback": {"key": "k"}, "extend_trace_retention": True})
    feedback, item = langsmith.requests
    assert feedback.body["extend_trace_retention"] is True
    assert item.query["extend_trace_retention"] == "true"


@pytest.mark.parametrize("conflict", [True, False])
async def test_a_run_may_be_queued_again(attempt, langsmith, conflict):
    langsmith.state.queue_conflict = conflict
    langsmith.add_queue("q")
    await attempt(Annotate(), {"queue": "q"})
    assert (await attempt(Annotate(), {"queue": "q"}))["run_id"] == RUN_ID


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_an_older_backend_gets_the_older_call_and_is_not_asked_twice(attempt, langsmith):
    langsmith.add_queue("q")
    fault = langsmith.faults.add(status=404, path="/platform/annotation-queues", times=None)
    await attempt(Annotate(), {"queue": "q"})
    await attempt(Annotate(), {"queue": "q"})
    assert fault.seen == 1
    assert langsmith.requests[-1].path.endswith("/runs")
    assert [item["run_id"] for item in langsmith.queue_items][:1] == [RUN_ID]


async def test_a_missing_queue_is_dead_with_advice_but_the_feedback_is_given(attempt, langsmith):
    with pytest.raises(Discard, match="no annotation queue 'nope': make it in LangSmith"):
        await attempt(Annotate(), {"queue": "nope", "feedback": FEEDBACK})
    assert len(langsmith.feedback) == 1


async def test_feedback_that_has_to_wait_does_not_keep_the_run_out_of_the_queue(attempt, langsmith):
    langsmith.add_queue("q")
    langsmith.faults.add(status=404, path="/feedback")
    with pytest.raises(Retry):
        await attempt(Annotate(), {"queue": "q", "feedback": FEEDBACK})
    assert len(langsmith.queue_items) == 1


async def test_feedback_that_has_to_wait_counts_before_a_queue_that_is_missing(attempt, langsmith):
    langsmith.faults.add(status=404, path="/feedback")
    with pytest.raises(Retry):
        await attempt(Annotate(), {"queue": "nope", "feedback": FEEDBACK})


@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_a_queue_made_anew_under_its_name_is_found_by_the_next_attempt(attempt, langsmith):
    old = langsmith.add_queue("q")
    await attempt(Annotate(), {"queue": "q"})
    del langsmith.queues[old]
    new = langsmith.add_queue("q")
    with pytest.raises(Retry):
        await attempt(Annotate(), {"queue": "q"})
    assert (await attempt(Annotate(), {"queue": "q"}, attempt=2))["queue_id"] == new


async def test_an_event_without_a_run_is_dead(attempt):
    with pytest.raises(Discard, match="needs a run"):
        await attempt(Annotate(), {"feedback": FEEDBACK}, run=None)


async def test_a_run_whose_id_is_no_uuid_is_dead(attempt, langsmith):
    with pytest.raises(Discard, match="'7' is not a LangSmith id"):
        await attempt(Annotate(), {"feedback": FEEDBACK}, run=RUN | {"id": "7"})
    assert not langsmith.requests


async def test_a_key_that_lacks_its_workspace_says_so(make_context):
    async with LangSmithStandIn(org_scoped=True) as langsmith:
        door = LangSmith(LangSmithSettings(api_key="k", endpoint=langsmith.url))
        with pytest.raises(LangSmithFailure, match=r"set langsmith\.workspace_id"):
            await Annotate().run(Annotate.Params.model_validate({"feedback": FEEDBACK}), make_context(langsmith=door))
        await door.aclose()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "needs queue or feedback"),
        ({"feedback": {"key": "k" * 181}}, "at most 180 characters"),
        ({"feedback": {"key": "k", "score": float("nan")}}, "finite number"),
        ({"feedback": {"key": "k", "note": "x"}}, "Extra inputs are not permitted"),
        ({"queue": ""}, "at least 1 character"),
    ],
)
def test_what_langsmith_would_refuse_is_refused_at_load(params, words):
    with pytest.raises(ValidationError, match=words):
        Annotate.Params.model_validate(params, strict=True)
