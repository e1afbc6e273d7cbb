"""Values in addresses: one that would divide the address is found at load, and the hint's form works."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.errors import ConfigError
from engine.rules.compile import compile_router
from engine.rules.router import Router

REGISTRY = load_installed()
PASSWORD = "k9@Tr0ub4dor/3"


def compiled(url: str, key: str = "forward_webhook: {url", more: str = "", **values: str) -> Router:
    vars_ = 'vars: {open: "${OPEN}"}\n' if "OPEN" in values else ""
    text = f'secrets: none\n{vars_}routes: {{alert: {{actions: [{{{key}: "{url}"{more}}}}}]}}}}\n'
    return compile_router(parse_config(text, environ=values), REGISTRY)


def notified(url: str, **values: str) -> Router:
    return compiled(url, "notify: {urls", ", body: x", **values)


def problem_of(url: str, **values: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        notified(url, **values)
    [problem] = caught.value.problems
    return problem.message, problem.hint


def params(router: Router) -> dict[str, str]:
    [route] = router.routes.values()
    return route.actions[0].template.render({"vars": router.vars})


@pytest.mark.parametrize(
    ("url", "value", "sign", "part"),
    [
        ("json://bot:${X}@127.0.0.1/n", PASSWORD, "@", "password"),
        ("json://bot:${X}@127.0.0.1/n", "a/b", "/", "password"),
        ("json://bot:${X}@127.0.0.1/n", "a?b", "?", "password"),
        ("json://bot:${X}@127.0.0.1/n", "a#b", "#", "password"),
        ("json://bot:${X}@127.0.0.1/n", "100%", "%", "password"),
        ("json://bot:${X}@127.0.0.1/n", "a b", "a space or line break", "password"),
        ("json://${X}:pw@127.0.0.1/n", "me@corp", "@", "user"),
        ("json://${X}:pw@127.0.0.1/n", "a:b", ":", "user"),
        ("json://${X}@127.0.0.1/n", "a/b", "/", "password"),
        ("json://${X}/n", "evil@host", "@", "host"),
        ("json://h.corp/${X}", "a?b", "?", "path"),
        ("json://h.corp/n?key=${X}", "a&b", "&", "query"),
        ("json://h.corp/n?key=a&z=${X}", "a#b", "#", "query"),
        ("json://bot:{{ '${X}' }}@h.corp", "a@b", "@", "password"),
        ("json://bot:{{ vars.open }}@h.corp", "a@b", "@", "password"),
    ],
)
def test_a_value_that_divides_an_address_is_refused_and_what_the_hint_says_works(url, value, sign, part):
    values = {"OPEN" if "vars" in url else "X": value}
    message, hint = problem_of(url, **values)
    assert f"holds {sign}, which would divide the address within its {part}" in message
    assert value not in message + hint
    if part == "host":
        assert hint == "let the variable begin the address, its scheme included"
        assert notified("${X}/n", X=f"json://{value}")
        return
    [written] = re.findall(r"^write (\{\{.*\}\})$", hint)
    router = notified(re.sub(r"\$\{X\}|\{\{.*?\}\}", lambda _: written, url, count=1), **values)
    read = URL(params(router)["urls"])
    assert read.host in ("127.0.0.1", "h.corp")
    assert value in (read.password, read.user, read.path.removeprefix("/"), *read.query.values())


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("${X}", "json://bot:k9@Tr0ub4dor/3@host"),
        ("${X}/more", "https://example.com/a?b"),
        ("json://${X}/n", "example.com:8080"),
        ("json://${X}/n", "[::1]:8080"),
        ("tgram://${X}/chat", "123456789:abcdefg_hijklmnop"),
        ("json://h.corp/${X}", "T000/B000/xyz"),
        ("json://bot:${X}@h.corp", "already%40encoded"),
        ("json://bot:${X}@h.corp", "already%2fencoded"),
        ("json://bot:${X}@h.corp", "a:b!$'()*+,;=~"),
        ("json://h.corp/n?key=${X}", "a=b/c?d"),
        ("json://h.corp/n#${X}", "a=b/c?d"),
    ],
)
def test_other_values_are_taken_as_they_are(url, value):
    assert params(notified(url, X=value))["urls"] == url.replace("${X}", value)


def test_every_address_of_every_action_is_looked_at():
    for key in ("forward_webhook: {url", "post_to_slack: {text: x, webhook_url"):
        with pytest.raises(ConfigError, match="would divide the address"):
            compiled("https://bot:${X}@h.corp/n", key, X=PASSWORD)
    with pytest.raises(ConfigError, match="would divide the address"):
        notified_list(X="a@b")


def notified_list(**values: str) -> Router:
    text = 'secrets: none\nroutes: {alert: {actions: [{notify: {urls: ["json://h", "json://b:${X}@h"], body: x}}]}}\n'
    return compile_router(parse_config(text, environ=values), REGISTRY)


@given(value=st.text(min_size=1, max_size=12))
def test_a_password_that_is_taken_is_read_as_it_is_or_as_it_decodes(value):
    try:
        url = params(notified("json://bot:${X}@h.corp:1/n?a=b", X=value))["urls"]
    except ConfigError:
        return
    read = URL(url)
    assert (read.host, read.port, read.path) == ("h.corp", 1, "/n")
    assert read.user == "bot"


@pytest.mark.parametrize(
    "text",
    ["{{ vars.open }}/{{ vars.open }}", "${X}/${X}", "see https://h.corp/${X} and ${X}", "a/${X}?b", "//h.corp/${X}"],
)
def test_what_is_no_address_is_not_looked_at(text):
    value = "Set #1 & more"
    router = compiled(text, "log: {message", X=value, OPEN=value)
    assert params(router)["message"] == text.replace("{{ vars.open }}", value).replace("${X}", value)


def test_what_goes_on_from_an_address_in_a_variable_is_looked_at():
    with pytest.raises(ConfigError, match="would divide the address within its query"):
        notified("${B}/n?key=${X}", B="json://h.corp", X="a&b")
