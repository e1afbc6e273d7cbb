"""An action's parameters against its model, at load and at each delivery."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import model_validator

from engine import EscapePayload, Params
from engine.errors import TemplateError
from engine.params import escaped_params, literal_faults, validate_rendered


class Colour(StrEnum):
    RED = "red"


class Inner(Params):
    key: str
    score: float | None = None


class Sample(Params):
    title: Annotated[str, EscapePayload()]
    priority: Literal["low", "high"] = "low"
    count: int = 1
    inner: Inner | None = None
    blocks: list[dict[str, Any]] | None = None
    colour: Colour = Colour.RED

    @model_validator(mode="after")
    def _not_both(self) -> Sample:
        if self.inner and self.blocks:
            raise ValueError("give inner or blocks, not both")
        return self


def faults(tree: dict[str, Any], *templated: tuple[str | int, ...]) -> list[str]:
    return [
        f"{'.'.join(map(str, where))}|{message}|{hint}"
        for where, message, hint, _ in literal_faults(Sample, tree, templated)
    ]


def test_good_parameters_have_no_faults() -> None:
    assert faults({"title": "x", "inner": {"key": "k", "score": 1}, "colour": "red"}) == []


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({}, "|parameter 'title' is missing|add title: …"),
        ({"title": "x", "titel": 1}, "titel|unknown parameter 'titel'|did you mean 'title'?"),
        (
            {"title": "x", "inner": {"kee": 1, "key": "a"}},
            "inner.kee|unknown parameter 'inner.kee'|did you mean 'key'?",
        ),
        ({"title": 5}, "title|parameter 'title': input should be a valid string (got a number)|"),
        ({"title": "x", "count": "5"}, "count|parameter 'count': input should be a valid integer (got a text)|"),
        (
            {"title": "x", "priority": "hihg"},
            "priority|parameter 'priority': input should be 'low' or 'high' (got a text)|",
        ),
        ({"title": "x", "inner": {"key": "a"}, "blocks": [{}]}, "|give inner or blocks, not both|"),
    ],
)
def test_a_wrong_literal_is_named_with_its_place_and_the_way_out(tree: dict[str, Any], fault: str) -> None:
    assert fault in faults(tree)


def test_what_a_template_will_produce_is_left_for_later() -> None:
    tree = {"title": "{{ x }}", "count": "{{ n }}", "inner": "{{ i }}", "blocks": ["{{ b }}"]}
    assert faults(tree, ("title",), ("count",), ("inner",), ("blocks", 0)) == []


def test_an_unknown_key_is_a_fault_even_if_its_value_is_a_template() -> None:
    assert faults({"title": "x", "titel": "{{ x }}"}, ("titel",)) == [
        "titel|unknown parameter 'titel'|did you mean 'title'?"
    ]


def test_rendered_parameters_are_checked_strictly() -> None:
    assert validate_rendered(Sample, {"title": "x", "count": 3}).count == 3
    with pytest.raises(TemplateError, match="'count': input should be a valid integer"):
        validate_rendered(Sample, {"title": "x", "count": "3"})


def test_the_escaped_parameters_are_those_marked() -> None:
    assert escaped_params(Sample) == {"title"}
