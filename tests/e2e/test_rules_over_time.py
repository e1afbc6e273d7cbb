"""Throttle, digest, hours, mutes, feedback that is waited for and on_dead, through the whole engine.

Most of them are stopped or killed in the middle: all that they hold back are rows, so nothing may be forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from harness import CLIENTS, SECRET, until
from processes import Serve

from engine.core.errors import StoreBusy
from engine.rules.router import Router
from engine.testing import payloads
from engine.testing.payloads import RULE_ID

ALL_DUE = "UPDATE work SET due_at = 0 WHERE owner IS NULL"
RETRY_AT_ONCE = "defaults: {retry: {attempts: 2, within: 1h, min: 10ms, max: 20ms}}\n"


def routes(text: str, head: str = "") -> str:
    body = "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
    return f"{RETRY_AT_ONCE}{head}routes:\n  {RULE_ID}:\n{body}"


async def restart(engine, text: str | None = None, *, meanwhile: str = "") -> None:
    """Stop and start again. ``meanwhile`` is SQL: what time alone would have brought about."""
    await engine.stop()
    if meanwhile:
        with closing(sqlite3.connect(engine.config.parent / "data" / "engine.db")) as db, db:
            db.execute(meanwhile)
    await engine.start(text)


def which(recorded: Any) -> str:
    """The word that a URL has behind its question mark."""
    return next(iter(recorded.query), "")


async def send(engine, *numbers: int, **run: Any) -> str:
    """One webhook with some runs, told apart from others by its time."""
    runs = [payloads.run(number, **run) for number in numbers]
    start = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(seconds=time.monotonic_ns() % 10**9)
    payload = payloads.rule(runs) | {"start_time": start.isoformat()}
    return (await engine.post(payload))["event"]


async def replay(engine, **what: list[str]) -> None:
    async with engine.http.post(f"http://{engine.running.admin}/api/v1/replay", json=what) as answer:
        assert answer.status == 200, await answer.text()


async def decisions(engine, event_id: str) -> list[dict[str, Any]]:
    async def found() -> list[dict[str, Any]]:
        detail = await engine.running.store.event(event_id)
        return [decision for one in detail.evaluations for decision in one["decisions"]]

    return await until(found)


# --- throttle --------------------------------------------------------------------------------------------------------

THROTTLED = routes("""
actions:
  - forward_webhook:
      url: "${SINK}"
      body: {throttle: "{{ throttle.suppressed }}", since: "{{ throttle.since }}"}
    throttle: {every: EVERY, by: "{{ run.session_id }}"}
""")


async def test_a_throttle_sends_one_and_reports_the_others_with_the_next_after_a_restart(engine, sink) -> None:
    await engine.start(THROTTLED.replace("EVERY", "1h"))
    await send(engine, 0, session_id="a")
    await engine.settled(1)
    held_back = await send(engine, 1, 2, session_id="a")
    await send(engine, 3, session_id="b")
    await engine.settled(2)
    await restart(engine)
    last = await send(engine, 4, session_id="a")
    (decision,) = await decisions(engine, last)
    assert "fires" not in decision or not decision["fires"]
    assert decision["skipped"]["forward_webhook"].startswith("throttled: one was made at")
    assert [d["verdict"] for d in await decisions(engine, held_back)] == ["true", "true"]
    assert [one.body["throttle"] for one in sink.received] == [0, 0]
    # The slot ends: as if an hour had passed. The next one tells of those that were held back.
    await restart(engine, meanwhile="UPDATE window SET closes_at = 0")
    await send(engine, 5, session_id="a")
    await engine.settled(3)
    assert sink.received[-1].body["throttle"] == 3
    assert sink.received[-1].body["since"] is not None


async def test_a_replay_passes_the_same_gates(engine, sink) -> None:
    await engine.start(THROTTLED.replace("EVERY", "1h"))
    made = await send(engine, 0, session_id="a")
    await engine.settled(1)
    held_back = await send(engine, 1, session_id="a")
    await decisions(engine, held_back)
    await replay(engine, events=[made, held_back])
    await until(lambda: len(sink.received) == 2)
    await engine.quiet()
    assert [row.replays for row in await engine.deliveries()] == [1]


async def test_a_throttled_delivery_that_dies_gives_its_slot_back(engine, sink) -> None:
    sink.answer_with(400)
    await engine.start(THROTTLED.replace("EVERY", "1h"))
    await send(engine, 0, session_id="a")
    await engine.settled(1)
    await send(engine, 1, session_id="a")
    rows = await engine.settled(2)
    assert sorted(row.state for row in rows) == ["dead", "succeeded"]


# --- digest ----------------------------------------------------------------------------------------------------------

DIGEST = routes(
    """
