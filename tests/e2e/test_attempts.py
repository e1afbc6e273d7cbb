"""What happens when a destination, or LangSmith, does not answer as it should."""

from __future__ import annotations

import json

import pytest
from harness import CLIENTS, until

from engine.store.queries import DeliveryQuery, EventQuery
from engine.testing import payloads

FORWARD = """
defaults: {timeout: 2s, retry: {attempts: 4, within: 1h, min: 50ms, max: 200ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{forward_webhook: {url: "${SINK}"}}]
"""


async def test_a_server_error_is_tried_again_under_the_same_id_until_it_works(engine, sink) -> None:
    await engine.start(FORWARD)
    sink.answer_with(503, 500)
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("succeeded", 3)
    assert len({one.headers["webhook-id"] for one in sink.received}) == 1
    detail = await engine.running.store.delivery(row.id)
    assert [(one.outcome, one.status) for one in detail.attempts[:2]] == [("again", 503), ("again", 500)]


async def test_a_refusal_is_dead_at_once_and_a_replay_makes_it_work(engine, sink) -> None:
    await engine.start(FORWARD)
    sink.answer_with(422, body="no such customer")
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("dead", 1)
    assert "422" in row.reason
    assert "no such customer" in row.reason
    ids = await engine.running.store.replay_deliveries(DeliveryQuery(ids=[row.id]), now=0.0)
    assert list(ids) == [row.id]
    engine.running.worker.wake()

    async def succeeded():
        (now,) = await engine.deliveries()
        return now.state == "succeeded" and now

    replayed = await until(succeeded)
    assert replayed.replays == 1
    assert len({one.headers["webhook-id"] for one in sink.received}) == 1


async def test_attempts_are_bounded_and_the_last_reason_is_kept(engine, sink) -> None:
    await engine.start(FORWARD)
    sink.faults.add(status=502, times=None)
    await engine.post(payloads.rule())
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("dead", 4)
    assert "502" in row.reason


async def test_retry_langsmith_tries_three_times_on_a_5xx_and_never_after_a_4xx(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{forward_webhook: {url: "${SINK}"}, retry: langsmith}]
    """)
    sink.answer_with(500, 500, 500, 429)
    await engine.post(payloads.rule([payloads.run(0)]))
    (first,) = await engine.settled(1, seconds=20)
    assert (first.state, first.attempts) == ("dead", 3)
    second = await engine.post(payloads.rule([payloads.run(1)]))
    (row,) = await engine.settled(1, event_id=second["event"])
    assert (row.state, row.attempts) == ("dead", 1)


async def test_under_retry_langsmith_data_that_is_wanting_is_still_asked_for_again(engine, langsmith, sink) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="correctness", correction="bug")
    langsmith.faults.add(status=403, times=1, path="/feedback", method="GET")
    await engine.start(
        CLIENTS
        + """
defaults: {retry: langsmith}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters: [{path: "$.feedback.correctness.correction", eq: bug}]
    actions: [{forward_webhook: {url: "${SINK}"}}]
"""
    )
    await engine.post(payloads.rule([run]))
    await engine.settled(1)
    assert len(sink.received) == 1


async def test_feedback_that_cannot_be_fetched_delays_only_the_route_that_reads_it(engine, langsmith, sink) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="correctness", correction="bug")
    langsmith.faults.add(status=503, times=2, path="/feedback", method="GET")
    await engine.start(
        CLIENTS
        + """
