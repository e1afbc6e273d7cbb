"""From YAML to ``Config``: defaults, identity, secrets, hash, the dump; and every problem at once."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import DEFAULT_RETRY, RetrySpec, dump_masked, load_config, parse_config, read_config
from engine.core.errors import ConfigError

ID = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
SEED_RULE = f"rules: {{corrections: {ID}}}\n"


def parse(text, environ=None, **more):
    return parse_config(text, environ={} if environ is None else environ, **more)


def routes_of(routes, top=""):
    return parse(f"secrets: none\n{SEED_RULE}{top}routes:\n{routes}").routes


def problems_of(text, environ=None):
    with pytest.raises(ConfigError) as caught:
        parse(text, environ)
    return caught.value.problems


def route_problems(routes):
    return [problem.message for problem in problems_of(f"secrets: none\n{SEED_RULE}routes:\n{routes}")]


# --- defaults --------------------------------------------------------------------------------------------------------


def test_the_shortest_configuration():
    config = parse("secrets: none\nroutes: {}\n")
    assert config.secrets is None
    assert (config.timeout, config.retry) == (10.0, DEFAULT_RETRY)
    assert (config.retry.attempts, config.retry.within) == (8, 86400.0)
    assert (config.retry.shortest, config.retry.longest) == (1.0, 3600.0)
    assert config.langsmith.endpoint == "https://api.smith.langchain.com"
    assert config.langsmith.api_key is None
    assert config.slack.endpoint == "https://slack.com/api/"
    assert (config.plugins, config.vars, config.rules, config.routes) == ((), {}, {}, ())


def test_the_designs_own_example():
    config = parse_config(
        (Path(__file__).parent / "config_good" / "design.yaml").read_text(),
        environ={
            "LANGSMITH_WEBHOOK_SECRET": "hook-secret",
            "LANGSMITH_API_KEY": "key",
            "SLACK_BOT_TOKEN": "xoxb",
            "TOKEN": "t0ken",
        },
    )
    (corrected, everything, nobody) = config.routes
    assert config.secrets == ("hook-secret",)
    assert config.masked == {"hook-secret", "key", "xoxb", "t0ken"}
    assert config.rules == {"corrections": (ID,)}
    assert config.vars == {"quality_channel": "#llm-quality"}
    assert (corrected.id, corrected.key, corrected.keys) == ("corrections/corrected-answers", "corrections", (ID,))
    assert len(corrected.filters) == 4
    assert [action.name for action in corrected.actions] == [
        "add_to_dataset", "post_to_slack", "forward_webhook", "annotate",
    ]  # fmt: skip
    dataset, slack, forward, _ = corrected.actions
    assert dataset.when == [{"path": "$.feedback.correctness.correction", "exists": True}]
    assert dataset.params_where == ("routes", "corrections", "actions", 0, "add_to_dataset")
    assert slack.retry == RetrySpec(attempts=3)
    assert forward.params["headers"] == {"X-Token": "t0ken"}
    assert (everything.key, everything.keys, everything.name) == ("*", ("*",), "")
    assert nobody.keys == ("unmatched",)


def test_defaults_are_taken_over_piece_by_piece():
    config = parse("secrets: none\nroutes: {}\ndefaults: {timeout: 1m30s, retry: {attempts: 3, max: 5m}}\n")
    assert config.timeout == 90.0
    assert config.retry == RetrySpec(attempts=3, within=86400.0, shortest=1.0, longest=300.0)


def test_langsmiths_own_policy_is_a_word():
    config = parse("secrets: none\nroutes: {}\ndefaults: {retry: langsmith}\n")
    assert config.retry.policy == "langsmith"


def test_addresses_get_one_form():
    config = parse(
        "secrets: none\nroutes: {}\nlangsmith: {endpoint: 'http://h:1/api/', api_key: null}\n"
        "slack: {endpoint: 'http://h/api'}\n"
    )
    assert config.langsmith.endpoint == "http://h:1/api"
    assert config.slack.endpoint == "http://h/api/"


def test_an_empty_key_is_no_key():
    config = parse('secrets: none\nroutes: {}\nlangsmith: {api_key: "${KEY:-}"}\n')
    assert config.langsmith.api_key is None


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_one_secret_needs_no_list():
    assert parse("secrets: s3cret\nroutes: {}\n").secrets == ("s3cret",)


def test_only_the_author_can_switch_secrets_off():
    """A variable that happens to hold ``none`` is a secret, not the word."""
    assert parse('secrets: "${S}"\nroutes: {}\n', {"S": "none"}).secrets == ("none",)
    assert parse("secrets: [none]\nroutes: {}\n").secrets == ("none",)


NUMBERS = ["12345", "012345678", "000", "-5", "+5", "0x1F", "0o17", "1e5", "1.50", ".5", "5.", "1E+3", "00.10", "-.INF"]
NUMBERS += ["12345678901234567890123", ".inf", ".nan"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "text",
    [
        "secrets: [{}]\nroutes: {{}}\n",
        "secrets: {} # a comment\nroutes: {{}}\n",
        "secrets:\n  - {}\n  - other\nroutes: {{}}\n",
        "secrets: [other,{},{{}}]\nroutes: {{}}\n",
        "secrets: [&a {}, *a]\nroutes: {{}}\n",
        "secrets: x\nsigning_secrets: [ {} ]\nroutes: {{}}\n",
        "secrets: x\nlangsmith: {{api_key: {}}}\nroutes: {{}}\n",
        "secrets: x\nrules: {{r: {}}}\nroutes: {{}}\n",
        "secrets: x\nrules: {{r: [a, {}]}}\nroutes: {{}}\n",
    ],
)
def test_what_reads_as_a_number_is_quoted_as_it_is_written(text, number):
    """Zeros in front, signs and exponents are part of a secret, and the advice makes the file a good one."""
    hint = next(problem.hint for problem in problems_of(text.format(number)) if "quote it" in problem.hint)
    assert hint.endswith(f'"{number}"')
    if "signing" not in text and "{{}}]" not in text:
        assert number in str(parse(text.format(f'"{number}"')))


@pytest.mark.parametrize("written", ['"${S}"', '["${S}"]', '["good", "${S}"]'])
@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_secret_is_an_error_wherever_it_comes_from(written, value):
    (problem,) = problems_of(f"secrets: {written}\nroutes: {{}}\n", {"S": value})
    assert "a secret is empty" in problem.message
    assert problem.hint == "the variable is set, but empty: give it a value"


def test_an_empty_secret_in_the_file_is_shown_as_it_should_read():
    (problem,) = problems_of("secrets: ['']\nroutes: {}\n")
    assert 'secrets: ["${LANGSMITH_WEBHOOK_SECRET}"]' in problem.hint


def test_secrets_written_into_the_file_are_masked_too():
    config = parse("secrets: [one, two]\nroutes: {}\nlangsmith: {api_key: three}\nslack: {token: four}\n")
    assert config.masked == {"one", "two", "three", "four"}


def test_bodies_that_have_to_be_signed_need_no_secret_beside():
    config = parse("signing_secrets: [a-secret]\nroutes: {}\n")
    assert (config.secrets, config.signing_secrets, config.masked) == ((), ("a-secret",), {"a-secret"})
    assert "a-secret" not in dump_masked(config)
    assert parse('signing_secrets: "${S}"\nsecrets: [x]\nroutes: {}\n', {"S": "b"}).signing_secrets == ("b",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signing_secrets: []", "'signing_secrets' is empty"),
        ("signing_secrets: ['']", "a secret is empty"),
        ("signing_secrets: {a: b}", "'signing_secrets' must be a list of texts"),
        ("signing_secrets: [whsec_no!]", "the part after whsec_ is not base64"),
        ("signing_secrets: [whsec_]", "the part after whsec_ is not base64"),
        ("signing_secrets: [whsec_=]", "the part after whsec_ is not base64"),
        ("signing_secrets: [whsec_MfKQ9]", "the part after whsec_ is not base64"),
        ("signing_secrets: [whsec_MfKQ 9r8G]", "the part after whsec_ is not base64"),
        ('signing_secrets: ["v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]', "'v1,' is not part of the secret"),
        ('signing_secrets: ["v1,MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]', "'v1,' is not part of the secret"),
        ("signing_secrets: ['V1a,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']", "'v1,' is not part of the secret"),
        ("signing_secrets: [whpk_MfKQ9r8G]", "a key for asymmetric signatures"),
        ("signing_secrets: [WHSEC_MfKQ9r8G]", "whsec_ is written in lower case"),
        ("signing_secrets: ['secret: whsec_MfKQ9r8G']", "there is text before whsec_"),
        ("signing_secrets: [$SIGNING_SECRET]", "is taken as it is written"),
        ("signing_secrets: none", "would accept no signature"),
        ("secrets: none\nsigning_secrets: [a]", "'secrets: none' lets everybody post, signed or not"),
        ("secrets: []\nsigning_secrets: [a]", "'secrets' is empty"),
        ("signing_secret: a", "unknown key 'signing_secret'"),
    ],
)
def test_signing_secrets_that_would_check_nothing_are_errors(text, words):
    assert any(words in problem.message for problem in problems_of(f"{text}\nroutes: {{}}\n"))


def test_no_secret_is_in_the_representation():
    config = parse(
        "secrets: [s3cret]\nsigning_secrets: [h0ok]\nroutes: {}\nlangsmith: {api_key: k3y}\nslack: {token: t0ken}\n"
    )
    for secret in ("s3cret", "k3y", "t0ken", "h0ok"):
        assert secret not in repr(replace(config, source=None))


# --- rules and route keys --------------------------------------------------------------------------------------------


def test_a_rule_name_stands_for_one_id_or_several():
    config = parse(
        f"secrets: none\nrules: {{one: '{ID.upper()}', two: [a, b, a]}}\n"
        "routes: {one: {stop: true}, two: {stop: true}}\n"
    )
    assert config.rules == {"one": (ID,), "two": ("a", "b")}
    assert [route.keys for route in config.routes] == [(ID,), ("a", "b")]


@pytest.mark.parametrize("key", ["'*'", "unmatched", "alert", "prompt", "issue", "context_hub", ID])
def test_names_and_ids_are_route_keys(key):
    (route,) = routes_of(f"  {key}: {{actions: [{{log: {{}}}}]}}\n")
    assert route.keys == (key.strip("'"),)


def test_a_name_and_its_id_are_two_keys_with_routes_of_their_own():
    found = routes_of(f"  corrections: {{name: a, stop: true}}\n  {ID}: {{name: a, stop: true}}\n")
    assert [(route.id, route.keys) for route in found] == [("corrections/a", (ID,)), (f"{ID}/a", (ID,))]


def test_a_slip_in_a_route_key_is_never_taken_for_an_id():
    assert "is no name under 'rules'" in route_problems("  corections: {stop: true}\n")[0]
    assert "35 characters instead of 36" in route_problems(f"  {ID[:-1]}: {{stop: true}}\n")[0]


# --- routes ----------------------------------------------------------------------------------------------------------


def test_one_route_or_a_list_with_places_accordingly():
    found = routes_of("  alert: {stop: true}\n  issue:\n    - {stop: true}\n    - {name: b, stop: true}\n")
    assert [route.where for route in found] == [("routes", "alert"), ("routes", "issue", 0), ("routes", "issue", 1)]
    assert [route.id for route in found] == ["alert", "issue", "issue/b"]


def test_everything_a_route_can_say():
    (route,) = routes_of(
        "  alert: {name: x, for_each: event, stop: true, sample: 5%, enabled: false, filters: [{expr: 'true'}]}\n"
    )
    assert (route.for_each, route.stop, route.sample, route.enabled) == ("event", True, 0.05, False)
    assert route.filters == [{"expr": "true"}]


def test_what_a_route_leaves_out():
    (route,) = routes_of("  alert: {actions: [{log: {message: x}}]}\n")
    assert (route.for_each, route.stop, route.sample, route.enabled) == ("run", False, None, True)
    assert (route.filters, route.name) == ([], "")


def test_a_route_that_only_stops_needs_no_actions():
    assert routes_of("  alert: {stop: true}\n")[0].actions == ()
    assert "no actions" in route_problems("  alert: {stop: false}\n")[0]
    assert "no actions" in route_problems("  alert: {actions: []}\n")[0]


def test_numbers_and_switches_may_come_out_of_variables():
    text = 'secrets: none\nroutes: {alert: {enabled: "${ON}", sample: "${S}", stop: true}}\n'
    (route,) = parse(text, {"ON": "false", "S": "0.25"}).routes
    assert (route.enabled, route.sample) == (False, 0.25)
    assert "enabled" in problems_of(text, {"ON": "maybe", "S": "5%"})[0].message


def test_an_interpolated_parameter_stays_text():
    text = 'secrets: none\nroutes: {alert: {actions: [{log: {message: "${M}"}}]}}\n'
    assert parse(text, {"M": "0123"}).routes[0].actions[0].params == {"message": "0123"}


@pytest.mark.parametrize("name", ["a", "a-b_c.d", "größe", "7up", "x" * 80])
def test_names_that_can_be_used(name):
    assert routes_of(f"  alert: {{name: {name}, stop: true}}\n")[0].name == name


@pytest.mark.parametrize("name", ["a/b", "a b", "-a", "'*'", "x" * 81, '"a\\nb"'])
def test_names_that_cannot_be_used(name):
    assert "cannot be used" in route_problems(f"  alert: {{name: {name}, stop: true}}\n")[0]


# --- actions ---------------------------------------------------------------------------------------------------------


def action_of(written):
    return routes_of(f"  alert: {{actions: [{written}]}}\n")[0].actions[0]


def test_an_action_without_parameters():
    assert action_of("{log: {}}").params == {}
    (route,) = routes_of("  alert:\n    actions:\n      - log:\n")
    assert (route.actions[0].type, route.actions[0].params) == ("log", {})


def test_everything_that_stands_beside_an_action():
    action = action_of("{log: {message: x}, name: n, when: [{expr: 'true'}], timeout: 5s, retry: {within: 1h}}")
    assert (action.name, action.timeout, action.retry) == ("n", 5.0, RetrySpec(within=3600.0))
    assert action.when == [{"expr": "true"}]
    assert (action.where, action.params_where[-1]) == (("routes", "alert", "actions", 0), "log")


def test_a_retry_spec_takes_what_it_leaves_open_from_the_one_above():
    assert RetrySpec(attempts=3).over(DEFAULT_RETRY) == replace(DEFAULT_RETRY, attempts=3)


def test_a_parameter_may_be_called_like_an_engine_key():
    """Only what plainly is meant for the engine is refused inside the block."""
    action = action_of("{open_ticket: {name: x, timeout: 5, when: tomorrow, retry: true}}")
    assert action.params == {"name": "x", "timeout": 5, "when": "tomorrow", "retry": True}


def test_two_actions_of_one_type_need_names():
    found = routes_of("  alert: {actions: [{log: {}}, {log: {}, name: again}]}\n")
    assert [action.name for action in found[0].actions] == ["log", "again"]
    assert "two actions" in route_problems("  alert: {actions: [{log: {}, name: a}, {annotate: {}, name: a}]}\n")[0]


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_loaded_with_folders_relative_to_it(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "secret").write_text("from-file\n")
    path = tmp_path / "config.yaml"
    path.write_text('secrets: ["${file:secret}"]\nplugins: [./plugins, plugins]\nroutes: {}\n')
    config = load_config(path, environ={})
    assert config.file == str(path)
    assert config.plugins == (tmp_path / "plugins",)
    assert config.secrets == ("from-file",)


def test_a_file_that_is_not_there_is_an_error_with_its_name(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml", environ={})
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot read the configuration: No such file or directory"


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path, environ={})


def test_text_may_stand_in_for_a_files_content(tmp_path):
    config = load_config(tmp_path / "config.yaml", environ={}, text="secrets: none\nroutes: {}\n")
    assert config.file.endswith("config.yaml")


def test_the_process_environment_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET_FOR_THIS_TEST", "value")
    path = tmp_path / "config.yaml"
    path.write_text('secrets: ["${A_SECRET_FOR_THIS_TEST}"]\nroutes: {}\n')
    assert load_config(path).secrets == ("value",)


def test_a_pasted_text_sees_no_variables_no_files_no_folders():
    text = (
        'secrets: ["${S}", "${file:/etc/hostname}"]\nplugins: [/tmp, ./none]\nroutes: {}\n'
        'langsmith: {api_key: "${K:-x}", endpoint: "${E}"}\n'
    )
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert [problem.line for problem in caught.value.problems] == [4]  # a placeholder is no web address
    config = parse_config(text.replace(', endpoint: "${E}"', ""))
    assert config.secrets == ("<S>", "<file:/etc/hostname>")
    assert config.plugins == ()


# --- all at once -----------------------------------------------------------------------------------------------------


def test_problems_of_every_kind_come_out_together_in_the_order_of_the_file():
    text = (
        "secrets: [!odd '${S}']\n"
        "secrets: x\n"
        "unknown: 1\n"
        "defaults: {timeout: soon}\n"
        "routes:\n"
        "  alert: {sample: 7, actions: [{log: {}}]}\n"
        "  nobody: {stop: true}\n"
        "  issue: {filters: {}, actions: [{log: {a: {{ x }}}, annotate: {}}]}\n"
    )
    assert sorted({problem.line for problem in problems_of(text)}) == [1, 2, 3, 4, 6, 7, 8]


def test_reading_without_raising_leaves_what_is_sound_to_be_compiled(tmp_path):
    text = (
        "secrets: []\nroutes:\n  alert: {smaple: 1, actions: [{log: {message: x}}, {log: {}, annotate: {}}]}\n"
        "  issue: {stop: true}\n"
    )
    config = read_config(tmp_path / "c.yaml", environ={}, text=text)
    assert len(config.source.problems) == 3
    assert [route.id for route in config.routes] == ["alert", "issue"]
    assert [action.type for action in config.routes[0].actions] == ["log"]


def test_a_problem_in_what_a_missing_variable_would_be_is_not_reported_twice():
    (problem,) = problems_of('secrets: none\nroutes: {alert: {sample: "${S}", stop: true}}\n')
    assert "environment variable S" in problem.message


def test_a_hopeless_file_is_not_reported_without_end():
    problems = problems_of("secrets: none\nroutes: {}\n" + "".join(f"k{i}: 1\n" for i in range(2000)))
    assert len(problems) == 200


# --- hash and dump ---------------------------------------------------------------------------------------------------

GOOD = 'secrets: ["${S}"]\nroutes: {alert: {actions: [{log: {message: "${M:-hello}"}}]}}\n'


def hashes_of(text, environ, **more):
    config = parse(text, environ, **more)
    return config.hash, config.private_hash


def test_the_hash_changes_with_what_takes_effect_but_for_secrets():
    shown, private = hashes_of(GOOD, {"S": "a"})
    assert (len(shown), len(private)) == (12, 64)
    assert hashes_of("# a comment\n" + GOOD, {"S": "a"}) == (shown, private)
    assert parse(GOOD.replace("hello", "bye"), {"S": "a"}).hash != shown
    other = hashes_of(GOOD, {"S": "b"})
    assert other[0] == shown, "a secret cannot be guessed from what is shown"
    assert other[1] != private, "but that it changed is known"


def test_a_variable_is_a_secret_wherever_its_value_stands():
    hello, bye = (hashes_of(GOOD, {"S": "a", "M": value}) for value in ("hello", "bye"))
    assert hello[0] == bye[0] != parse(GOOD, {"S": "a"}).hash
    assert hello[1] != bye[1]
    assert hello[1] == parse(GOOD, {"S": "a"}).private_hash


@pytest.mark.parametrize(
    "text",
    [
        "secrets: [X]\nroutes: {}\n",
        "secrets: none\nlangsmith: {api_key: X}\nroutes: {}\n",
        "secrets: none\nslack: {token: X}\nroutes: {}\n",
        'secrets: [X]\nroutes: {alert: {actions: [{log: {message: "it is X, and X"}}]}}\n',
        'secrets: none\nroutes: {alert: {actions: [{log: {message: "${V}"}}]}}\n',
    ],
)
def test_no_secret_is_in_the_hash_that_is_shown(text):
    first, second = (hashes_of(text.replace("X", value), {"V": value}) for value in ("hunter2", "hunter3"))
    assert first[0] == second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize("place", ['rules: {r: ["${V}"]}', 'vars: {v: "${V}"}'])
def test_values_that_are_no_secrets_are_in_the_hash(place):
    text = f"secrets: none\n{place}\nroutes: {{}}\n"
    assert parse(text, {"V": ID}).hash != parse(text, {"V": ID.replace("1", "2")}).hash


def test_plug_ins_are_in_the_hash_by_name_and_content_and_not_by_place(tmp_path):
    def hashes(folder, **files):
        (tmp_path / folder / "plugins").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / "plugins" / f"{name}.py").write_text(content)
        return hashes_of("secrets: none\nplugins: [plugins]\nroutes: {}\n", {}, base_dir=tmp_path / folder)

    first = hashes("one", a="x = 1")
    assert hashes("two", a="x = 1") == first
    assert hashes("three", b="x = 1")[0] != first[0]
    changed = hashes("one", a="x = 2")
    assert changed[0] != first[0]
    assert changed[1] != first[1]
    assert hashes("one", _helper="y = 1")[0] != changed[0]


@pytest.mark.parametrize(("written", "days"), [("90d", 90), ("1d", 1), ("26w", 182)])
def test_how_long_langsmith_keeps_traces_is_a_setting(written, days):
    config = parse(f"secrets: none\nlangsmith: {{trace_retention: {written}}}\nroutes: {{alert: {{stop: true}}}}\n")
    assert config.langsmith.retention == days * 86400
    assert f"trace_retention: {written}" in dump_masked(config)


@pytest.mark.parametrize("written", ["0d", "23h", "3661d", "forever", "[]", "-1"])
def test_a_time_for_which_langsmith_keeps_no_traces_is_refused(written):
    with pytest.raises(ConfigError, match=r"trace_retention: .*write (a time from 1d to 3660d|it like)"):
        parse(f"secrets: none\nlangsmith: {{trace_retention: {written}}}\nroutes: {{alert: {{stop: true}}}}\n")


def test_the_hash_knows_the_order_of_routes():
    one, two = "  alert: {stop: true}\n", "  issue: {stop: true}\n"
    assert parse(f"secrets: none\nroutes:\n{one}{two}").hash != parse(f"secrets: none\nroutes:\n{two}{one}").hash


def test_the_dump_shows_what_takes_effect_and_no_secret():
    config = parse(
        'secrets: ["${S}", literal]\nlangsmith: {api_key: literal-key}\nvars: {a: "${V}"}\n'
        'routes: {alert: {actions: [{forward_webhook: {url: "http://h/${T}/x", headers: {n: "no", e: "$${x}"}}}]}}\n',
        {"S": "s3cret", "V": "shown", "T": "t0ken"},
    )
    text = dump_masked(config)
    for secret in ("s3cret", "literal", "literal-key", "t0ken"):
        assert secret not in text
    assert config.hash in text.splitlines()[0]
    assert "a: shown" in text
    assert "http://h/***/x" in text
    assert "timeout: 10s" in text
    assert "within: 1d" in text
    assert "endpoint: https://api.smith.langchain.com" in text
    assert "$${x}" in text


def test_an_address_out_of_a_variable_is_masked_in_the_dump():
    config = parse(
        'secrets: none\nroutes: {}\nlangsmith: {endpoint: "${E}"}\n', {"E": "https://user:pass@langsmith.example"}
    )
    assert "pass" not in dump_masked(config)


_TEXTS = st.text(max_size=12).filter(lambda text: text.isprintable())
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS | st.sampled_from(["no", "010", "0o17", "1e3", "~", "a\nb\n", "{{ x }}", "${A}", "<<", "#a", "*", "a: b"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(_TEXTS.filter(lambda key: "${" not in key), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(_TEXTS.filter(lambda key: "${" not in key), _TREES, max_size=4))
def test_what_is_dumped_is_read_back_as_the_same(tree):
    """PyYAML writes by YAML 1.1; whatever 1.2 would read differently must come out quoted."""
    config = replace(parse("secrets: none\nroutes: {}\n"), shown={"secrets": "none", "routes": {}, "vars": tree})
    assert parse(dump_masked(config)).vars == tree


# --- anything --------------------------------------------------------------------------------------------------------


def attempt(data, environ=None):
    """The configuration, or the problems. Anything else that is raised fails the test."""
    try:
        return parse_config(data, environ=environ or {}), ()
    except ConfigError as error:
        return None, error.problems


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_anything_at_all_is_read_or_refused_with_a_report(data):
    config, problems = attempt(data)
    assert bool(config) != bool(problems)


DESIGN = (Path(__file__).parent / "config_good" / "design.yaml").read_text()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_with_something_overwritten_is_read_or_refused_with_places(data):
    """What a slip of the finger does to a whole file."""
    start = data.draw(st.integers(0, len(DESIGN)))
    length = data.draw(st.integers(0, 3))
    typed = data.draw(st.text(alphabet="{}[]\"' :-#*&!|>\n\tx\\$%@", max_size=3))
    config, problems = attempt(DESIGN[:start] + typed + DESIGN[start + length :])
    assert config or problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)


_WORDS = st.sampled_from(
    ["secrets", "langsmith", "slack", "defaults", "plugins", "vars", "rules", "routes", "alert", "*", ID, "name", "log",
     "filters", "actions", "for_each", "stop", "sample", "enabled", "when", "retry", "timeout", "attempts", "within",
     "min", "max", "api_key", "endpoint", "token", "throttle", "none", "langsmith", "", "${A}", "${", "5%", "3s", "x/y"]
)  # fmt: skip
_ODD = st.recursive(
    _WORDS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=100)
@given(st.dictionaries(_WORDS, _ODD, max_size=6), st.dictionaries(_WORDS, _ODD, max_size=4), _ODD)
def test_any_tree_of_known_keys_is_read_or_refused_with_places(top, route, action):
    """Every setting with a value of every type, and every nesting of one in another."""
    tree = {"secrets": "none", **top, "routes": {"alert": [route, {"actions": [action, {"log": action}]}]}}
    config, problems = attempt(yaml.safe_dump(tree, allow_unicode=True), {"A": "value"})
    assert all(problem.line >= 1 for problem in problems)
    assert dump_masked(config) if config else problems


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "http://[::1]x/",
        "http://h:99999/",
        "http://h:port/",
        r"http://127.0.0.1\\@h/",
        r"http://h\u2028x/",
    ],
)
@pytest.mark.parametrize("block", ["langsmith", "slack"])
def test_an_endpoint_that_no_client_can_parse_is_no_web_address(block, address):
    with pytest.raises(ConfigError, match="is not a web address"):
        parse(f'secrets: none\n{block}: {{endpoint: "{address}"}}\nroutes: {{alert: {{actions: [{{log: {{}}}}]}}}}\n')


@pytest.mark.parametrize(
    "written", ["v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
@pytest.mark.parametrize("variable", [False, True])
def test_a_signing_secret_that_was_pasted_with_more_is_refused_with_the_form_that_works(written, variable):
    text = "signing_secrets: [{}]\nroutes: {{}}\n"
    environ = {"S": written} if variable else {}
    [problem] = problems_of(text.format('"${S}"' if variable else f'"{written}"'), environ)
    assert problem.hint == 'write it from whsec_ on: signing_secrets: ["whsec_…"]'
    assert "MfKQ" not in problem.message + problem.hint
    right = written[written.index("whsec_") :]
    assert parse(text.format(f'"{right}"')).signing_secrets == (right,)


ENDPOINTS = {"LANGSMITH_ENDPOINT": "http://127.0.0.1:1/api", "SLACK_ENDPOINT": "http://127.0.0.1:2/api/"}


@pytest.mark.parametrize("blocks", ["", "langsmith: {api_key: k}\nslack: {token: t}\n"])
def test_without_an_endpoint_the_variable_says_where_a_service_is(blocks):
    text = f"secrets: none\nroutes: {{}}\n{blocks}"
    config = parse_config(text, environ=ENDPOINTS)
    assert (config.langsmith.endpoint, config.slack.endpoint) == tuple(ENDPOINTS.values())
    assert config.masked == ({"k", "t"} if blocks else frozenset())
    assert "endpoint: http://127.0.0.1:1/api" in dump_masked(config)
    unset = parse_config(text, environ={"LANGSMITH_ENDPOINT": ""})
    assert unset.langsmith.endpoint == "https://api.smith.langchain.com"
    assert unset.hash == parse_config(text, environ={}).hash != config.hash
    assert parse_config(text).langsmith.endpoint == unset.langsmith.endpoint, "strangers' text sees no environment"


def test_an_endpoint_in_the_file_wins_over_the_variable():
    text = "secrets: none\nroutes: {}\nlangsmith: {endpoint: 'http://h:1'}\nslack: {endpoint: 'http://h:2/'}\n"
    config = parse_config(text, environ=ENDPOINTS)
    assert (config.langsmith.endpoint, config.slack.endpoint) == ("http://h:1", "http://h:2/")


@pytest.mark.parametrize("value", ["nonsense", "http://169.254.169.254/", "$X"])
def test_a_variable_that_is_no_endpoint_is_named(value):
    with pytest.raises(ConfigError) as raised:
        parse_config("secrets: none\nroutes: {}\nslack: {token: t}\n", environ={"SLACK_ENDPOINT": value})
    (problem,) = raised.value.problems
    assert problem.message.startswith(f"SLACK_ENDPOINT={value!r} is ")
    assert problem.hint == "write it like https://slack.com/api/"