actions:
  - post_to_slack:
      channel: "#q"
      text: >-
        {{ digest.count }} of {{ run.name }}:
        {% for item in items %}{{ item.run.extra.n }}<{{ item.run.status }}> {% endfor %}
    digest: {every: 1s, by: "{{ run.name }}"}
""",
    CLIENTS,
)


async def test_a_digest_reports_all_its_items_after_a_kill(engine, slack) -> None:
    """What was collected is kept: the process is killed while it collects, and another one tells."""
    engine.write(DIGEST.replace("every: 1s", "every: 3s"))
    environ = engine.environ
    serve = Serve(engine.config, engine.config.parent / "data", environ)
    await serve.start()
    async with aiohttp.ClientSession() as http:
        for number, name in enumerate(["chat", "chat", "other"]):
            runs = [payloads.run(number, name=name, status="<!here>", extra={"n": number})]
            payload = payloads.to_body(payloads.rule(runs) | {"start_time": f"2026-05-04T00:00:0{number}+00:00"})
            async with http.post(serve.url(SECRET), data=payload) as response:
                assert response.status == 202
    await asyncio.sleep(0.3)
    await serve.kill()
    assert slack.messages == []
    await engine.start()
    rows = await engine.settled(2)
    assert {row.state for row in rows} == {"succeeded"}
    assert sorted(message.text for message in slack.messages) == [
        "1 of other: 2&lt;&lt;!here&gt;&gt; ",
        "2 of chat: 0&lt;&lt;!here&gt;&gt; 1&lt;&lt;!here&gt;&gt; ",
    ]


async def test_a_forwarded_digest_has_all_payloads_and_a_full_one_does_not_wait(engine, sink) -> None:
    await engine.start(
        routes("""
actions:
  - forward_webhook: {url: "${SINK}"}
    digest: {every: 1h, max: 3}
""")
    )
    event = await send(engine, 0, 1)
    await decisions(engine, event)
    assert [row.state for row in await engine.deliveries()] == ["due"]
    await send(engine, 2)
    await engine.settled(1)
    (received,) = sink.received
    assert [item["runs"][0]["id"] for item in received.body["items"]] == [payloads.run(n)["id"] for n in range(3)]
    assert received.body["digest"]["count"] == 3
    assert received.headers["webhook-id"] == (await engine.deliveries())[0].id
    assert {d["collected"]["forward_webhook"] for d in await decisions(engine, event)} == {
        received.headers["webhook-id"]
    }


async def test_the_items_of_a_former_digest_are_reported_one_by_one(engine, sink) -> None:
    text = routes("""
actions:
  - forward_webhook: {url: "${SINK}", body: "{{ run.id }}"}
    digest: {every: 1h}
""")
    await engine.start(text)
    for event in (await send(engine, 0, 1), await send(engine, 2)):
        await decisions(engine, event)
    await restart(engine, text.replace("    digest: {every: 1h}\n", ""), meanwhile=ALL_DUE)
    rows = await engine.settled(3)
    assert {row.state for row in rows} == {"succeeded"}
    assert sorted(one.raw.decode() for one in sink.received) == sorted(payloads.run(n)["id"] for n in range(3))


ORDINARY_NOW = """
actions:
  - forward_webhook: {url: "${SINK}", body: "{{ run.id }}"}
    digest: {every: 1h}
on_dead:
  - log: {message: "{{ delivery.reason }} of {{ run.id }}"}
