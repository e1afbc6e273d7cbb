"""Holds what a LangSmith stand-in was asked, and what it answered, against LangSmith's own OpenAPI document.

The document is not part of the repository: it is looked for in ``shared`` beside the checkout.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from engine.testing import Recorded

DOCUMENT = Path(__file__).resolve().parents[2] / "shared" / "langsmith-openapi-subset.json"
ABSENT = f"LangSmith's OpenAPI document is not at ../shared/{DOCUMENT.name}: requests to the stand-in are not checked"
#: What a run of continuous integration without it ends with.
MISSING_IN_CI = f"{ABSENT}. With CI=true it must be there: put it there, or unset CI"

#: Endpoints that the SDK calls and the document does not have.
NOT_IN_DOCUMENT = {
    ("GET", "/ok"),
    ("GET", "/sessions"),
    ("POST", "/platform/annotation-queues/{id}/items"),
    ("GET", "/platform/annotation-queues/{id}/items"),
    ("PUT", "/runs/{id}/share"),
    ("POST", "/v2/runs/{id}/share"),
    ("GET", "/v2/runs/rules"),
}
#: Fields that the SDK sends and the document does not know yet.
NEWER_FIELDS = {("POST", "/api/v1/feedback"): {"extend_trace_retention"}}
#: Statuses that any endpoint may give, listed or not (FastAPI's documents list 200 and 422 only).
ANYWHERE = {400, 401, 403, 404, 409, 422, 429}
_URN = "urn:langsmith"


def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(UUID(value))


def _is_time(value: object) -> bool:
    """ISO 8601. The time zone may be missing: LangSmith leaves it out of a run's times."""
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


class OpenApi:
    """The document, compiled on demand."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._registry = Registry().with_resource(_URN, Resource(contents=document, specification=DRAFT202012))
        self._formats = FormatChecker(formats=())
        self._formats.checks("uuid", ValueError)(_is_uuid)
        self._formats.checks("date-time", ValueError)(_is_time)
        self._validators: dict[tuple[str, ...], Draft202012Validator] = {}
        self._paths = [(path, _compile(path)) for path in sorted(document["paths"], key=lambda path: path.count("{"))]
        self._absent = [(method, _compile(path)) for method, path in NOT_IN_DOCUMENT]

    def problems(self, requests: Iterable[Recorded]) -> list[str]:
        """Everything that LangSmith would not have understood, or would not have said."""
        return [problem for recorded in requests for problem in self._check(recorded)]

    def _check(self, recorded: Recorded) -> list[str]:
        if recorded.fault is not None or not recorded.status:
            return []
        if any(method == recorded.method and path.fullmatch(recorded.route) for method, path in self._absent):
            return []
        path = self._find(recorded)
        if path is None:
            return [f"{recorded.method} {recorded.path}: not in the document"]
        where = ("paths", path, recorded.method.lower())
        found = self._check_answer(recorded, where)
        if recorded.status not in (400, 422):
            found += [*self._check_query(recorded, where), *self._check_body(recorded, where, path)]
        return [f"{recorded.method} {recorded.path} ({recorded.status}): {problem}" for problem in found]

    def _find(self, recorded: Recorded) -> str | None:
        spellings = (f"/api/v1{recorded.route}", f"/v1{recorded.route}", recorded.route)
        for path, pattern in self._paths:
            known = recorded.method.lower() in self._document["paths"][path]
            if known and any(pattern.fullmatch(spelling) for spelling in spellings):
                return path
        return None

    def _check_answer(self, recorded: Recorded, where: tuple[str, ...]) -> list[str]:
        responses = self._get(where)["responses"]
        if str(recorded.status) not in responses:
            return [] if recorded.status in ANYWHERE else [f"status {recorded.status} is not documented"]
        content = responses[str(recorded.status)].get("content")
        if not content:
            return []
        (kind,) = content
        place = (*where, "responses", str(recorded.status), "content", kind, "schema")
        return self._errors(place, recorded.answer, "answer")

    def _check_body(self, recorded: Recorded, where: tuple[str, ...], path: str) -> list[str]:
        content = self._get(where).get("requestBody", {}).get("content", {})
        if not content or recorded.body is None:
            return [] if not content else ["a body is required"]
        if recorded.headers.get("Content-Type", "").startswith("multipart/"):
            return [] if "multipart/form-data" in content else ["multipart is not documented"]
        place = (*where, "requestBody", "content", "application/json", "schema")
        extra = NEWER_FIELDS.get((recorded.method, path), set())
        return [*self._errors(place, recorded.body, "body"), *self._unknown_fields(place, recorded.body, extra)]

    def _unknown_fields(self, place: tuple[str, ...], body: object, extra: set[str]) -> list[str]:
        """LangSmith drops fields it does not know, silently: a misspelled one is lost."""
        schema = self._get(place)
        if "$ref" in schema:
            schema = self._get(tuple(schema["$ref"].removeprefix("#/").split("/")))
        if not isinstance(body, dict) or "properties" not in schema:
            return []
        return [f"unknown field {name!r}" for name in body.keys() - schema["properties"].keys() - extra]

    def _check_query(self, recorded: Recorded, where: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        for number, parameter in enumerate(self._get(where).get("parameters", [])):
            if parameter.get("in") != "query":
                continue
            values = recorded.query.getall(parameter["name"], [])
            if parameter.get("required") and not values:
                found.append(f"query parameter {parameter['name']!r} is required")
            if values:
                place = (*where, "parameters", str(number), "schema")
                found += self._query_errors(place, values, parameter["name"])
        return found

    def _query_errors(self, place: tuple[str, ...], values: list[str], name: str) -> list[str]:
        """A query's text is right when any reading of it is: one value, a list, numbers and booleans."""
        readings: list[Any] = [values, [_read(value) for value in values]]
        if len(values) == 1:
            readings += [values[0], _read(values[0])]
        tries = [self._errors(place, reading, f"query parameter {name!r}") for reading in readings]
        return [] if any(not errors for errors in tries) else tries[-1]

    def _errors(self, place: tuple[str, ...], value: object, what: str) -> list[str]:
        if place not in self._validators:
            pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
            self._validators[place] = Draft202012Validator(
                {"$ref": f"{_URN}#/{pointer}"}, registry=self._registry, format_checker=self._formats
            )
        errors = self._validators[place].iter_errors(value)
        return [f"{what} at {error.json_path}: {error.message[:300]}" for error in errors]

    def _get(self, place: tuple[str, ...]) -> Any:
        node: Any = self._document
        for part in place:
            node = node[int(part)] if isinstance(node, list) else node[part]
        return node


def load() -> OpenApi | None:
    """The document; None when this checkout has no ``shared`` beside it."""
    return OpenApi(json.loads(DOCUMENT.read_text(encoding="utf-8"))) if DOCUMENT.exists() else None


def skip_module_if_absent() -> None:
    """For a module whose tests need the document: without it they are one skip, one line of pytest's summary.

    With ``CI=true`` they are not skipped: ``required`` fails them.
    """
    if not DOCUMENT.exists() and os.environ.get("CI", "").lower() != "true":
        pytest.skip(ABSENT, allow_module_level=True)


def required() -> OpenApi:
    """The document; the test fails without it."""
    if (found := load()) is None:
        pytest.fail(MISSING_IN_CI, pytrace=False)
    return found


def _compile(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


def _read(text: str) -> Any:
    try:
        return json.loads(text.lower())
    except ValueError:
        return text
