"""The page about conditions says of every operator what it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.config.yaml.read import read_yaml
from engine.core.truth import Truth
from engine.rules.conditions.operators import OPERATORS
from engine.rules.conditions.quantifiers import compile_quantifier
from tests.rules.conditions.test_conditions import compiled, document, verdict

PAGE = (Path(__file__).parents[1] / "docs" / "conditions.md").read_text()
ROWS = re.findall(r"^\| `([a-z_]+: .+?)` \| (.+?) \| `(.+?)` \| `(.+?)` \|$", PAGE, re.MULTILINE)


def truth_of(condition: dict[str, Any], value: Any) -> Truth:
    if "count" not in condition:
        return verdict(condition, value)
    return compiled([{"path": "$.v[*]", **condition}]).check(document(v=value))


@pytest.mark.parametrize(("operator", "good", "bad"), [(row[0], row[2], row[3]) for row in ROWS])
def test_an_operator_holds_for_what_the_page_says_and_not_for_the_other(operator: str, good: str, bad: str) -> None:
    condition = read_yaml(operator, "page").tree
    assert truth_of(condition, json.loads(good)) is Truth.TRUE
    assert truth_of(condition, json.loads(bad)) is Truth.FALSE


def test_every_operator_is_on_the_page_in_order() -> None:
    assert list(dict.fromkeys(row[0].partition(":")[0] for row in ROWS)) == list(OPERATORS)
    types = next(row[1] for row in ROWS if row[0].startswith("type"))
    for name in re.findall(r"`\"?(\w+)\"?`", types):
        assert compiled([{"path": "$.v", "type": name}])


def test_every_quantifier_on_the_page_is_one() -> None:
    table = PAGE.partition("| quantifier |")[2].partition("## ")[0]
    named = re.findall(r"`([^`]+)`", table)
    assert len(named) == 7
    for text in named:
        assert compile_quantifier(read_yaml(text, "page").tree)


def test_the_pages_conditions_load() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert compiled(read_yaml(block, "page").tree["filters"])
    for text in re.findall(r"`(\{path: .*?\})`", PAGE):
        assert compiled([read_yaml(text, "page").tree])


def test_what_is_absent_is_as_the_page_says() -> None:
    doc = document()
    assert compiled([{"path": "$.run.nothing", "eq": 1}]).check(doc) is not Truth.TRUE
    for condition in ({"exists": False}, {"empty": True}):
        assert compiled([{"path": "$.v", **condition}]).check(doc) is Truth.TRUE