"""


def ordinary(head: str = "") -> str:
    """Those rules without the digest."""
    return routes(ORDINARY_NOW.replace("    digest: {every: 1h}\n", ""), head)


async def test_the_items_of_a_former_digest_survive_an_unexpected_death(engine, sink, monkeypatch) -> None:
    whole = Router.delivery_document

    def broken(self: Router, route: Any, action: Any, places: Any, words: Any) -> Any:
        if len(places) > 1:
            raise ZeroDivisionError("a bug")
        return whole(self, route, action, places, words)

    await engine.start(routes(ORDINARY_NOW))
    for event in (await send(engine, 0, 1), await send(engine, 2)):
        await decisions(engine, event)
    monkeypatch.setattr(Router, "delivery_document", broken)
    await restart(engine, ordinary(), meanwhile=ALL_DUE)
    rows = {(row.action, row.run_id): row for row in await engine.settled(4)}
    first, *others = (payloads.run(number)["id"] for number in range(3))
    dead, told = rows["forward_webhook", first], rows["on_dead.log", first]
    assert (dead.state, dead.reason, dead.attempts) == ("dead", "ZeroDivisionError: a bug", 2)
    assert told.state == "succeeded"
    assert sorted(one.raw.decode() for one in sink.received) == sorted(others)


async def test_the_items_of_a_former_digest_survive_its_death_at_a_paused_destination(engine, sink) -> None:
    await engine.start(routes(ORDINARY_NOW))
    for event in (await send(engine, 0, 1), await send(engine, 2)):
        await decisions(engine, event)
    engine.write(ordinary())
    await engine.running.reloader.reload()
    sink.faults.add(status=429, retry_after=600)
    await send(engine, 3)
    await until(lambda: _attempted(engine))
    with closing(sqlite3.connect(engine.config.parent / "data" / "engine.db")) as db, db:
        db.execute("UPDATE work SET due_at = 0, first_at = 0 WHERE id IN (SELECT delivery_id FROM digest_item)")
    (told,) = await engine.settled(1, action="on_dead.log")
    rows = {row.run_id: row for row in await engine.deliveries(action="forward_webhook")}
    first, *others = (payloads.run(number)["id"] for number in range(3))
    assert (rows[first].state, told.run_id, told.state) == ("dead", first, "succeeded")
    assert "paused" in rows[first].reason
    assert [(rows[run].state, rows[run].attempts) for run in others] == [("due", 0)] * 2


async def _attempted(engine) -> list[Any]:
    return [row for row in await engine.deliveries() if row.attempts]


async def test_a_digest_fetches_what_is_read_of_each_item(engine, sink, langsmith) -> None:
    for number in range(2):
        langsmith.add_run(payloads.run(number))
        langsmith.add_feedback(payloads.run(number)["id"], key="score", score=number)
    body = "{scores: \"{{ items | map(attribute='feedback.score.score') | list }}\"}"
    await engine.start(
        routes(
            f"""
actions:
  - forward_webhook: {{url: "${{SINK}}", body: {body}}}
    digest: {{every: 1h, max: 2}}
""",
            CLIENTS,
        )
    )
    await send(engine, 0)
    await send(engine, 1)
    await engine.settled(1)
    assert sink.received[0].body == {"scores": [0, 1]}


# --- hours -----------------------------------------------------------------------------------------------------------


def hours(shut: bool) -> str:
    """Hours in which we are not now, or in which we are."""
    now = datetime.now(UTC)
    day = now + timedelta(days=3) if shut else now
    return f"{{days: [{', '.join(f'{(day + timedelta(days=n)):%a}' for n in (-1, 0, 1))}], otherwise: hold}}"


async def test_what_is_held_waits_for_its_hours_over_a_restart(engine, sink) -> None:
    text = routes("""
actions:
  - forward_webhook: {url: "${SINK}"}
    active: HOURS
""")
    await engine.start(text.replace("HOURS", hours(shut=True)))
    event = await send(engine, 0)
    (decision,) = await decisions(engine, event)
    assert decision["notes"]["forward_webhook"].startswith("held until ")
    (row,) = await engine.deliveries()
    assert (row.state, row.attempts, row.reason) == ("due", 0, decision["notes"]["forward_webhook"])
    assert row.due_at > time.time() + 3600
    # What falls due outside its hours, because those changed, is given back unspent.
    await restart(engine, meanwhile=ALL_DUE)
    (row,) = await until(lambda: _held(engine))
    assert (row.state, row.attempts) == ("due", 0)
    await restart(engine, text.replace("HOURS", hours(shut=False)), meanwhile=ALL_DUE)
    (row,) = await engine.settled(1)
    assert (row.state, row.attempts, len(sink.received)) == ("succeeded", 1, 1)


async def _held(engine) -> list[Any]:
    return [row for row in await engine.deliveries() if row.due_at and row.due_at > time.time() + 3600]


# --- mutes -----------------------------------------------------------------------------------------------------------


async def test_a_muted_route_is_silent_over_a_restart_until_it_is_unmuted(engine, sink) -> None:
    await engine.start(
        routes("""
