"""What a route sees: the payload narrowed to one run, the engine's words, and data that is missing."""

from __future__ import annotations

import copy

import orjson
import pytest

from engine.core.document import (
    Fetched,
    Missing,
    build_document,
    digest_document,
    is_too_large,
    newest_by_key,
    run_indexes,
)
from engine.core.errors import DataMissing, DataTooLarge, NotNow
from engine.core.event import parse_event
from engine.rules.route import WaitFor
from engine.testing import payloads

WEB_URL = "https://smith.example.com/"
RUN = {
    "id": "r1",
    "name": "Search",
    "status": "success",
    "start_time": "2024-04-05T01:28:54.000000",
    "end_time": "2024-04-05T01:28:56.500000",
    "total_cost": "0.0125",
    "app_path": "/o/1/r/r1?trace_id=t",
    "inputs": {"q": 1},
    "outputs": None,
    "inputs_s3_urls": None,
    "feedback_stats": None,
}
STORED = {"ROOT": {"presigned_url": "https://bucket.example.com/object?X-Amz-Signature=s"}}


def event_of(**payload):
    return parse_event(
        orjson.dumps({"rule_id": "rule", "start_time": "a", "end_time": "b", **payload}), 1_700_000_000.5
    )


def document_of(payload=None, index=0, fetched=None, web_url=WEB_URL, **run):
    event = event_of(**(payload if payload is not None else {"runs": [{**RUN, **run}]}))
    return build_document(
        event,
        index,
        Fetched(feedback={"r1": []}) if fetched is None else fetched,
        web_url=web_url,
        vars={"channel": "#x"},
    )


def run_of(**changes):
    return document_of(**changes)["run"]


# Shape


@pytest.mark.parametrize(
    ("payload", "indexes"),
    [
        ({"runs": [RUN, RUN]}, [0, 1]),
        ({"runs": [None, 3]}, [0, 1]),
        ({"runs": []}, [-1]),
        ({"runs": None}, [-1]),
        ({"runs": {"id": "a"}}, [-1]),
        ({"threads": [{}]}, [-1]),
        ({}, [-1]),
    ],
)
def test_an_event_is_evaluated_once_a_run_or_once(payload, indexes):
    assert run_indexes(event_of(**payload)) == indexes


def test_the_payload_has_one_run_and_the_variables_are_beside_it():
    runs = [{**RUN, "id": "r0"}, RUN]
    document = document_of({"runs": runs, "feedback_stats": {"k": {"n": 1}}, "extra_key": [1]}, index=1)
    assert document["runs"] == [RUN]
    assert document["payload"]["runs"] == [RUN]
    assert document["rule_id"] == "rule"
    assert document["extra_key"] == [1]
    assert document["run"] == {
        **RUN,
        "url": "https://smith.example.com/o/1/r/r1?trace_id=t",
        "latency": 2.5,
        "cost": 0.0125,
    }
    assert document["event"].keys() == {"id", "kind", "received_at"}
    assert document["event"]["kind"] == "rule"
    assert document["event"]["received_at"] == "2023-11-14T22:13:20.500000+00:00"
    assert document["vars"] == {"channel": "#x"}


def test_the_engines_names_win_and_the_payloads_own_stay_under_payload():
    document = document_of({"prompt_id": "p", "event": "commit", "run": "theirs", "vars": 1}, index=-1)
    assert document["event"]["kind"] == "prompt"
    assert document["payload"]["event"] == "commit"
    assert (document["run"], document["payload"]["run"]) == (None, "theirs")
    assert (document["vars"], document["payload"]["vars"]) == ({"channel": "#x"}, 1)


def test_the_whole_event_has_all_runs_and_no_run():
    document = document_of({"runs": [RUN, {**RUN, "id": "r2"}]}, index=-1, fetched=Fetched())
    assert [run["id"] for run in document["runs"]] == ["r1", "r2"]
    assert document["run"] is None


