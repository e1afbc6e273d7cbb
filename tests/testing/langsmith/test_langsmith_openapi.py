"""The check against LangSmith's OpenAPI document itself: what it must catch."""

from __future__ import annotations

from uuid import uuid4

import aiohttp
import openapi
import pytest

from engine.testing import LangSmithStandIn

openapi.skip_module_if_absent()


@pytest.fixture(scope="module")
def api() -> openapi.OpenApi:
    return openapi.required()


async def _problems(api: openapi.OpenApi, method: str, path: str, body=None, *, spoil=None) -> list[str]:
    async with LangSmithStandIn() as stand_in, aiohttp.ClientSession() as session:
        dataset_id = stand_in.add_dataset("issues")
        sent = {"dataset_id": dataset_id, **body} if path == "/examples" else body
        async with session.request(method, stand_in.url + path, json=sent):
            pass
        if spoil is not None:
            spoil(stand_in.requests[0].answer)
        return api.problems(stand_in.requests)


async def test_a_correct_exchange_has_no_problems(api):
    assert await _problems(api, "POST", "/examples", {"inputs": {}, "id": str(uuid4())}) == []


async def test_a_field_that_langsmith_would_drop_is_a_problem(api):
    (problem,) = await _problems(api, "POST", "/examples", {"inputs": {}, "example_id": str(uuid4())})
    assert "unknown field 'example_id'" in problem


async def test_a_request_of_the_wrong_shape_is_a_problem(api):
    problems = await _problems(api, "POST", "/feedback", {"key": "k", "score": "high"})
    assert any("body at $.score" in problem for problem in problems)


async def test_an_answer_that_lacks_a_required_field_is_a_problem(api):
    def spoil(answer):
        del answer["dataset_id"]

    (problem,) = await _problems(api, "POST", "/examples", {"inputs": {}}, spoil=spoil)
    assert "'dataset_id' is a required property" in problem


async def test_an_answer_with_a_wrong_format_is_a_problem(api):
    def spoil(answer):
        answer.update(id="no uuid", created_at="yesterday")

    problems = await _problems(api, "POST", "/examples", {"inputs": {}}, spoil=spoil)
    assert {"$.id" in one or "$.created_at" in one for one in problems} == {True}
    assert len(problems) == 2


async def test_a_query_parameter_of_the_wrong_type_is_a_problem(api):
    (problem, *_) = await _problems(api, "GET", "/datasets?data_type=picture")
    assert "query parameter 'data_type'" in problem


async def test_an_endpoint_that_is_not_in_the_document_is_a_problem(api):
    (problem,) = await _problems(api, "GET", "/no/such")
    assert "not in the document" in problem


async def test_what_a_fault_answered_is_not_checked(api):
    async with LangSmithStandIn() as stand_in, aiohttp.ClientSession() as session:
        stand_in.faults.add(status=502, body="<html>")
        async with session.get(f"{stand_in.url}/info"):
            pass
        assert api.problems(stand_in.requests) == []
