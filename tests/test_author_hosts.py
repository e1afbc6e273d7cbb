"""Whose a host is: the author's, who wrote it into the file, or the event's."""

from __future__ import annotations

import pytest

from engine.author_hosts import AuthorHosts, hosts_in_code
from engine.compile import compile_router
from engine.config import parse_config
from engine.errors import ConfigError
from engine.registry import load_installed
from engine.templates import Templates
from engine.vocabulary import Vocabulary

VARS = {"host": "inner.corp", "hook": "http://hook.corp:8080/x?y=1", "hooks": {"a": "https://a.corp"}, "n": 3}
EVERYWHERE = {"hook.corp", "a.corp"}


@pytest.fixture(scope="module")
def hosts():
    return AuthorHosts(Templates(Vocabulary(VARS)), VARS)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://mine.corp/hook", "mine.corp"),
        ("http://MINE.corp.", "mine.corp"),
        ("http://mine.corp:8080", "mine.corp"),
        ("https://user:pass@mine.corp/x", "mine.corp"),
        ("http://10.0.0.5/x", "10.0.0.5"),
        ("http://[::1]:80/x", "::1"),
        ("http://bücher.corp/", "xn--bcher-kva.corp"),
        ("http://mine.corp/{{ run.id }}", "mine.corp"),
        ("http://mine.corp?id={{ run.id }}", "mine.corp"),
        ("http://mine.corp:{{ run.port }}/", "mine.corp"),
        ("https://{{ run.token }}@mine.corp/", "mine.corp"),
        ("https://{{ vars.host }}/{{ run.id }}", "inner.corp"),
        ("https://{{ vars.host }}", "inner.corp"),
        ("{{ 'http://' ~ vars.host }}/{{ run.id }}", "inner.corp"),
        ("  http://mine.corp/x\n", "mine.corp"),
        ("{# note #}http://mine.corp/x", "mine.corp"),
    ],
)
def test_what_the_author_wrote_is_the_authors(hosts, text, host):
    assert hosts.of({"url": text}) == EVERYWHERE | {host}
    assert hosts.of({"deep": [{"url": text}]}) == EVERYWHERE | {host}


@pytest.mark.parametrize(
    "text",
    [
        "{{ run.url }}",
        "http://{{ run.host }}/",
        "http://mine.corp{{ run.rest }}",
        "http://mine.corp{{ run.rest }}/x",
        "http://{{ run.a }}mine.corp/",
        "http://{{ run.sub }}.mine.corp/",
        "http://mine{% if run.x %}.evil{% endif %}/",
        "http://mine.corp\\@{{ run.host }}/",
        "{{ run.scheme }}://mine.corp/",
        "see http://mine.corp/x",
        "<http://mine.corp/x|there>",
        "http://mine.corp/ and http://other.corp/",
        "mine.corp/x",
        "http:///x",
        "http://{{ vars.gone }}/",
    ],
)
def test_what_an_event_has_a_hand_in_or_is_no_address_is_not(hosts, text):
    assert hosts.of({"url": text}) == EVERYWHERE


def test_each_branch_has_a_host_of_its_own(hosts):
    text = "{% if run.error %}http://bad.corp/{% else %}http://good.corp/{{ run.id }}{% endif %}"
    assert hosts.of(text) == EVERYWHERE | {"bad.corp", "good.corp"}


def compiled(text: str):
    return compile_router(parse_config("secrets: none\n" + text, environ={}), load_installed())


def test_an_action_has_its_own_hosts_and_those_of_the_services_it_needs():
    router = compiled(
        """
langsmith: {api_key: k, endpoint: "http://langsmith.corp/api"}
slack: {token: t, endpoint: "http://slack.corp/api/"}
routes:
  alert:
    actions:
      - forward_webhook: {url: "http://hook.corp/{{ alert_rule_name }}"}
      - post_to_slack: {channel: "#c", text: t}
      - add_to_dataset: {dataset: d, inputs: {a: 1}}
"""
    )
    (route,) = router.routes.values()
    assert {action.name: set(action.hosts) for action in route.actions} == {
        "forward_webhook": {"hook.corp"},
        "post_to_slack": {"slack.corp"},
        "add_to_dataset": {"langsmith.corp"},
    }


def test_a_connection_to_langsmith_does_not_go_to_a_metadata_service():
    with pytest.raises(ConfigError, match="metadata service, which is never reached"):
        compiled('langsmith: {api_key: k, endpoint: "http://169.254.169.254/"}\nroutes: {}\n')