@pytest.mark.parametrize("element", [None, 3, "run", [1]])
def test_an_element_that_is_no_object_is_seen_as_it_is(element):
    document = document_of({"runs": [element]})
    assert (document["run"], document["runs"]) == (None, [element])
    assert (document["feedback"], document["feedbacks"]) == ({}, [])


def test_building_documents_leaves_the_event_as_it_was():
    event = event_of(runs=[{**RUN, "inputs": None, "inputs_s3_urls": STORED}])
    before = copy.deepcopy(event.payload)
    build_document(event, 0, Fetched({"r1": 1}), web_url=WEB_URL, vars={})
    build_document(event, -1, Fetched(), web_url=WEB_URL, vars={})
    assert event.payload == before


# commit


def test_the_commit_of_a_context_hub_webhook_is_a_word_of_its_own():
    payload = payloads.context_hub_commit()
    document = document_of(payload, -1)
    assert document["commit"] == document["payload"]["data"]["commit"] == payload["data"]["commit"]
    assert digest_document([document], [0.0])["items"][0]["commit"]["repo_handle"] == "triage-agent"


@pytest.mark.parametrize("data", [None, 5, {}, {"commit": None}, {"commit": "abc"}])
def test_a_context_hub_webhook_without_a_commit_has_no_such_word(data):
    assert "commit" not in document_of(payloads.context_hub_commit(data=data), -1)


def test_other_webhooks_keep_a_key_of_that_name():
    assert document_of({"alert_rule_id": "a", "commit": "mine"}, -1)["commit"] == "mine"
    assert "commit" not in document_of(payloads.issue(data={"commit": {"repo_handle": "x"}}), -1)


# url, latency, cost


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://smith.example.com/o/1/r/r1?trace_id=t"),
        ({"web_url": None}, None),
        ({"app_path": None}, None),
        ({"app_path": 7}, None),
        ({"app_path": "not/a/path"}, None),
        ({"app_path": "https://smith.example.com/r/1"}, "https://smith.example.com/r/1"),
        ({"url": "https://smith.example.com/r1"}, "https://smith.example.com/r1"),
        ({"url": "https://SMITH.example.com:443/r1"}, "https://SMITH.example.com:443/r1"),
        ({"trace_url": "https://smith.example.com/t1"}, "https://smith.example.com/t1"),
        ({"link": "http://localhost:1984/r1", "web_url": "http://localhost:1984"}, "http://localhost:1984/r1"),
        ({"url": "http://smith.example.com/r1"}, "http://smith.example.com/r1"),
        ({"run_page_url": "https://smith.example.com/r/r1"}, "https://smith.example.com/r/r1"),
        ({"permalink": "https://smith.example.com/?trace=t9", "trace_id": "t9"}, "https://smith.example.com/?trace=t9"),
    ],
)
def test_run_url(changes, url):
    assert run_of(**changes)["url"] == url


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "javascript:alert(1)"},
        {"url": "https://evil.example/r1"},
        {"url": "https://smith.example.com.evil.example/r1"},
        {"url": "https://smith.example.com@evil.example/r1"},
        {"url": "https://user:password@smith.example.com/r1"},
        {"url": "https://evil.example\\@smith.example.com/r1"},
        {"url": "https://smith.example.com:8443/r1"},
        {"url": "https://smith.example.com:x/r1"},
        {"url": "https://[smith.example.com/r1"},
        {"url": "//smith.example.com/r1"},
        {"url": "ftp://smith.example.com/r1"},
        {"url": "https://smith.example.com/r1\n<!channel>"},
        {"url": "https://smith.example.com/r1|click"},
        {"url": "https://smith.example.com/r1\u202e"},
        {"url": " https://smith.example.com/r1"},
        {"url": ["https://smith.example.com/r1"]},
        {"help_url": "https://smith.example.com/help"},
        {"note": "https://smith.example.com/r/r1"},
        {"share_url": "https://smith.example.com/public/token/r/r1"},
        {"s3_url": "https://bucket.example.com/r1"},
        {"more_urls": {"a": "https://smith.example.com/r/r1"}},
    ],
)
def test_a_link_that_does_not_lead_to_the_run_in_langsmith_is_not_used(changes):
    assert run_of(**changes)["url"] == "https://smith.example.com/o/1/r/r1?trace_id=t"
    if "url" in changes:  # and not where the address cannot be made, either
        assert run_of(**changes, app_path=None)["url"] is None
        assert run_of(**changes, app_path=None, web_url=None)["url"] is None


