"""An action's parameters against its model, at load and at each delivery."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from engine import EscapePayload, Params
from engine.action.params import Leaves, escaped_params, literal_faults, validate_rendered
from engine.core.errors import TemplateError


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
    names: str | list[str] | None = None
    on: bool = False
    limit: Annotated[int, Field(gt=0)] = 1
    short: Annotated[str, Field(min_length=1)] = "s"

    @model_validator(mode="after")
    def _not_both(self) -> Sample:
        if self.inner and self.blocks:
            raise ValueError("give inner or blocks, not both")
        return self


def faults(tree: dict[str, Any], *templated: tuple[str | int, ...], mixed: frozenset[Any] = frozenset()) -> list[str]:
    return [
        f"{'.'.join(map(str, fault.where))}|{fault.sentence}|{fault.hint}"
        for fault in literal_faults(Sample, tree, Leaves(frozenset(templated) | mixed, mixed))
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
        ({"title": 5}, "title|'title' must be a text, not the number 5|write title: \"5\""),
        ({"title": True}, "title|'title' must be a text, not true|write title: \"true\""),
        ({"title": ["x"]}, "title|'title' must be a text, not a list|"),
        (
            {"title": "x", "count": "5"},
            "count|'count' must be a whole number, not '5'|write it without quotes: count: 5",
        ),
        (
            {"title": "x", "priority": "hihg"},
            "priority|'priority' must be low or high, not 'hihg'|did you mean 'high'?",
        ),
        ({"title": "x", "priority": "LOW"}, "priority|'priority' must be low or high, not 'LOW'|did you mean 'low'?"),
        ({"title": "x", "priority": "p1"}, "priority|'priority' must be low or high, not 'p1'|"),
        ({"title": "x", "names": 7}, "names|'names' must be a text or a list, not the number 7|write names: \"7\""),
        ({"title": "x", "names": ["a", 7]}, "names.1|'names[1]' must be a text, not the number 7|write \"7\""),
        ({"title": "x", "on": "yes"}, "on|'on' must be true or false, not 'yes'|write on: true"),
        (
            {"title": "x", "blocks": {"a": 1}},
            "blocks|'blocks' must be a list, not a mapping|begin each item of a list with '- '",
        ),
        (
            {"title": "x", "inner": "k"},
            "inner|'inner' must be a mapping, not 'k'|a mapping has names: inner: {NAME: \"k\"}",
        ),
        ({"title": "x", "limit": 0}, "limit|'limit' must be greater than 0|"),
        ({"title": "x", "short": ""}, "short|'short' is empty|"),
        ({"title": "x", "inner": {"key": "a"}, "blocks": [{}]}, "|give inner or blocks, not both|"),
    ],
)
def test_a_wrong_literal_is_named_with_its_place_and_the_way_out(tree: dict[str, Any], fault: str) -> None:
    assert fault in faults(tree)


def test_what_a_template_will_produce_is_left_for_later() -> None:
    tree = {"title": "{{ x }}", "count": "{{ n }}", "inner": "{{ i }}", "blocks": ["{{ b }}"]}
    assert faults(tree, ("title",), ("count",), ("inner",), ("blocks", 0)) == []


def test_a_list_or_a_mapping_stays_one_whatever_templates_are_in_it() -> None:
    found = faults(
        {"title": ["{{ x }}"], "blocks": {"a": "{{ x }}"}, "inner": [{"key": "{{ x }}"}]},
        *(("title", 0), ("blocks", "a"), ("inner", 0, "key")),
    )
    assert found == [
        "title|'title' must be a text, not a list|",
        "inner|'inner' must be a mapping, not a list|",
        "blocks|'blocks' must be a list, not a mapping|begin each item of a list with '- '",
    ]
    assert faults({"title": "x", "names": ["{{ x }}"]}, ("names", 0)) == []
    assert (
        faults({"title": "x", "inner": {"key": "{{ x }}", "score": "{{ y }}"}}, ("inner", "key"), ("inner", "score"))
        == []
    )


def test_an_unknown_key_is_a_fault_even_if_its_value_is_a_template() -> None:
    assert faults({"title": "x", "titel": "{{ x }}"}, ("titel",)) == [
        "titel|unknown parameter 'titel'|did you mean 'title'?"
    ]


def test_a_misspelt_name_is_not_reported_as_missing_too() -> None:
    assert faults({"titel": "x"}) == ["titel|unknown parameter 'titel'|did you mean 'title'?"]


def test_what_a_union_says_of_one_value_is_one_fault() -> None:
    assert len(faults({"title": "x", "names": 7})) == 1
    assert len(faults({"title": "x", "names": ["a", 7, None]})) == 2


def test_a_template_with_text_around_it_can_only_be_a_text() -> None:
    tree = {"title": "a {{ x }}", "count": "n {{ x }}", "names": "b {{ x }}"}
    message = "'count' must be a whole number, and a template with text around it always gives a text"
    hint = 'write the template alone, so that it keeps its type: count: "{{ x }}"'
    assert faults(tree, mixed=frozenset({("title",), ("count",), ("names",)})) == [f"count|{message}|{hint}"]


def test_what_a_text_may_say_is_left_for_later_whatever_is_around_its_template() -> None:
    tree = {"title": "x", "priority": "{{ x }}w", "colour": "{{ x }}d"}
    assert faults(tree, mixed=frozenset({("priority",), ("colour",)})) == []


def test_rendered_parameters_are_checked_strictly() -> None:
    assert validate_rendered(Sample, {"title": "x", "count": 3}).count == 3
    with pytest.raises(TemplateError, match="must be a whole number, not a text") as caught:
        validate_rendered(Sample, {"title": "x", "count": "3"})
    assert caught.value.where == ("count",)


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (0.25, "0.25"), (True, "true"), (10**30, "1" + "0" * 30)])
def test_a_number_out_of_a_template_becomes_the_text_that_is_wanted(value: Any, text: str) -> None:
    leaves = Leaves(frozenset({("title",), ("names", 0)}))
    assert validate_rendered(Sample, {"title": value}, leaves).title == text
    assert validate_rendered(Sample, {"title": "x", "names": [value]}, leaves).names == [text]


@pytest.mark.parametrize(
    ("place", "text", "value"),
    [
        (("inner", "score"), "0.001", 0.001),
        (("inner", "score"), "-3", -3),
        (("inner", "score"), "1e-3", 0.001),
        (("count",), "12", 12),
        (("on",), "true", True),
        (("on",), "false", False),
    ],
)
def test_a_text_out_of_a_template_becomes_the_number_or_boolean_that_is_wanted(
    place: Any, text: str, value: Any
) -> None:
    tree: dict[str, Any] = {"title": "x", "inner": {"key": "k"}}
    owner = tree[place[0]] if len(place) > 1 else tree
    owner[place[-1]] = text
    made: Any = validate_rendered(Sample, tree, Leaves(frozenset({place})))
    for name in place:
        made = getattr(made, name)
    assert (made, type(made)) == (value, float if place[-1] == "score" else type(value))


@pytest.mark.parametrize("text", ["", " 1", "01", "1_000", "0x1", "yes", "True", "nan", "1" * 500])
def test_a_text_that_spells_none_stays_wrong(text: str) -> None:
    for name in ("count", "on"):
        with pytest.raises(TemplateError, match=r"must be (a whole number|true or false), not a text"):
            validate_rendered(Sample, {"title": "x", name: text}, Leaves(frozenset({(name,)})))


def test_a_parameter_that_belongs_under_another_is_reported_with_its_place() -> None:
    assert faults({"title": "x", "score": 1}) == [
        "score|unknown parameter 'score'|it belongs under inner: inner: {score: …}"
    ]


def test_a_number_that_is_wanted_as_one_stays_one() -> None:
    leaves = Leaves(frozenset({("inner", "score")}))
    assert validate_rendered(Sample, {"title": "x", "inner": {"key": "k", "score": 1}}, leaves).inner.score == 1


def test_a_number_that_no_template_made_stays_wrong() -> None:
    with pytest.raises(TemplateError, match="must be a text, not a number"):
        validate_rendered(Sample, {"title": 7}, Leaves(frozenset({("names",)})))


def test_neither_null_nor_a_list_becomes_a_text() -> None:
    for value in (None, [1], {"a": 1}):
        with pytest.raises(TemplateError, match="must be a text, not"):
            validate_rendered(Sample, {"title": value}, Leaves(frozenset({("title",)})))


def test_the_escaped_parameters_are_those_marked() -> None:
    assert escaped_params(Sample) == {"title"}