class Coded:
    plain = "http://plain.corp"
    pathed = "https://pathed.corp:8080/x"

    def addresses(self, given):
        built = f"http://{given}/x", f"http://half.{given}/", f"http://open.corp{given}"
        return *built, f"http://fixed.corp/{given}", f"http://fixed.corp:{given}/"


def test_a_plug_in_has_the_hosts_of_addresses_in_its_file():
    found = hosts_in_code(Coded)
    assert {"plain.corp", "pathed.corp", "fixed.corp"} <= found
    assert not found & {"half", "half.", "open.corp", "given"}
    assert hosts_in_code(int) == frozenset()


# --- actions whose requests pass no guard ----------------------------------------------------------------------------


NOTIFY = "routes:\n  alert:\n    actions:\n      - notify: {{body: b, urls: {}}}\n"


@pytest.mark.parametrize(
    "url",
    [
        "json://hook.corp/x",
        "{{ vars.url }}",
        "{{ vars.urls }}",
        "json://{{ vars.host }}/x",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name | urlencode }}",
        "mailto://me:pw@mail.corp/?to={{ (alert_rule_name ~ '@x.corp') | lower | urlencode }}",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name | default('a@x.corp') | urlencode }}",
        "[{{ vars.url }}, json://hook.corp]",
        "{# note #}json://hook.corp",
    ],
)
def test_notify_takes_addresses_of_the_authors(url):
    url = url if url.startswith("[") else f'"{url}"'
    url = url.replace("[{{ vars.url }}", '["{{ vars.url }}"')
    compiled("vars: {url: json://a.corp, urls: [json://a.corp], host: a.corp}\n" + NOTIFY.format(url))


@pytest.mark.parametrize(
    "url",
    [
        "{{ alert_rule_name }}",
        "{{ alert_rule_name }}://hook.corp",
        "json://{{ alert_rule_name }}/x",
        "json://hook.corp{{ alert_rule_name }}",
        "json://hook.corp:{{ alert_rule_name }}/",
        "json://{{ alert_rule_name }}@hook.corp/",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name }}",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name | urlencode | upper }}",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name ~ event.id | urlencode }}",
        "mailto://me:pw@mail.corp/?to={{ alert_rule_name if true else event.id | urlencode }}",
        "json://hook.corp/{{ alert_rule_name | urlencode }}/{{ event.id }}",
        "{% if alert_rule_name %}json://a.corp{% endif %}",
    ],
)
def test_notify_takes_none_that_an_event_decides(url):
    for written in (f'"{url}"', f'["{url}"]'):
        with pytest.raises(ConfigError, match="lets an event decide where this address leads") as caught:
            compiled(NOTIFY.format(written))
        assert caught.value.problems[0].line == 5


# --- the block in the file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("network: {alow: [a.b]}", "did you mean 'allow'"),
        ("network: {hosts: [a.b]}", "did you mean 'allow'"),
        ("netwrok: {allow: [a.b]}", "did you mean 'network'"),
        ("network: [a.b]", "must be a mapping"),
        ("network: {allow: 3}", "must be a list of networks and hosts"),
        ("network: {allow: [3]}", "must be a text, not the number 3"),
        ("network: {allow: [10.0.0.1/8]}", "did you mean 10.0.0.0/8"),
        ('network: {allow: ["http://a.b"]}', "write its name alone"),
        ('network: {allow: ["169.254.169.254"]}', "metadata service, which is never reached"),
        ('network: {allow: ["x:1"]}', "ports are not part of it"),
    ],
)
def test_a_mistake_in_the_network_block_is_told_with_its_place(block, words):
    with pytest.raises(ConfigError) as caught:
        compiled(f"routes: {{}}\n{block}\n")
    assert words in str(caught.value)
    assert caught.value.problems[0].line == 3


def test_the_network_block_permits_what_it_says():
    router = compiled(
        'routes: {}\nnetwork: {allow: [10.0.0.0/8, "*.svc.cluster.local", minio.internal, "${H:-h.corp}"]}'
    )
    assert router.network.names == {"minio.internal", "h.corp"}
    assert router.network.suffixes == (".svc.cluster.local",)
    assert [str(network) for network in router.network.networks] == ["10.0.0.0/8"]
    assert compiled("routes: {}\nnetwork: {allow: minio.internal}").network.names == {"minio.internal"}
    assert compiled("routes: {}").network.names == set()