@pytest.mark.parametrize(
    ("start", "end", "latency"),
    [
        ("2024-04-05T01:28:54.085646", "2024-04-05T01:28:54.085649", 0.000003),
        ("2024-04-05T01:28:54", "2024-04-05T01:28:55Z", 1.0),
        ("2024-04-05T03:28:54+02:00", "2024-04-05T01:28:55", 1.0),
        ("2024-04-05 01:28:54", "2024-04-05T01:28:54.123456789Z", 0.123456),
        ("2024-04-05T01:28:54", None, None),
        (None, "2024-04-05T01:28:54", None),
        ("yesterday", "2024-04-05T01:28:54", None),
        (17, 18, None),
    ],
)
def test_run_latency_in_seconds_where_both_times_are_known(start, end, latency):
    assert run_of(start_time=start, end_time=end)["latency"] == latency


@pytest.mark.parametrize(
    ("total_cost", "cost"),
    [
        ("0.0125", 0.0125),
        ("1E-7", 1e-7),
        (0.5, 0.5),
        (0, 0.0),
        *((value, None) for value in (None, "", "free", "NaN", "inf", True, [1])),
    ],
)
def test_run_cost_is_a_number_or_null(total_cost, cost):
    assert run_of(total_cost=total_cost)["cost"] == cost


# feedback_stats


@pytest.mark.parametrize(
    ("own", "batch", "seen"),
    [
        ({"k": 1}, {"k": 2, "l": 3}, {"k": 1}),
        ({}, {"k": 2}, {}),
        (None, {"k": 2}, {"k": 2}),
        (None, None, None),
    ],
)
def test_feedback_stats_are_the_runs_own_or_the_payloads_whole_and_never_invented(own, batch, seen):
    document = document_of({"runs": [{**RUN, "feedback_stats": own}], "feedback_stats": batch})
    assert document["feedback_stats"] == seen
    assert document["payload"]["feedback_stats"] == batch
    assert document["runs"][0]["feedback_stats"] == own


def test_the_whole_event_has_the_payloads_feedback_stats():
    document = document_of({"runs": [{**RUN, "feedback_stats": {"k": 1}}], "feedback_stats": {"k": 2}}, index=-1)
    assert document["feedback_stats"] == {"k": 2}


# What was not sent along


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_a_stored_part_is_missing_until_it_is_fetched(part):
    stored = {part: None, f"{part}_s3_urls": STORED}
    document = document_of(**stored)
    for holder in (document["run"], document["runs"][0], document["payload"]["runs"][0]):
        assert isinstance(holder[part], Missing)
        assert holder[part].need == part
    with pytest.raises(DataMissing, match=f"{part}: the webhook does not contain it"):
        document["run"][part]["x"]
    fetched = document_of(**stored, fetched=Fetched(**{part: {"r1": {"x": 1}}}))
    assert fetched["run"][part] == fetched["runs"][0][part] == {"x": 1}


def test_a_stored_part_of_a_run_without_id_goes_by_its_place():
    run = {**RUN, "id": None, "inputs": None, "inputs_s3_urls": STORED}
    assert document_of({"runs": [3, run]}, index=1, fetched=Fetched({"#1": "got"}))["run"]["inputs"] == "got"


@pytest.mark.parametrize(
    "urls", [None, {}, {"ROOT": None}, {"ROOT": {}}, {"ROOT": {"presigned_url": None}}, {"ROOT": "x"}, "x", [1]]
)
def test_null_without_a_link_is_just_null(urls):
    assert run_of(inputs=None, inputs_s3_urls=urls)["inputs"] is None


def test_what_was_sent_along_counts_even_where_there_is_a_link():
    assert run_of(inputs={"sent": 1}, inputs_s3_urls=STORED, fetched=Fetched({"r1": 2}))["inputs"] == {"sent": 1}


