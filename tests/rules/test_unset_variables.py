"""A variable that is not set: one message, and no second one."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.action.registry import load_installed
from engine.config import read_config
from engine.config.variables import MASK
from engine.config.yaml.read import read_yaml
from engine.core.errors import ConfigError
from engine.rules.compile import compile_router
from engine.rules.lint.configuration import lint, warn_of_unset
from engine.rules.reload import Loader

SHARES = 6
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
MANY = """
secrets: ["${S1}", "${S2}"]
signing_secrets: "${S3}"
langsmith: {api_key: "${KEY}", endpoint: "${ENDPOINT}", trace_retention: "${AGE}", workspace_id: "${WS}"}
slack: {token: "${TOKEN}", endpoint: "https://${SLACK_HOST}/api"}
network: {allow: ["${NET}"]}
defaults: {timeout: "${TIMEOUT}", retry: {attempts: "${N}", within: "${AGE}"}}
limits: {"*": {rate: "${RATE}", concurrency: "${N}"}}
retention: {dead: "${AGE}", max_size: "${SIZE}"}
plugins: ["${PLUGINS}"]
vars: {channel: "${CHANNEL}", limit: "${LIMIT}", deep: {host: "${file:secrets/host}"}}
rules: {mine: "${RULE}", others: ["${RULE_2}", "${RULE_3}"]}
routes:
  mine:
    - name: "${NAME_1}"
      sample: "${SHARE}"
      stop: "${STOP}"
      filters:
        - {path: "$.runs[*].name", eq: "${TEAM}"}
        - {path: "$.runs[?(@.total_tokens > ${LIMIT})].name", exists: true}
        - {path: "$.run.latency", gt: "${LIMIT}"}
        - {path: "$.run.latency", between: ["${LIMIT}", "${LIMIT_2}"]}
        - {path: "$.runs[*].name", matches: "^${TEAM}-"}
        - {expr: "run.name == '${TEAM}' and run.latency > ${LIMIT} and run.id in vars.channel"}
      actions:
        - post_to_slack: {channel: "{{ vars.channel }}", text: "for ${TEAM}: {{ run.name }}"}
        - post_to_slack: {channel: "${CHANNEL}", text: "hello"}
          name: "${NAME_2}"
          active: {timezone: "${TZ}", days: "${DAYS}", hours: "${HOURS}", otherwise: "${OTHERWISE}"}
        - post_to_slack: {channel: "${CHANNEL}", text: "hello"}
          name: "${NAME_3}"
          throttle: {every: "${EVERY}", by: "{{ run.name }}-${TEAM}"}
        - forward_webhook: {url: "https://${HOST}/${PATH_OF_IT}?key=${KEY}"}
          retry: "${RETRY}"
        - forward_webhook: {url: "https://{{ vars.deep.host }}/", headers: {X-Key: "${file:/none/there}"}}
          name: other
        - of_a_plugin: {size: "${N}"}
  others:
    - name: "${NAME_4}"
      wait_for: {feedback: "${FEEDBACK}", up_to: "${EVERY}"}
      actions:
        - annotate: {queue: "${QUEUE}"}
    - name: "${NAME_5}"
      actions:
        - add_to_dataset: {dataset: "${DATASET}", split: "${SPLIT}", inputs: "{{ run.inputs }}"}
"""


def load(path: Path, text: str, **how: Any):
    path.write_text(text)
    return Loader(path, {}, **how).load()


def test_a_configuration_without_any_variable_set_is_checked_whole(tmp_path: Path) -> None:
    loaded = load(tmp_path / "c.yaml", MANY, stand_ins=True)
    names = {one.reference for one in loaded.config.unset}
    assert {"S1", "TEAM", "LIMIT", "file:secrets/host", "file:/none/there", "PLUGINS"} <= names
    warnings = warn_of_unset(loaded.config)
    assert len(warnings) == len(names)
    assert lint(loaded) == []
    limit = next(one for one in warnings if "variable LIMIT " in one.message)
    assert limit.message == "the environment variable LIMIT is not set (also used in lines 20, 21, 22, 24)"
    assert limit.line == 11
    assert "engine serve needs it: set it" in limit.hint


def test_what_serves_refuses_it_with_one_problem_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "c.yaml", MANY)
    messages = [problem.message for problem in refused.value.problems]
    named = {one.reference for one in load(tmp_path / "c.yaml", MANY, stand_ins=True).config.unset}
    assert len(messages) == len(named)
    assert all("is not set" in message or message.startswith("cannot read") for message in messages)


def test_mistakes_beside_a_stand_in_are_found(tmp_path: Path) -> None:
    text = MANY.replace('"for ${TEAM}: {{ run.name }}"', '"for ${TEAM}: {{ run.name | uper }}"').replace(
        'of_a_plugin: {size: "${N}"}', "lg:"
    )
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "c.yaml", text.replace('plugins: ["${PLUGINS}"]\n', ""), stand_ins=True)
    assert len(refused.value.problems) == 2


def test_stand_ins_for_secrets_are_shown_as_secrets_are(tmp_path: Path) -> None:
    """So the hash of the file is the same with and without them."""
    text = 'secrets: ["${S}"]\nslack: {token: "${T}"}\nroutes: {}\n'
    path = tmp_path / "c.yaml"
    path.write_text(text)
    without = Loader(path, {}, stand_ins=True).load().config
    with_all = Loader(path, {"S": "a-long-secret", "T": "xoxb-1"}).load().config
    assert without.shown["secrets"] == [MASK]
    assert without.hash == with_all.hash
    assert without.masked == frozenset()


def scalars(tree: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from scalars(item, (*where, key))
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from scalars(item, (*where, index))
    else:
        yield where


def kinds(tree: Any) -> list[tuple[Any, ...]]:
    """The place of one value of each kind, but of no source: in these a variable is a value only."""
    places: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for where in scalars(tree):
        if where[-1] not in ("expr", "path", "matches"):
            places.setdefault(tuple(step for step in where if isinstance(step, str)), where)
    return list(places.values())


@pytest.mark.parametrize("share", range(SHARES))
def test_in_the_place_of_any_one_value_it_causes_no_problem(tmp_path: Path, share: int) -> None:
    """Each kind of value of the example in its turn. Every one takes a whole compilation, hence the shares."""
    tree = read_yaml(EXAMPLE.read_text(), "example").tree
    registry, found = load_installed(), []
    for where in kinds(tree)[share::SHARES]:
        owner = changed = deepcopy(tree)
        for step in where[:-1]:
            owner = owner[step]
        owner[where[-1]] = "${NONE_OF_IT}"
        try:
            text = yaml.dump(changed, sort_keys=False, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
            config = read_config(tmp_path / "c.yaml", environ={}, text=text, stand_ins=True)
            compile_router(config, registry)
            assert "NONE_OF_IT" in {one.reference for one in config.unset}
        except ConfigError as error:
            found.append((where, [problem.message for problem in error.problems]))
    assert found == []
