"""Whose an origin is: the author's, who wrote it into the file, or the event's."""

from __future__ import annotations

import pytest

from engine.action.registry import load_installed
from engine.clients.network import Origin
from engine.config import parse_config
from engine.core.errors import ConfigError
from engine.core.vocabulary import Vocabulary
from engine.rules.compile import compile_router
from engine.rules.origins import AuthorOrigins, origins_in_code
from engine.rules.templates import Templates

VARS = {
    "host": "inner.corp",
    "door": "inner.corp:81",
    "hook": "http://hook.corp:8080/x?y=1",
    "hooks": {"a": "https://a.corp", "b": ["http://b.corp:1", "http://b.corp:2"]},
    "n": 3,
}


@pytest.fixture(scope="module")
def origins():
    return AuthorOrigins(Templates(Vocabulary(VARS)), VARS)


def made(*written: str) -> set[Origin]:
    """From ``host:port``."""
    parts = (text.rpartition(":") for text in written)
    return {Origin(host, int(port)) for host, _, port in parts}


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://mine.corp/hook", "mine.corp:80"),
        ("https://mine.corp/hook", "mine.corp:443"),
        ("HTTPS://MINE.corp.", "mine.corp:443"),
        ("http://mine.corp:8080", "mine.corp:8080"),
        ("http://mine.corp:/x", "mine.corp:80"),
        ("https://user:pass@mine.corp/x", "mine.corp:443"),
        ("http://10.0.0.5/x", "10.0.0.5:80"),
        ("http://[::1]:81/x", "::1:81"),
        ("http://bücher.corp/", "xn--bcher-kva.corp:80"),
        ("http://mine.corp/{{ run.id }}", "mine.corp:80"),
        ("http://mine.corp?id={{ run.id }}", "mine.corp:80"),
        ("https://{{ run.token }}@mine.corp/", "mine.corp:443"),
        ("https://{{ vars.host }}/{{ run.id }}", "inner.corp:443"),
        ("https://{{ vars.host }}", "inner.corp:443"),
        ("https://{{ vars.door }}/", "inner.corp:81"),
        ("https://mine.corp:{{ vars.n }}/", "mine.corp:3"),
        ("{{ 'http://' ~ vars.host }}/{{ run.id }}", "inner.corp:80"),
        ("{{ vars.hook }}", "hook.corp:8080"),
        ("  http://mine.corp/x\n", "mine.corp:80"),
        ("{# note #}http://mine.corp/x", "mine.corp:80"),
    ],
)
def test_what_the_author_wrote_is_the_authors(origins, text, origin):
    assert origins.of({"url": text}) == made(origin)
    assert origins.of({"deep": [{"url": text}]}) == made(origin)


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
        "http://mine.corp:8{% if run.x %}1{% endif %}81/",
        "http://mine.corp:{{ run.port }}/",
        "http://mine.corp:8{{ run.port }}/",
        "http://mine.corp:80{{ run.rest }}",
        "http://mine.corp:0/",
        "http://mine.corp:99999/",
        "http://mine.corp:\uff18\uff10/",
        "unknown://mine.corp/",
        "http://mine.corp\\@{{ run.host }}/",
        "{{ run.scheme }}://mine.corp/",
        "see http://mine.corp/x",
        "<http://mine.corp/x|there>",
        "http://mine.corp/ and http://other.corp/",
        "mine.corp/x",
        "http:///x",
    ],
)
def test_what_an_event_has_a_hand_in_or_is_no_address_is_not(origins, text):
    assert origins.of({"url": text}) == set()


def test_each_branch_has_an_origin_of_its_own(origins):
    text = "{% if run.error %}http://bad.corp/{% else %}http://good.corp/{{ run.id }}{% endif %}"
    assert origins.of(text) == made("bad.corp:80", "good.corp:80")


A, B = "a.corp:443", ("b.corp:1", "b.corp:2")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{{ vars.hook if run.error else vars.hooks.a }}", ["hook.corp:8080", A]),
        ("{{ vars.hooks[run.name] }}", [A, *B]),
        ("{{ vars.hooks.get(run.name) }}", [A, *B]),
        ("{{ vars.hooks.b[1] ~ run.path }}", [B[1]]),
        ("{{ vars.hooks.b[run.n] }}", B),
        ("{% for one in vars.hooks.b %}{{ one }}{{ run.id }}{% endfor %}", B),
        ("{% set all = vars %}{{ all[run.name] }}", ["hook.corp:8080", A, *B]),
        ("{{ vars[run.name] }}", ["hook.corp:8080", A, *B]),
        ("{{ vars.host ~ run.id }}", []),
        ("{{ vars.hook.split(run.x) }}", ["hook.corp:8080"]),
        ("{{ run.vars.hook }}", []),
        ("{{ broken", []),
    ],
)
def test_of_the_vars_those_count_that_the_parameters_name(origins, text, named):
    assert origins.of({"url": "{{ run.url }}"}) == set()
    assert origins.of({"url": "{{ run.url }}", "body": {"x": text}}) == made(*named)


def compiled(text: str):
    return compile_router(parse_config("secrets: none\n" + text, environ={}), load_installed())


def test_an_action_has_its_own_origins_and_those_of_the_services_it_needs():
    router = compiled(
        """
vars: {docs: "http://docs.corp"}
langsmith: {api_key: k, endpoint: "http://langsmith.corp:1984/api"}
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
    assert {action.name: set(action.origins) for action in route.actions} == {
        "forward_webhook": made("hook.corp:80"),
        "post_to_slack": made("slack.corp:80"),
        "add_to_dataset": made("langsmith.corp:1984"),
    }


def test_a_connection_to_langsmith_does_not_go_to_a_metadata_service():
    with pytest.raises(ConfigError, match="metadata service, which is never reached"):
        compiled('langsmith: {api_key: k, endpoint: "http://169.254.169.254/"}\nroutes: {}\n')


class Coded:
    plain = "http://plain.corp"
    pathed = "https://pathed.corp:8080/x"

    def addresses(self, given):
        built = f"http://{given}/x", f"http://half.{given}/", f"http://open.corp{given}"
        return (
            *built,
            f"http://fixed.corp/{given}",
            f"http://ported.corp:8080/{given}",
            f"http://anywhere.corp:{given}/",
        )


def test_a_plug_in_has_the_origins_of_addresses_in_its_file():
    found = origins_in_code(Coded)
    assert made("plain.corp:80", "pathed.corp:8080", "fixed.corp:80", "ported.corp:8080") <= found
    assert not {origin.host for origin in found} & {"half", "half.", "open.corp", "given", "anywhere.corp"}
    assert origins_in_code(int) == frozenset()


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
        ('network: {allow: ["x:1"]}', "write it without a port"),
    ],
)
def test_a_mistake_in_the_network_block_is_reported_with_its_place(block, words):
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