def test_a_missing_part_says_why_it_could_not_be_had():
    fetched = Fetched(errors={"outputs": "HTTP 403"})
    with pytest.raises(DataMissing, match="outputs: HTTP 403"):
        str(run_of(outputs_s3_urls=STORED, fetched=fetched)["outputs"])


# feedback


def row(key, score, modified_at, **more):
    return {"key": key, "score": score, "modified_at": modified_at, "run_id": "r1", **more}


def test_feedback_is_missing_until_it_is_fetched():
    document = document_of(fetched=Fetched(errors={"feedback": "no key"}))
    for word in ("feedback", "feedbacks"):
        with pytest.raises(DataMissing, match="feedback: no key"):
            len(document[word])


def test_feedback_of_another_run_only_does_not_count_as_fetched():
    assert isinstance(document_of(fetched=Fetched(feedback={"r9": []}))["feedback"], Missing)


@pytest.mark.parametrize("payload", [{}, {"runs": [{"name": "no id"}]}, {"threads": [{"id": "t"}]}])
def test_an_event_without_run_ids_has_no_feedback(payload):
    document = document_of(payload, index=run_indexes(event_of(**payload))[0], fetched=Fetched())
    assert (document["feedback"], document["feedbacks"]) == ({}, [])


def test_feedback_by_key_is_the_newest_and_feedbacks_are_all():
    rows = [
        row("score", 3, "2024-01-03T00:00:00Z"),
        row("score", 1, "2024-01-01T00:00:00Z"),
        row("score", 2, "2024-01-03T01:00:00+02:00"),
        row("note", 9, None, created_at="2024-01-02T00:00:00Z"),
        row("note", 8, None),
        row(None, 7, "2024-01-02T00:00:00Z"),
    ]
    document = document_of(fetched=Fetched(feedback={"r1": rows, "r2": [row("other", 0, None)]}))
    assert {key: found["score"] for key, found in document["feedback"].items()} == {"score": 3, "note": 9}
    assert document["feedbacks"] == rows


def test_of_equally_new_feedback_the_later_row_counts():
    assert newest_by_key([row("k", 1, "2024-01-01"), row("k", 2, "2024-01-01T00:00:00Z")])["k"]["score"] == 2


def test_the_whole_event_has_the_feedback_of_all_runs():
    runs = [RUN, {**RUN, "id": "r2"}, 3, {"name": "no id"}]
    both = Fetched(feedback={"r1": [row("a", 1, None)], "r2": [row("b", 2, None)]})
    assert document_of({"runs": runs}, index=-1, fetched=both)["feedback"].keys() == {"a", "b"}
    assert isinstance(document_of({"runs": runs}, index=-1)["feedback"], Missing)


@pytest.mark.parametrize("error", [{"error": True}, {"extra": {"error": "why"}}, {"extra": {"error": {"code": 1}}}])
def test_feedback_that_is_an_error_judges_nothing(error):
    failed = row("score", None, "2024-01-03") | error
    rows = [row("score", 0.25, "2024-01-02"), failed, row("note", None, None) | error]
    document = document_of(fetched=Fetched(feedback={"r1": rows}))
    assert {key: found["score"] for key, found in document["feedback"].items()} == {"score": 0.25}
    assert document["feedbacks"] == rows, "they can still be asked about"
    assert WaitFor(("score", "note"), 60.0).missing(document) == ("note",)


# Fetched


def test_what_was_fetched_survives_the_store():
    fetched = Fetched({"r1": {"a": 1}}, {"r1": None}, {"r1": [row("k", 1, None)]}, {"inputs": "not stored"})
    stored = orjson.loads(orjson.dumps(fetched.to_json()))
    assert Fetched.from_json(stored) == Fetched(fetched.inputs, fetched.outputs, fetched.feedback)
    assert Fetched.from_json(None) == Fetched.from_json({}) == Fetched()
    assert Fetched.from_json(orjson.loads(orjson.dumps(Fetched().to_json()))).feedback is None