- name: loud
  actions: [{forward_webhook: {url: "${SINK}"}}]
""")
        + """  unmatched:\n    actions: [{forward_webhook: {url: "${SINK}?unmatched"}}]\n"""
    )
    api = f"http://{engine.running.admin}/api/v1/mutes"
    async with engine.http.post(api, json={"route": "loud", "for": "2h", "reason": "too loud", "by": "ann"}) as answer:
        assert answer.status == 200
        assert (await answer.json())["mute"]["route"] == f"{RULE_ID}/loud"
    for again in (False, True):
        if again:
            await restart(engine)
        (decision,) = await decisions(engine, await send(engine, int(again)))
        assert decision["verdict"] == "true"
        assert "by ann: too loud" in decision["reason"]
    await engine.quiet()
    assert sink.received == []
    api = f"http://{engine.running.admin}/api/v1/mutes/loud"
    async with engine.http.delete(api, json={}) as answer:
        assert (await answer.json())["muted"] is True
    await send(engine, 2)
    await engine.settled(1)
    assert len(sink.received) == 1


async def test_a_mute_that_makes_no_sense_is_reported(engine) -> None:
    await engine.start(routes("- name: loud\n  actions: [{log: {message: x}}]"))
    api = f"http://{engine.running.admin}/api/v1/mutes"
    for body, status, words in (
        ({"route": "lout", "for": "2h"}, 404, "did you mean 'loud'?"),
        ({"route": "loud", "for": "soon"}, 400, "is not a duration"),
        ({"for": "2h"}, 400, "which route"),
        ({"route": "loud", "fore": "2h"}, 400, "fore"),
    ):
        async with engine.http.post(api, json=body) as answer:
            assert answer.status == status
            assert words in await answer.text()


# --- feedback that is waited for -------------------------------------------------------------------------------------

WAITING = routes(
    """
- name: scored
  wait_for: {feedback: correctness, up_to: UP_TO}
  filters: [{path: "$.runs[*].status", eq: success}]
  actions:
    - forward_webhook: {url: "${SINK}?scored", body: {score: "{{ feedback.correctness.score | default(none) }}"}}
- name: at-once
  actions: [{forward_webhook: {url: "${SINK}?at-once"}}]
""",
    CLIENTS,
)


async def test_a_score_that_comes_late_is_waited_for_while_others_fire_over_a_restart(engine, sink, langsmith) -> None:
    run = payloads.run(0)
    langsmith.add_run(run)
    await engine.start(WAITING.replace("UP_TO", "10m"))
    event = await send(engine, 0)
    await engine.settled(1)
    assert [which(one) for one in sink.received] == ["at-once"]
    row = (await engine.running.store.event(event)).row
    assert (row.state, row.reason[:35]) == ("pending", "waits for feedback 'correctness' un")
    langsmith.add_feedback(run["id"], key="correctness", score=0.25)
    await restart(engine, meanwhile=ALL_DUE)
    await engine.settled(2)
    assert [one.body for one in sink.received if which(one) == "scored"] == [{"score": 0.25}]
    assert [which(one) for one in sink.received].count("at-once") == 1
    detail = await engine.running.store.event(event)
    assert (detail.row.state, len(detail.attempts)) == ("routed", 0)
    # A person who asks again long after is not made to wait.
    await engine.stop()
    with closing(sqlite3.connect(engine.config.parent / "data" / "engine.db")) as db, db:
        db.execute("UPDATE event SET received_at = received_at - 3600")
    await engine.start()
    await replay(engine, events=[event])
    await until(lambda: len(sink.received) == 4)
    assert [one.body for one in sink.received if which(one) == "scored"] == [{"score": 0.25}] * 2


async def test_what_does_not_come_is_not_waited_for_for_ever(engine, sink, langsmith) -> None:
    langsmith.add_run(payloads.run(0))
    await engine.start(WAITING.replace("UP_TO", "1s"))
    event = await send(engine, 0)
    await engine.settled(2)
    assert sink.received[-1].body == {"score": None}
    (scored,) = [d for d in await decisions(engine, event) if d["route"].endswith("scored") and d["verdict"] == "true"]
    assert scored["reason"] == "feedback 'correctness' did not come within 1s"


async def test_nothing_is_fetched_for_what_does_not_match_anyway(engine, sink, langsmith) -> None:
    await engine.start(WAITING.replace("UP_TO", "10m"))
    event = await send(engine, 0, status="error")
    await engine.settled(1)
    assert (await engine.running.store.event(event)).row.state == "routed"
    assert not [one for one in langsmith.requests if "feedback" in one.path]


# --- what the log says -----------------------------------------------------------------------------------------------


def lines(caplog, *messages: str) -> list[Any]:
    return [record for record in caplog.records if record.name == "engine" and record.message in messages]


async def test_the_log_counts_deliveries_that_are_made_and_names_routes_that_matched(engine, caplog) -> None:
    caplog.set_level(logging.DEBUG, "engine")
    await engine.start(
        routes("""
