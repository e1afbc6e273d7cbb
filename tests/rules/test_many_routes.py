"""Configurations of ten thousand rules: they load, in a time and at a cost that grow with what differs in them."""

from __future__ import annotations

import gc
import threading
import time
from uuid import UUID

import pytest

from engine.core.errors import ConfigError, PathError, TemplateError
from engine.core.positions import Source
from engine.rules.jsonpath import Paths
from engine.rules.lint.configuration import lint
from engine.rules.reload import Loader
from engine.rules.templates import Templates, inspector
from engine.rules.templates.sandbox import Sandbox

ROUTE = """  {rule}:
    name: route-{number}
    filters:
      - {{path: "$.runs[*].status", eq: error}}
      - {{path: "$.runs[*].extra.metadata.team", eq: team-{number}}}
      - {{expr: "run.latency > 10"}}
    actions:
      - post_to_slack:
          {{channel: "#team-{number}", text: "<{{{{ run.url }}}}|{{{{ run.name }}}}> failed: {{{{ run.error }}}}"}}
"""


def configuration(count, route=ROUTE):
    head = "secrets: [s3cret-value-long]\nslack: {token: xoxb-1}\nroutes:\n"
    return head + "".join(route.format(rule=UUID(int=number, version=4), number=number) for number in range(count))


@pytest.fixture
def load(tmp_path):
    def loaded(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return Loader(path, {}).load()

    return loaded


def test_ten_thousand_rules_with_a_route_each_are_loaded_and_checked(load):
    begun = time.process_time()
    loaded = load(configuration(10_000))
    assert lint(loaded) == []
    assert len(loaded.router.routes) == len(loaded.router.by_key) == 10_000
    # It takes 7 s, or 15 on a machine that is busy otherwise. What grows with the square of the routes takes minutes.
    assert time.process_time() - begun < 60


async def test_while_many_routes_are_loaded_no_full_collection_stops_the_event_loop(tmp_path):
    path, generations = tmp_path / "config.yaml", set()
    path.write_text(configuration(1000))
    loader = Loader(path, {})
    await loader.load_offloaded()  # which imports what the actions need

    def collected(phase, info):
        if phase == "stop" and gc.get_threshold()[2] == 1_000_000:
            generations.add(info["generation"])

    gc.callbacks.append(collected)
    try:
        await loader.load_offloaded()
    finally:
        gc.callbacks.remove(collected)
    assert generations == {0, 1}


def test_what_routes_have_in_common_is_compiled_once(load, monkeypatch):
    compiled = []
    from_string = Sandbox.from_string
    monkeypatch.setattr(Sandbox, "from_string", lambda self, tree: compiled.append(tree) or from_string(self, tree))
    load(configuration(50))
    # The text, the expression, and each tag of the text by itself, to see whether it leads to an address.
    assert len(compiled) == 5


def test_a_mistake_that_routes_have_in_common_is_reported_at_each(load):
    text = configuration(3).replace("run.latency > 10", "run.latency >").replace("run.error", "runn.error")
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert [problem.line for problem in caught.value.problems] == [9, 12, 18, 21, 27, 30]


def test_a_text_is_compiled_for_each_way_in_which_it_is_used():
    templates = Templates()
    tree = {"text": "{{ run.name }}", "url": "{{ run.name }}", "{{ run.name }}": 1}
    compiled = templates.compile(tree, escape=frozenset({"text"}))
    document = {"run": {"name": "a<b"}}
    assert compiled.render(document) == {"text": "a&lt;b", "url": "a<b", "a<b": 1}


def test_names_that_exist_in_one_place_only_are_distinguished():
    templates = Templates()
    with pytest.raises(TemplateError):
        templates.compile("{{ items | length }}")
    placed = templates.knowing(frozenset({"items", "digest"}))
    assert placed.compile("{{ items | length }}").render({"items": [1, 2]}) == 2
    with pytest.raises(TemplateError):
        templates.compile("{{ items | length }}")
    with pytest.raises(TemplateError):
        templates.expression("items | length > 1")
    assert placed.expression("items | length > 1").evaluate({"items": [1, 2]}) is True


def test_the_place_of_a_failure_is_that_of_the_text_that_failed():
    template = Templates().compile({"a": {"b": "x {{ run.name }}"}, "c": ["x {{ run.name }}"]})
    source = Source("c.yaml")
    with pytest.raises(TemplateError) as first:
        template.render({"run": {}})
    assert first.value.where == ("a", "b")
    assert source.problems == []


def test_a_path_is_compiled_once_and_a_mistake_in_it_is_reported_each_time():
    paths = Paths()
    assert paths.compile("$.runs[*].status") is paths.compile("$.runs[*].status")
    for _ in range(2):
        with pytest.raises(PathError):
            paths.compile("$.runs[")
    assert paths.compile("$.a").find({"a": 1}) == [1]


def test_paths_are_compiled_by_several_threads_at_once():
    paths, found = Paths(), []

    def work(number):
        found.extend(paths.compile(f"$.a{index % 50}[?(@.b > {number})].c").source for index in range(200))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 800


def test_routes_that_are_never_reached_are_found_among_many(load):
    route = "  {rule}:\n    - {{name: a, stop: true, actions: [{{log: {{message: x}}}}]}}\n"
    route += "    - {{name: b, stop: true, actions: [{{log: {{message: x}}}}]}}\n"
    remarks = lint(load(configuration(300, route)))
    assert len(remarks) == 200  # as many as are recorded
    assert remarks[0].message.endswith("/a' before it matches everything and stops")
    assert "/b' is never reached" in remarks[0].message


def test_all_warnings_read_each_text_once(load, monkeypatch):
    loaded, read = load(configuration(20)), []
    for name in ("parse", "parse_expression"):
        real = getattr(inspector, name)
        monkeypatch.setattr(inspector, name, lambda sandbox, text, real=real: read.append(text) or real(sandbox, text))
    lint(loaded)
    own = [text for text in read if "run.url" in text]
    assert own
    assert len(own) == len(set(own))
    assert len(read) <= 3 * 20
