"""Where a whole engine goes, and where it does not, whatever an event says."""

from __future__ import annotations

import pytest
from harness import CLIENTS, until

from engine.store.queries import DeliveryQuery
from engine.testing import WebhookSink, payloads

RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
TEMPLATED = f"""
routes:
  {RULE}:
    - name: literal
      actions: [{{forward_webhook: {{url: "${{SINK}}?id={{{{ run.id }}}}"}}}}]
    - name: templated
      actions: [{{forward_webhook: {{url: "{{{{ run.extra.metadata.callback }}}}"}}}}]
"""


def calling_back(url: str, number: int = 0) -> dict:
    return payloads.rule([{**payloads.run(number), "extra": {"metadata": {"callback": url}}}])


async def test_an_address_out_of_an_event_is_dead_and_permitted_by_the_file_alive(engine, sink) -> None:
    """The same host is the author's where he wrote it, and nobody's where an event names it."""
    await engine.start(TEMPLATED)
    await engine.post(calling_back(sink.url))
    rows = {row.route: row for row in await engine.settled(2)}
    assert rows[f"{RULE}/literal"].state == "succeeded"
    dead = rows[f"{RULE}/templated"]
    assert (dead.state, dead.attempts) == ("dead", 1)
    assert "127.0.0.1 is loopback" in dead.reason
    assert "network: {allow: [127.0.0.1]}" in dead.reason
    assert len(sink.received) == 1

    engine.write(TEMPLATED + "network: {allow: [127.0.0.1]}\n")
    await engine.running.reloader.reload()
    await engine.running.store.replay_deliveries(DeliveryQuery(ids=[dead.id]), now=0.0)
    engine.running.worker.wake()

    async def succeeded():
        return all(row.state == "succeeded" for row in await engine.deliveries())

    await until(succeeded)
    assert len(sink.received) == 2


NOTED = f"""
vars: {{docs: "${{SINK}}"}}
routes:
  {RULE}:
    - name: templated
      actions: [{{forward_webhook: {{url: "{{{{ run.extra.metadata.callback }}}}"}}}}]
    - name: named
      actions: [{{forward_webhook: {{url: "{{{{ run.extra.metadata.callback }}}}", body: "{{{{ vars.docs }}}}"}}}}]
"""


async def test_a_variable_opens_its_own_origin_to_the_action_that_names_it(engine, sink) -> None:
    async with WebhookSink() as elsewhere:
        await engine.start(NOTED)
        await engine.post(calling_back(sink.url))
        rows = {row.route: row for row in await engine.settled(2)}
        assert rows[f"{RULE}/named"].state == "succeeded"
        assert "network: {allow: [127.0.0.1]}" in rows[f"{RULE}/templated"].reason
        await engine.post(calling_back(elsewhere.url, 1))
        assert sorted(row.state for row in await engine.settled(4)) == ["dead", "dead", "dead", "succeeded"]
        assert elsewhere.received == []


async def test_no_run_leads_to_the_admin_listener_whatever_the_file_allows(engine) -> None:
    await engine.start(NOTED)
    for number, extra in enumerate(("", "network: {allow: [127.0.0.0/8, localhost]}\n"), 1):
        engine.write(NOTED + extra)
        await engine.running.reloader.reload()
        last = engine.running.reloader.last
        url = f"http://127.0.0.1:{engine.running.admin.port}/-/reload"
        await engine.post(calling_back(url.replace("127.0.0.1", "localhost") if extra else url, number))
        rows = await engine.settled(2 * number)
        assert {row.state for row in rows} == {"dead"}
        assert all("own admin listener, which events must not reach" in row.reason for row in rows), rows
        assert engine.running.reloader.last is last


async def test_metadata_is_not_reached_even_where_the_file_says_so(engine) -> None:
    await engine.start(
        f"routes: {{{RULE}: {{actions: [{{forward_webhook: {{url: 'http://169.254.169.254/latest/'}}}}]}}}}\n"
        "network: {allow: [169.254.0.0/16]}\n"
    )
    await engine.post(payloads.rule([payloads.run(0)]))
    (row,) = await engine.settled(1)
    assert row.state == "dead"
    assert "metadata service, which is never reached" in row.reason


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_presigned_url_leads_no_further_than_an_events_address(engine, langsmith, sink, host) -> None:
    """LangSmith's own origin is the author's; another name or port of the same machine is not."""
    port = sink.origin.rpartition(":")[2]
    run = payloads.run(0)
    run |= {"inputs": None, "inputs_s3_urls": {"ROOT": {"presigned_url": f"http://{host}:{port}/x?sig=1"}}}
    await engine.start(
        CLIENTS
        + f"""
defaults: {{retry: {{attempts: 1}}}}
routes: {{{RULE}: {{actions: [{{log: {{message: "{{{{ run.inputs }}}}"}}}}]}}}}
"""
    )
    await engine.post(payloads.rule([run]))
    (row,) = await engine.settled(1)
    assert row.state == "dead"
    assert f"network: {{allow: [{host}]}}" in row.reason
    assert "sig=1" not in row.reason
    assert sink.received == []


