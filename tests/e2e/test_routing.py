"""From the webhook to what arrives elsewhere, through the whole engine."""

from __future__ import annotations

from harness import CLIENTS

from engine.testing import payloads

FOUR_ACTIONS = (
    CLIENTS
    + """
rules: {corrections: d75d7417-0c57-4655-88fe-1db3cda3a47a}
routes:
  corrections:
    name: corrected
    filters:
      - {path: "$.runs[*].status", eq: success}
      - {path: "$.feedback.correctness.correction", exists: true}
    actions:
      - add_to_dataset:
          dataset: classifier-github-issues
          inputs: "{{ run.inputs }}"
          outputs: {output: "{{ feedback.correctness.correction }}"}
      - post_to_slack: {channel: "#llm-quality", text: "<{{ run.url }}|{{ run.name }}> was corrected"}
      - forward_webhook: {url: "${SINK}"}
      - annotate: {queue: needs-review, feedback: {key: triage, value: low_score}}
"""
)


async def test_a_run_that_matches_fires_all_four_actions_exactly_once(engine, langsmith, slack, sink) -> None:
    langsmith.add_dataset("classifier-github-issues")
    langsmith.add_queue("needs-review")
    run = payloads.run(0)
    langsmith.add_run(run)
    langsmith.add_feedback(run["id"], key="correctness", correction="bug")
    await engine.start(FOUR_ACTIONS)
    first = await engine.post(payloads.rule([run]))
    again = await engine.post(payloads.rule([run]))
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["event"] == first["event"]
    rows = await engine.settled(4)
    assert {row.state for row in rows} == {"succeeded"}, [row.reason for row in rows]
    (example,) = langsmith.examples.values()
    assert example["inputs"] == run["inputs"]
    assert example["outputs"] == {"output": "bug"}
    (message,) = slack.messages
    assert message.text.endswith("was corrected")
    (forwarded,) = sink.received
    assert forwarded.body["runs"][0]["id"] == run["id"]
    assert forwarded.headers["webhook-id"] in {row.id for row in rows}
    assert [item["run_id"] for item in langsmith.queue_items] == [run["id"]]
    assert "triage" in {row["key"] for row in langsmith.feedback.values()}


async def test_only_the_run_that_matches_fires(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            filters: [{path: "$.runs[*].status", eq: error}]
            actions: [{forward_webhook: {url: "${SINK}"}}]
    """)
    runs = [payloads.run(number, status="error" if number == 1 else "success") for number in range(3)]
    await engine.post(payloads.rule(runs))
    await engine.settled(1)
    assert [one.body["runs"][0]["id"] for one in sink.received] == [runs[1]["id"]]


async def test_star_sees_all_unmatched_sees_the_rest_and_stop_ends_a_rule(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            - name: errors
              filters: [{path: "$.runs[*].status", eq: error}]
              stop: true
              actions: [{forward_webhook: {url: "${SINK}?errors"}}]
            - name: slow
              filters: [{expr: "run.extra.metadata.slow is defined"}]
              actions: [{forward_webhook: {url: "${SINK}?slow"}}]
          "*":
            actions: [{forward_webhook: {url: "${SINK}?all"}}]
          unmatched:
            actions: [{forward_webhook: {url: "${SINK}?unmatched={{ event.unmatched_reason }}"}}]
    """)
    slow = {"metadata": {"slow": True}}
    runs = [payloads.run(0, status="error", extra=slow), payloads.run(1, extra=slow), payloads.run(2)]
    await engine.post(payloads.rule(runs))
    await engine.settled(6)
    seen = {(one.body["runs"][0]["id"], str(one.query)) for one in sink.received}
    by_run = {run["id"]: sorted(q for i, q in seen if i == run["id"]) for run in runs}
    assert [len(by_run[run["id"]]) for run in runs] == [2, 2, 2]
    assert any("errors" in q for q in by_run[runs[0]["id"]])
    assert any("slow" in q for q in by_run[runs[1]["id"]])
    assert any("no_match" in q for q in by_run[runs[2]["id"]])


async def test_an_unknown_rule_is_kept_and_unmatched(engine, sink) -> None:
    await engine.start("""
        routes:
          unmatched:
            for_each: event
            actions: [{forward_webhook: {url: "${SINK}", body: "{{ event }}"}}]
    """)
    await engine.post(payloads.several(3, rule_id="11111111-1111-4111-8111-111111111111"))
    await engine.quiet()
    rows = [one.body["unmatched_reason"] for one in sink.received]
    assert rows == ["unknown_rule"]