def test_merging_keeps_both_and_drops_an_error_once_its_need_came():
    first = Fetched({"r1": 1}, {}, None, {"outputs": "503", "feedback": "503"})
    merged = first.merge(Fetched({"r2": 2}, {"r1": 3}, None, {"inputs": "404"}))
    assert merged == Fetched({"r1": 1, "r2": 2}, {"r1": 3}, None, {"feedback": "503", "inputs": "404"})
    assert merged.merge(Fetched(feedback={"r1": []})).errors == {"inputs": "404"}


def test_all_documents_of_an_event_share_its_word():
    event = event_of(runs=[RUN, {**RUN, "id": "r2"}])
    words = [build_document(event, index, Fetched(), web_url=WEB_URL, vars={})["event"] for index in (0, 1, -1)]
    assert words[0] == {"id": event.id, "kind": "rule", "received_at": "2023-11-14T22:13:20.500000+00:00"}
    assert all(word is words[0] for word in words)


def test_a_row_without_a_time_gives_way_to_any_and_of_equals_the_later_counts():
    rows = [{"key": "k", "modified_at": None, "n": 1}, {"key": "k", "n": 2}]
    assert newest_by_key(rows)["k"]["n"] == 2
    assert newest_by_key([{"key": "k", "created_at": "2024-01-01", "n": 0}, *rows])["k"]["n"] == 0


def test_beyond_what_is_known_is_what_is_new_or_another():
    shared = {"a": 1}
    known = Fetched({"r1": shared, "r2": 2}, {"r1": None}, {"r1": [1]}, {"outputs": "why"})
    more = Fetched({"r1": shared, "r2": 3}, {"r1": None, "r2": None}, {"r1": [1], "r2": []}, {"inputs": "why"})
    assert more.beyond(known) == Fetched({"r2": 3}, {"r2": None}, {"r2": []})
    assert more.beyond(Fetched()) == Fetched(more.inputs, more.outputs, more.feedback)
    assert (known.beyond(known), known.beyond(known).is_empty) == (Fetched(), True)
    assert not any(one.is_empty for one in (Fetched({"a": 1}), Fetched({}, {"a": None}), Fetched(feedback={"a": []})))


def test_merging_keeps_what_is_lost_and_drops_later_once_its_need_came():
    soon, then = NotNow("soon", until=10.0), NotNow("then", until=20.0, blocked=True)
    old = Fetched(
        errors={"inputs": "a", "outputs": "b"},
        too_large={("inputs", "r1"): "large"},
        later={"inputs": soon, "outputs": then},
    )
    assert (old.later_for({"inputs"}), old.later_for({"inputs", "outputs"}), old.later_for(())) == (soon, then, None)
    came = old.merge(Fetched({"r2": 1}))
    assert (came.errors, came.too_large, came.later) == (
        {"outputs": "b"},
        {("inputs", "r1"): "large"},
        {"outputs": then},
    )
    failed = old.merge(Fetched(errors={"outputs": "c"}))
    assert (failed.errors, failed.later) == ({"inputs": "a", "outputs": "c"}, {"inputs": soon}), (
        "it failed for real now"
    )


def test_data_is_lost_for_good_where_all_that_is_missing_is_too_large():
    runs = [{"id": "r1", "inputs_s3_urls": STORED, "outputs_s3_urls": STORED}, {"id": "r2", "inputs_s3_urls": STORED}]
    lost = {("inputs", "r1"): "large", ("inputs", "r2"): "large"}
    document = document_of({"runs": runs}, index=-1, fetched=Fetched(too_large=lost))
    assert is_too_large(document, {"inputs"})
    assert not is_too_large(document, {"inputs", "outputs"}), "the outputs may come"
    assert not is_too_large(document, {"inputs", "feedback"})
    assert not is_too_large(document, ())
    assert not is_too_large(document_of({"runs": runs[:1]}, fetched=Fetched({"r1": 1})), {"inputs"})
    with pytest.raises(DataTooLarge, match="inputs: large"):
        str(document["runs"][0]["inputs"])