async def test_a_plug_in_goes_where_its_parameters_and_its_code_say_and_no_further(engine, sink, tmp_path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "knock.py").write_text(
        "import engine\n\n\nclass Knock(engine.Action):\n    class Params(engine.Params):\n"
        "        url: str = ''\n        own: str = ''\n\n    async def run(self, params, context):\n"
        "        url = params.own or params.url or '" + sink.url + "'\n"
        "        async with context.http.get(url) as answer:\n"
        "            return {'status': answer.status}\n"
    )
    port = sink.origin.rpartition(":")[2]
    await engine.start(
        f"""
plugins: [./plugins]
routes:
  {RULE}:
    - name: written
      actions: [{{knock: {{url: "${{SINK}}"}}}}]
    - name: in_code
      actions: [{{knock: {{}}}}]
    - name: unwritten
      actions: [{{knock: {{url: "http://x.example/", own: "{{{{ 'http://localhost:' ~ run.extra.port }}}}"}}}}]
"""
    )
    await engine.post(payloads.rule([{**payloads.run(0), "extra": {"port": port}}]))
    rows = {row.route: row for row in await engine.settled(3)}
    assert rows[f"{RULE}/written"].state == rows[f"{RULE}/in_code"].state == "succeeded"
    assert rows[f"{RULE}/unwritten"].state == "dead"
    assert "localhost is loopback" in rows[f"{RULE}/unwritten"].reason


async def test_no_redirect_is_followed_by_any_action_nor_for_data(engine, langsmith, slack, sink) -> None:
    run = payloads.run(0) | {"inputs": None}
    async with WebhookSink() as elsewhere, WebhookSink() as objects:
        for stand_in in (langsmith, slack, sink, objects):
            stand_in.faults.add(status=307, headers={"Location": elsewhere.url}, times=None)
        run["inputs_s3_urls"] = {"ROOT": {"presigned_url": objects.url}}
        engine.environ["NOTIFY"] = sink.origin.replace("http", "json") + "/hook?redirect=yes"
        await engine.start(
            CLIENTS
            + f"""
defaults: {{retry: {{attempts: 1}}}}
network: {{allow: [127.0.0.1]}}
routes:
  {RULE}:
    actions:
      - forward_webhook: {{url: "${{SINK}}"}}
      - post_to_slack: {{channel: "#c", text: t}}
      - post_to_slack: {{webhook_url: "${{SINK}}", text: t}}
        name: by_webhook
      - notify: {{urls: "${{NOTIFY}}", body: b}}
      - add_to_dataset: {{dataset: d, inputs: {{a: 1}}}}
      - annotate: {{queue: q}}
      - log: {{message: "{{{{ run.inputs }}}}"}}
"""
        )
        await engine.post(payloads.rule([run]))
        rows = await engine.settled(7)
        assert {row.action: row.state for row in rows} == {row.action: "dead" for row in rows}
        assert len(objects.received) == 1
        assert elsewhere.received == []


async def test_no_proxy_of_the_environment_is_used(engine, langsmith, slack, sink, monkeypatch) -> None:
    async with WebhookSink() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
            monkeypatch.setenv(name.upper(), proxy.origin)
        monkeypatch.setenv("no_proxy", "")
        langsmith.add_dataset("d")
        engine.environ |= {"NOTIFY": sink.origin.replace("http", "json") + "/hook", "SLACK_HOOK": slack.webhook_url}
        await engine.start(
            CLIENTS
            + f"""
routes:
  {RULE}:
    actions:
      - forward_webhook: {{url: "${{SINK}}"}}
      - post_to_slack: {{channel: "#c", text: t}}
      - post_to_slack: {{webhook_url: "${{SLACK_HOOK}}", text: t}}
        name: by_webhook
      - notify: {{urls: "${{NOTIFY}}", body: b}}
      - add_to_dataset: {{dataset: d, inputs: {{a: 1}}}}
"""
        )
        await engine.post(payloads.rule([payloads.run(0)]))
        rows = await engine.settled(5)
        assert {row.action: row.state for row in rows} == {row.action: "succeeded" for row in rows}, rows
        assert proxy.received == []