actions:
  - log: {message: x}
    name: throttled
    throttle: {every: 1h}
  - log: {message: x}
    name: digested
    digest: {every: 1h}
""")
    )
    first = await send(engine, 0)
    await decisions(engine, first)
    await decisions(engine, await send(engine, 1))
    mute = {"route": RULE_ID, "for": "1h"}
    async with engine.http.post(f"http://{engine.running.admin}/api/v1/mutes", json=mute) as answer:
        assert answer.status == 200, await answer.text()
    await decisions(engine, await send(engine, 2))
    routed = await until(lambda: len(found := lines(caplog, "routed")) == 3 and found)
    assert [(line.matched, line.deliveries) for line in routed] == [(RULE_ID, 1), (RULE_ID, 0), (RULE_ID, 0)]


async def test_the_log_says_once_that_a_route_waits(engine, sink, langsmith, caplog) -> None:
    caplog.set_level(logging.DEBUG, "engine")
    run = payloads.run(0)
    langsmith.add_run(run)
    await engine.start(WAITING.replace("UP_TO", "10m"))
    await send(engine, 0)
    await engine.settled(1)
    await restart(engine, meanwhile=ALL_DUE)
    await until(lambda: len(lines(caplog, "routed", "evaluation waits")) == 3)
    langsmith.add_feedback(run["id"], key="correctness", score=0.25)
    await restart(engine, meanwhile=ALL_DUE)
    await engine.settled(2)
    first, waits, look, last = lines(caplog, "routed", "evaluation waits")
    assert (first.message, first.levelname, first.deliveries) == ("routed", "INFO", 1)
    assert (waits.levelname, waits.route) == ("INFO", f"{RULE_ID}/scored")
    assert waits.reason.startswith("waits for feedback 'correctness' until ")
    assert (look.message, look.levelname, look.deliveries) == ("routed", "DEBUG", 0)
    assert (last.levelname, last.matched, last.deliveries) == ("INFO", f"{RULE_ID}/scored", 1)


# --- on_dead ---------------------------------------------------------------------------------------------------------

ON_DEAD = routes("""
actions:
  - forward_webhook: {url: "${SINK}?it", body: x}
on_dead:
  - forward_webhook:
      url: "${SINK}?dead"
      body: {run: "{{ run.id }}", delivery: "{{ delivery }}"}
  - forward_webhook: {url: "${SINK}?never"}
    name: only-others
    when: [{expr: "delivery.action != 'forward_webhook'"}]
