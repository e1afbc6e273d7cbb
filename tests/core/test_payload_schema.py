"""What LangSmith's schema says of a webhook's values."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.payload_schema import OFTEN_NULL, RUN_FIELDS, RUN_KINDS, is_open, kind_at
from engine.core.vocabulary import COMPUTED, undocumented
from engine.rules.templates.sandbox import DOCUMENT_NAMES
from engine.testing import payloads


@pytest.mark.parametrize("payload", [payloads.seed(), payloads.complete()], ids=["seed", "complete"])
def test_every_field_of_the_example_payloads_is_known(payload: dict[str, Any]) -> None:
    assert set(payload) <= DOCUMENT_NAMES
    for run in payload["runs"]:
        assert {"is_root", "tenant_id", "modified_at"} <= set(run) <= RUN_FIELDS
        assert [undocumented(["run", field]) for field in run] == [None] * len(run)


def test_kinds_are_those_of_the_example_payloads() -> None:
    kinds = {str: {"text", "time"}, int: {"number"}, float: {"number"}, bool: {"boolean"}, list: {"list"}}
    for run in payloads.complete()["runs"]:
        for field, value in run.items():
            if value is not None:
                assert RUN_KINDS[field] in kinds.get(type(value), {"object"}), field
    for key, statistics in payloads.feedback_stats().items():
        assert kind_at(["feedback_stats", key]) == "object"
        for name, value in statistics.items():
            assert value is None or kind_at(["run", "feedback_stats", key, name]) in kinds.get(type(value), {"object"})


def test_fields_that_are_often_null_are_fields() -> None:
    assert OFTEN_NULL <= RUN_FIELDS | COMPUTED


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        (["runs"], "list"),
        (["payload", "runs"], "list"),
        (["runs", None], "object"),
        (["runs", None, "tags"], "list"),
        (["run", "tags", 0], "text"),
        (["payload", "runs", 0, "extra", "metadata"], "object"),
        (["run", "extra", "metadata", "env"], None),
        (["run", "latency"], "number"),
        (["feedback_stats"], "object"),
        (["feedback_stats", "x", "avg"], "number"),
        (["feedback", "x"], "object"),
        (["feedback", "x", "score"], None),
        (["event"], "object"),
        (["payload", "event"], None),
        (["event", "kind"], None),
        (["anything"], None),
        ([], None),
    ],
)
def test_kind_of_what_stands_at_a_place(steps: list[Any], kind: str | None) -> None:
    assert kind_at(steps) == kind


@pytest.mark.parametrize(
    ("steps", "part"),
    [
        (["run", "extra", "metadata", "env", "x"], ("extra", "metadata", "env")),
        (["runs", None, "extra", "metadata"], None),
        (["payload", "runs", 0, "error"], ("error",)),
        (["run", "outputs", "answer"], ("outputs",)),
        (["run", "feedback_stats", "a", "avg"], ("feedback_stats", "a")),
        (["feedback", "a", "score"], ("feedback", "a")),
        (["run", "name"], None),
        (["run"], None),
        (["vars", "error"], None),
    ],
)
def test_what_may_be_absent(steps: list[Any], part: tuple[Any, ...] | None) -> None:
    assert is_open(steps) == part