async def test_a_whole_event_is_unmatched_only_if_none_of_its_runs_matched(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            - filters: [{path: "$.run.status", eq: error}]
              actions: [{log: {message: "{{ run.name }}"}}]
            - name: batch
              for_each: event
              filters: [{path: "$.runs[*].name", eq: nobody}]
              actions: [{log: {message: "{{ run.name }}"}}]
          unmatched:
            - for_each: event
              actions: [{forward_webhook: {url: "${SINK}", body: "{{ runs | length }}"}}]
    """)
    await engine.post(payloads.rule([payloads.run(0), payloads.run(1, status="error"), payloads.run(2)]))
    await engine.post(payloads.rule([payloads.run(3), payloads.run(4)]))
    await engine.quiet()
    assert [one.raw for one in sink.received] == [b"2"]


async def test_every_kind_of_webhook_finds_its_route(engine, sink) -> None:
    await engine.start("""
        routes:
          alert: {actions: [{forward_webhook: {url: "${SINK}", body: {alert: "{{ alert_rule_name }}"}}}]}
          prompt: {actions: [{forward_webhook: {url: "${SINK}", body: {prompt: "{{ payload.event }}"}}}]}
          issue: {actions: [{forward_webhook: {url: "${SINK}", body: {issue: "{{ type }}"}}}]}
          context_hub: {actions: [{forward_webhook: {url: "${SINK}", body: {hub: "{{ commit.repo_handle }}"}}}]}
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions: [{forward_webhook: {url: "${SINK}", body: {threads: "{{ threads | length }}"}}}]
    """)
    others = (payloads.alert(), payloads.prompt_commit(), payloads.issue(), payloads.context_hub_commit())
    for payload in (*others, payloads.threads(2)):
        await engine.post(payload)
    await engine.settled(5)
    bodies = [one.body for one in sink.received]
    assert {"alert": payloads.alert()["alert_rule_name"]} in bodies
    assert {"prompt": "commit"} in bodies
    assert {"issue": "issue.created"} in bodies
    assert {"hub": "triage-agent"} in bodies
    assert {"threads": 2} in bodies


async def test_whatever_a_thread_holds_can_be_used(engine, sink) -> None:
    """The element's schema is not documented."""
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            filters:
              - {path: "$.threads[*].runs[*].status", eq: error}
              - {path: "$.threads[*].conversation.turns[*].role", eq: user}
              - {expr: "threads[0].score_of_2027 > 0.5"}
            actions:
              - forward_webhook:
                  url: "${SINK}"
                  body:
                    last: "{{ threads[0].conversation.turns[-1].text }}"
                    runs: "{{ threads | map(attribute='runs') | map('length') | list }}"
                    whole: "{{ threads[1] }}"
    """)
    turns = [{"role": "user", "text": "why?"}, {"role": "agent", "text": "because"}]
    first = {"thread_id": "a", "conversation": {"turns": turns}, "score_of_2027": 0.75, "runs": [{"status": "error"}]}
    second = {"thread_id": "b", "anything": {"else": [1, None]}, "runs": []}
    await engine.post(payloads.threads(threads=[first, second]))
    await engine.settled(1)
    assert [one.body for one in sink.received] == [{"last": "because", "runs": [1, 0], "whole": second}]
    await engine.post(payloads.threads(threads=[{**first, "score_of_2027": 1}, second]))
    assert len(sink.received) == 1, "the same threads in the same window are the same webhook"


async def test_when_decides_for_one_action_alone(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            actions:
              - forward_webhook: {url: "${SINK}?always"}
                name: always
              - forward_webhook: {url: "${SINK}?errors"}
                name: errors
                when: [{path: "$.run.status", eq: error}]
    """)
    await engine.post(payloads.rule([payloads.run(0)]))
    await engine.settled(1)
    assert ["always" in one.query for one in sink.received] == [True]


async def test_the_same_sample_is_taken_of_each_trace(engine, sink) -> None:
    await engine.start("""
        routes:
          d75d7417-0c57-4655-88fe-1db3cda3a47a:
            sample: 30%
            actions: [{forward_webhook: {url: "${SINK}"}}]
          unmatched: {actions: [{forward_webhook: {url: "${SINK}?unmatched"}}]}
    """)
    await engine.post(payloads.several(200))
    await engine.quiet()
    first = {one.body["runs"][0]["id"] for one in sink.received}
    assert 30 <= len(first) <= 90
    assert not any("unmatched" in one.query for one in sink.received)