""")


async def test_a_dead_delivery_is_reported_once_however_often_it_is_replayed(engine, sink) -> None:
    sink.answer_with(400)
    await engine.start(ON_DEAD)
    await send(engine, 0)
    rows = {row.action: row for row in await engine.settled(2)}
    assert {action: row.state for action, row in rows.items()} == {
        "forward_webhook": "dead",
        "on_dead.forward_webhook": "succeeded",
    }
    told = sink.received[-1].body
    assert told["run"] == payloads.run(0)["id"]
    dead = rows["forward_webhook"]
    assert {key: told["delivery"][key] for key in ("id", "action", "attempts")} == {
        "id": dead.id,
        "action": "forward_webhook",
        "attempts": 1,
    }
    assert "400" in told["delivery"]["reason"]
    assert told["delivery"]["destination"].startswith("http://127.0.0.1")
    assert told["delivery"]["items"] == 1
    await restart(engine)
    sink.answer_with(400)
    await replay(engine, deliveries=[dead.id])
    await until(lambda: len(sink.received) == 3)
    await engine.quiet()
    assert [which(one) for one in sink.received] == ["it", "dead", "it"]


async def test_a_death_is_reported_with_the_count_of_a_throttle_and_the_size_of_a_digest(engine, sink) -> None:
    await engine.start(
        routes("""
actions:
  - forward_webhook: {url: "${SINK}?throttled", body: "{{ run.nothing if throttle.suppressed else 'x' }}"}
    name: throttled
    throttle: {every: 1h}
  - forward_webhook: {url: "${SINK}?digest", body: "{{ run.nothing }}"}
    name: digest
    digest: {every: 1h, max: 3}
on_dead:
  - forward_webhook:
      url: "${SINK}?dead"
      body: {of: "{{ delivery.action }}", held_back: "{{ throttle.suppressed }}", items: "{{ delivery.items }}"}
    when: [{expr: "throttle.suppressed >= 0"}]
""")
    )
    await send(engine, 0, 1)
    await until(lambda: len(sink.received) == 1)
    await restart(engine, meanwhile="UPDATE window SET closes_at = 0 WHERE purpose = 'throttle'")
    await send(engine, 2)
    await engine.settled(5)
    told = [one.body for one in sink.received if which(one) == "dead"]
    assert sorted(told, key=lambda one: one["of"]) == [
        {"of": "digest", "held_back": 0, "items": 3},
        {"of": "throttled", "held_back": 1, "items": 1},
    ]


async def test_a_death_is_reported_though_its_fetched_data_cannot_be_stored(
    engine, sink, langsmith, monkeypatch
) -> None:
    async def full(*_: Any) -> None:
        raise StoreBusy("the disk is full")

    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="score", score=1)
    sink.answer_with(400)
    await engine.start(
        routes(
            """
actions:
  - forward_webhook: {url: "${SINK}", body: x}
on_dead:
  - log: {message: "{{ delivery.reason }}"}
    when: [{path: "$.feedback.score.score", eq: 1}]
""",
            CLIENTS,
        )
    )
    monkeypatch.setattr(type(engine.running.store), "save_fetched", full)
    await send(engine, 0)
    rows = {row.action: row for row in await engine.settled(2)}
    assert (rows["forward_webhook"].attempts, rows["on_dead.log"].state) == (1, "succeeded")
    assert "400" in rows["forward_webhook"].reason
    assert len(sink.received) == 1


async def test_a_death_of_on_dead_is_the_end(engine, sink) -> None:
    sink.answer_with(400, 400)
    await engine.start(ON_DEAD)
    await send(engine, 0)
    rows = await engine.settled(2)
    assert {row.state for row in rows} == {"dead"}
    assert len(sink.received) == 2


async def test_a_delivery_that_cannot_be_rendered_is_reported_too(engine, sink) -> None:
    await engine.start(ON_DEAD.replace("body: x", 'body: "{{ run.nothing }}"'))
    await send(engine, 0)
    rows = {row.action: row for row in await engine.settled(2)}
    assert rows["forward_webhook"].state == "dead"
    assert "nothing" in sink.received[-1].body["delivery"]["reason"]


async def test_a_delivery_whose_action_was_removed_is_reported_when_it_expires(engine, sink) -> None:
    sink.answer_with(503)
    slow = ON_DEAD.replace("min: 10ms, max: 20ms", "min: 1s, max: 1s")
    await engine.start(slow)
    await send(engine, 0)
    await until(lambda: len(sink.received) == 1)
    text = slow.replace("body: x}", "body: x}\n        name: renamed", 1).replace("within: 1h", "within: 10ms")
    await restart(engine, text)
    rows = {row.action: row for row in await engine.settled(2)}
    assert "no longer in the configuration" in rows["forward_webhook"].reason
    assert rows["on_dead.forward_webhook"].state == "succeeded"