defaults: {retry: {attempts: 5, within: 1h, min: 300ms, max: 500ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    - name: corrected
      filters: [{path: "$.feedback.correctness.correction", eq: bug}]
      actions: [{forward_webhook: {url: "${SINK}?corrected"}}]
    - name: any
      actions: [{forward_webhook: {url: "${SINK}?any"}}]
"""
    )
    await engine.post(payloads.rule([run]))
    await until(lambda: sink.received)
    assert ["any" in one.query for one in sink.received] == [True]
    await engine.settled(2)
    assert ["corrected" in one.query for one in sink.received] == [False, True]
    (event,) = await engine.running.store.events(EventQuery())
    assert (event.matched, event.state) == (1, "routed")  # one run, by two routes


async def test_an_evaluation_that_never_gets_its_data_is_dead_and_can_be_replayed(engine, langsmith, sink) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="correctness", correction="bug")
    langsmith.faults.add(status=503, times=None, path="/feedback", method="GET")
    await engine.start(
        CLIENTS
        + """
defaults: {retry: {attempts: 2, within: 1h, min: 50ms, max: 100ms}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    filters: [{path: "$.feedback.correctness.correction", eq: bug}]
    actions: [{forward_webhook: {url: "${SINK}"}}]
  unmatched: {actions: [{forward_webhook: {url: "${SINK}?unmatched"}}]}
"""
    )
    event = (await engine.post(payloads.rule([run])))["event"]

    async def dead():
        (row,) = await engine.running.store.events(EventQuery())
        return row.state == "dead"

    await until(dead)
    assert sink.received == []
    langsmith.faults.clear()
    assert list(await engine.running.store.replay_events([event], now=0.0)) == [event]
    engine.running.worker.wake()
    await engine.settled(1)
    assert ["unmatched" in one.query for one in sink.received] == [False]


async def test_an_unmatched_route_still_knows_why_when_it_tries_again(engine, sink) -> None:
    await engine.start("""
        defaults: {retry: {min: 50ms, max: 50ms}}
        routes:
          unmatched: {actions: [{forward_webhook: {url: "${SINK}", body: "{{ event.unmatched_reason }}"}}]}
    """)
    sink.answer_with(503)
    await engine.post(payloads.rule())
    await engine.settled(1)
    assert [one.raw for one in sink.received] == [b"unknown_rule", b"unknown_rule"]


async def test_a_delivery_whose_route_is_gone_waits_for_it(engine, sink) -> None:
    await engine.start(FORWARD)
    sink.faults.add(status=503, times=1, retry_after=1)
    await engine.post(payloads.rule())
    await until(lambda: sink.received)
    engine.write('routes: {"*": {filters: [{path: "$.nothing", exists: true}], actions: [{log: {message: x}}]}}')
    await engine.running.reloader.reload()

    async def waiting():
        (row,) = await engine.deliveries()
        return row.reason.endswith("is no longer in the configuration; waits until it is there again")

    await until(waiting)
    engine.write(FORWARD)
    await engine.running.reloader.reload()
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"


async def test_a_secret_that_an_answer_quotes_across_a_cut_is_masked(engine, sink) -> None:
    token = "tok_5up3rS3cr3tV4lu3ThatNobodyMaySee0000"
    engine.environ["TOKEN"] = token
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{forward_webhook: {url: "${SINK}", headers: {X-Token: "${TOKEN}"}}}]
    """)
    sink.answer_with(400, body="e" * (201 - len(token)) + token + " is no key")
    await engine.post(payloads.rule([payloads.run(0)]))
    (refused,) = await engine.settled(1)
    assert refused.reason.endswith("eee***…")
    sink.answer_with(200, body="e" * (2049 - len(token)) + token)  # an echo
    second = await engine.post(payloads.rule([payloads.run(1)]))
    (row,) = await engine.settled(1, event_id=second["event"])
    detail = await engine.running.store.delivery(row.id)
    assert detail.attempts[0].detail["response"].endswith("eee***…")


NOTIFY = """
defaults: {timeout: 5s, retry: {attempts: 2, within: 1h, min: 1s, max: 1s}}
routes:
  d75d7417-0c57-4655-88fe-1db3cda3a47a:
    actions: [{notify: {urls: ["${GOOD}", "${BAD}"], body: "{{ run.name }} failed"}}]
"""


async def test_what_notify_reached_is_not_notified_again_by_a_retry_after_a_restart_or_a_replay(engine, sink) -> None:
    places = {name: sink.origin.replace("http", "json") + f"/{name.lower()}" for name in ("GOOD", "BAD")}
    engine.environ |= places
    sink.faults.add(status=500, path="/bad", times=None)
    await engine.start(NOTIFY)
    await engine.post(payloads.rule([payloads.run(0)]))

    async def failed_once():
        (row,) = await engine.deliveries() or [None]
        return row if row is not None and row.attempts == 1 else None

    row = await until(failed_once)
    await engine.stop()
    await engine.start()
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts) == ("dead", 2)
    assert sorted(request.path for request in sink.received) == ["/bad", "/bad", "/good"]
    detail = await engine.running.store.delivery(row.id)
    assert [len(one.detail["notified"]) for one in detail.attempts] == [1, 1]

    sink.faults.clear()
    sink.received.clear()
    await engine.running.store.replay_deliveries(DeliveryQuery(ids=[row.id]), now=0.0)
    engine.running.worker.wake()
    await until(lambda: sink.received)
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"
    assert [request.path for request in sink.received] == ["/bad"]

    sink.received.clear()
    await engine.running.store.replay_deliveries(DeliveryQuery(ids=[row.id]), now=0.0)
    engine.running.worker.wake()
    await until(lambda: len(sink.received) == 2)
    await engine.settled(1)
    assert {request.path for request in sink.received} == {"/good", "/bad"}, "what succeeded is replayed whole"


@pytest.mark.parametrize("padding", [0, 300_000], ids=["small", "large"])
async def test_whole_numbers_of_any_size_are_forwarded_as_they_came(engine, sink, padding) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions:
              - forward_webhook: {url: "${SINK}"}
              - name: together
                forward_webhook: {url: "${SINK}/digest"}
                digest: {every: 1s}
    """)
    large = [2**63 - 1, 2**64 - 1, 2**64, -(2**63) - 1, 123456789012345678901234567890, 10**300]
    runs = [payloads.run(number) | {"extra": {"metadata": {"n": large[number:]}}} for number in range(2)]
    await engine.post({**payloads.rule(runs), "sequence": 10**25, "ratio": 0.5, "pad": "x" * padding})
    await engine.settled(3)
    bodies = [json.loads(one.raw) for one in sink.received if one.path == "/hook"]
    (digest,) = [json.loads(one.raw) for one in sink.received if one.path == "/hook/digest"]
    for found in (bodies, digest["items"]):
        told = sorted((one["runs"][0]["extra"]["metadata"]["n"] for one in found), key=len, reverse=True)
        assert told == [large, large[1:]]
        assert all(type(number) is int for numbers in told for number in numbers)
        assert [(one["sequence"], one["ratio"]) for one in found] == [(10**25, 0.5)] * 2


async def test_a_list_of_objects_made_of_items_or_runs_arrives_as_json(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            - name: collected
              actions:
                - forward_webhook:
                    url: "${SINK}/digest"
                    body: {runs: "{{ items | pick(title='run.name', user='run.extra.metadata.user?', n='run.n') }}"}
                  digest: {every: 1s}
            - name: together
              for_each: event
              actions: [{forward_webhook: {url: "${SINK}/runs", body: "{{ runs | pick('name', 'n') }}"}}]
    """)
    runs = [payloads.run(number) | {"name": f"run {number}", "n": number, "extra": {}} for number in range(2)]
    runs[1]["extra"] = {"metadata": {"user": "ann"}}
    await engine.post(payloads.rule(runs))
    await engine.settled(2)
    bodies = {one.path: (one.headers["Content-Type"], one.body) for one in sink.received}
    titled = [{"title": "run 0", "user": None, "n": 0}, {"title": "run 1", "user": "ann", "n": 1}]
    assert bodies["/hook/digest"] == ("application/json", {"runs": titled})
    assert bodies["/hook/runs"] == ("application/json", [{"name": "run 0", "n": 0}, {"name": "run 1", "n": 1}])


async def test_what_notify_reached_is_known_after_a_stop_in_the_middle_of_the_attempt(engine, sink) -> None:
    places = {name: sink.origin.replace("http", "json") + f"/{name.lower()}" for name in ("GOOD", "BAD")}
    engine.environ |= places
    hanging = sink.faults.add(hang=3, path="/bad", times=1)
    await engine.start(NOTIFY, grace=1.0)
    await engine.post(payloads.rule([payloads.run(0)]))
    await until(lambda: hanging.seen and "/good" in [request.path for request in sink.received])
    await engine.stop()
    sink.received.clear()
    await engine.start()
    (row,) = await engine.settled(1)
    assert row.state == "succeeded"
    assert [request.path for request in sink.received] == ["/bad"]
    detail = await engine.running.store.delivery(row.id)
    told = [(one.outcome, one.number, one.reason) for one in detail.attempts]
    assert told == [("again", 1, "the engine stopped during the attempt"), ("succeeded", 1, "")]
