"""The stand-in for LangSmith, called by the real SDK; every answer is held against LangSmith's OpenAPI document."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import aiohttp
import pytest
from langsmith import AsyncClient, AsyncLangsmith, Client
from langsmith.utils import (
    LangSmithAuthError,
    LangSmithConflictError,
    LangSmithError,
    LangSmithNotFoundError,
    LangSmithRateLimitError,
)

from engine.testing import LANGSMITH_LIMITS, LangSmithStandIn, payloads
from engine.testing.langsmith.rows import PROJECT_ID

#: An id that nothing has. Fixed, because test names must be the same in every worker.
NOBODY = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _client(stand_in: LangSmithStandIn, base: str = "", **options) -> AsyncClient:
    return AsyncClient(api_url=stand_in.url + base, api_key="a key", retry_config={"max_retries": 1}, **options)


@pytest.fixture(params=["", "/api", "/api/v1"])
async def client(langsmith: LangSmithStandIn, request) -> AsyncIterator[AsyncClient]:
    """The hand-written async client, in every path style."""
    one = _client(langsmith, request.param)
    yield one
    await one.aclose()


@pytest.fixture
async def generated(langsmith: LangSmithStandIn) -> AsyncIterator[AsyncLangsmith]:
    async with AsyncLangsmith(api_key="a key", base_url=langsmith.url, max_retries=0) as one:
        yield one


async def test_datasets_are_created_once_and_read_by_name_and_id(langsmith, client):
    made = await client.create_dataset("issues", description="from the demo")
    assert (await client.read_dataset(dataset_name="issues")).id == made.id
    assert (await client.read_dataset(dataset_id=made.id)).description == "from the demo"
    with pytest.raises(LangSmithConflictError):
        await client.create_dataset("issues")
    with pytest.raises(LangSmithNotFoundError):
        await client.read_dataset(dataset_name="no such")
    assert [dataset.name async for dataset in client.list_datasets()] == ["issues"]


async def test_an_example_keeps_its_id_and_a_second_one_with_it_is_a_conflict(langsmith, client):
    dataset_id, example_id, run_id = langsmith.add_dataset("issues"), uuid4(), uuid4()
    one = {"inputs": {"q": 1}, "reference_outputs": {"a": 2}, "metadata": {"k": "v"}, "split": "test"}
    made = await client.create_example(dataset_id=dataset_id, id=example_id, source_run_id=run_id, **one)
    assert (made.id, made.outputs, made.source_run_id) == (example_id, {"a": 2}, run_id)
    with pytest.raises(LangSmithConflictError):
        await client.create_example(inputs={}, dataset_id=dataset_id, id=example_id)
    back = await client.read_example(example_id)
    assert back.metadata == {"k": "v", "dataset_split": ["test"]}
    assert [row.id async for row in client.list_examples(dataset_id=dataset_id)] == [example_id]
    assert langsmith.examples[str(example_id)]["inputs"] == {"q": 1}
    assert (await client.read_dataset(dataset_id=dataset_id)).example_count == 1


async def test_examples_are_listed_by_id_split_and_metadata(langsmith, client):
    dataset_id = langsmith.add_dataset("issues")
    for split, env in (("train", "dev"), ("test", "dev"), ("test", "prod")):
        await client.create_example(inputs={"e": env}, dataset_id=dataset_id, split=split, metadata={"env": env})
    listed = [row.inputs async for row in client.list_examples(dataset_id=dataset_id, splits=["test"])]
    assert listed == [{"e": "dev"}, {"e": "prod"}]
    by_metadata = [row async for row in client.list_examples(dataset_id=dataset_id, metadata='{"env": "prod"}')]
    assert [row.inputs for row in by_metadata] == [{"e": "prod"}]


async def test_an_example_for_no_dataset_is_not_found(langsmith, client):
    with pytest.raises(LangSmithNotFoundError):
        await client.create_example(inputs={}, dataset_id=uuid4())


async def test_feedback_is_created_listed_for_many_runs_and_deleted(langsmith, client):
    runs = [str(uuid4()) for _ in range(3)]
    made = await client.create_feedback(
        runs[0], "triage", score=0.25, comment="no", feedback_id=(fixed := uuid4()), session_id=PROJECT_ID
    )
    assert made.id == fixed
    langsmith.add_feedback(runs[1], key="correctness", correction={"label": "bug"})
    langsmith.add_feedback(runs[2], key="correctness", score=1)
    listed = [row async for row in client.list_feedback(run_ids=runs[:2])]
    assert {str(row.run_id) for row in listed} == set(runs[:2])
    keyed = [row async for row in client.list_feedback(run_ids=runs, feedback_key=["correctness"])]
    assert [row.correction for row in keyed if str(row.run_id) == runs[1]] == [{"label": "bug"}]
    assert (await client.read_feedback(fixed)).score == 0.25
    await client.delete_feedback(fixed)
    assert str(fixed) not in langsmith.feedback


async def test_feedback_posted_twice_with_one_id_is_one_row(langsmith, client):
    run_id, fixed = uuid4(), uuid4()
    for score in (0.1, 0.9):
        await client.create_feedback(run_id, "k", score=score, feedback_id=fixed, session_id=PROJECT_ID)
    assert [row["score"] for row in langsmith.feedback.values()] == [0.9]


async def test_feedback_posted_twice_can_be_a_conflict():
    async with LangSmithStandIn(feedback_conflict=True) as stand_in:
        client, fixed = _client(stand_in), uuid4()
        await client.create_feedback(uuid4(), "k", score=1, feedback_id=fixed, session_id=PROJECT_ID)
        with pytest.raises(LangSmithConflictError):
            await client.create_feedback(uuid4(), "k", score=1, feedback_id=fixed, session_id=PROJECT_ID)
        await client.aclose()


async def test_feedback_on_a_run_that_is_still_being_ingested_is_not_found():
    async with LangSmithStandIn(unknown_runs=False) as stand_in:
        client, run = _client(stand_in), payloads.run()
        asked = {"key": "k", "score": 1, "session_id": PROJECT_ID, "stop_after_attempt": 1}
        with pytest.raises(LangSmithNotFoundError):
            await client.create_feedback(run["id"], **asked)
        stand_in.add_run(run)
        await client.create_feedback(run["id"], **asked)
        assert len(stand_in.feedback) == 1
        await client.aclose()


async def test_the_sync_client_works_through_the_multipart_endpoint(langsmith):
    client = Client(api_url=langsmith.url, api_key="a key", auto_batch_tracing=False)
    dataset_id, example_id, run_id = langsmith.add_dataset("issues"), uuid4(), str(uuid4())

    def work():
        made = client.create_example(
            inputs={"q": 1}, reference_outputs={"a": 2}, dataset_id=dataset_id, example_id=example_id, split="test"
        )
        assert client.has_dataset(dataset_name="issues")
        client.update_example(example_id, outputs={"a": 3}, metadata={"m": 1})
        fixed = client.create_feedback(run_id, "k", score=1, session_id=PROJECT_ID).id
        client.update_feedback(fixed, score=0.5)
        return made.id

    assert await asyncio.to_thread(work) == example_id
    row = langsmith.examples[str(example_id)]
    assert (row["outputs"], row["metadata"]) == ({"a": 3}, {"m": 1, "dataset_split": ["test"]})
    assert [row["score"] for row in langsmith.feedback.values()] == [0.5]
    assert any(one.route == f"/platform/datasets/{dataset_id}/examples" for one in langsmith.requests)


async def test_the_sync_client_works_with_the_multipart_endpoint_off():
    flags = {"dataset_examples_multipart_enabled": False, "examples_multipart_enabled": False}
    async with LangSmithStandIn(flags=flags) as stand_in:
        client = Client(api_url=stand_in.url, api_key="a key", auto_batch_tracing=False)
        dataset_id = stand_in.add_dataset("issues")
        examples = [{"inputs": {"n": number}} for number in range(3)]
        await asyncio.to_thread(client.create_examples, dataset_id=dataset_id, examples=examples)
        assert [row["inputs"] for row in stand_in.examples.values()] == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert "/examples/bulk" in [one.route for one in stand_in.requests]


async def test_queues_are_found_by_name_and_filled_by_the_deprecated_call(langsmith, client):
    queue_id, run_id = langsmith.add_queue("review"), uuid4()
    assert [str(one.id) async for one in client.list_annotation_queues(name="review")] == [queue_id]
    made = await client.create_annotation_queue(name="second", description="more")
    assert (await client.read_annotation_queue(made.id)).name == "second"
    with warnings.catch_warnings(action="ignore"):
        await client.add_runs_to_annotation_queue(queue_id, run_ids=[run_id])
    assert [item["run_id"] for item in langsmith.queue_items] == [str(run_id)]


async def test_queue_items_go_through_the_generated_client_and_are_added_once(langsmith, generated):
    queue_id, run = langsmith.add_queue("review"), payloads.run()
    item = {"item_type": "RUN", "run_id": run["id"], "session_id": run["session_id"], "start_time": run["start_time"]}
    first = await generated.annotation_queues.items.create(queue_id, items=[item], extend_trace_retention=False)
    second = await generated.annotation_queues.items.create(queue_id, items=[item])
    assert first.items[0].id == second.items[0].id
    assert len(langsmith.queue_items) == 1
    thread = {"item_type": "THREAD", "thread_id": "t", "project_id": run["session_id"]}
    await generated.annotation_queues.items.create(queue_id, items=[thread])
    listed = [one.item_type async for one in generated.annotation_queues.items.list(queue_id, status="needs_my_review")]
    assert listed == ["RUN", "THREAD"]


async def test_runs_by_key_and_a_conflict_on_what_is_there_already():
    async with LangSmithStandIn(queue_conflict=True) as stand_in, aiohttp.ClientSession() as session:
        url = f"{stand_in.url}/api/v1/annotation-queues/{stand_in.add_queue('review')}/runs/by-key"
        run = payloads.run()
        key = {"run_id": run["id"], "session_id": run["session_id"], "start_time": run["start_time"]}
        statuses = []
        for _ in range(2):
            async with session.post(url, json=[key]) as response:
                statuses.append(response.status)
        assert statuses == [200, 409]


async def test_runs_are_queried_by_id_in_both_versions(langsmith, client, generated):
    wanted, other = (langsmith.add_run(payloads.run(number)) for number in range(2))
    with warnings.catch_warnings(action="ignore"):
        old = [run async for run in client.list_runs(run_ids=[wanted])]
    assert [str(run.id) for run in old] == [wanted]
    assert old[0].outputs == {"output": "question"}
    page = await generated.runs.query(
        project_ids=[PROJECT_ID],
        ids=[wanted],
        selects=["ID", "INPUTS", "STATUS", "RUN_TYPE", "TOTAL_COST", "START_TIME", "METADATA"],
        min_start_time="2024-01-01T00:00:00Z",
    )
    (run,) = page.items
    assert (run.id, run.status, run.total_cost, run.inputs["title"][:9]) == (wanted, "SUCCESS", 0.0042, "TypeError")
    assert run.metadata["env"] == "prod"
    assert other not in {run.id}


async def test_a_version_2_query_without_a_start_searches_the_last_day_only(langsmith, generated):
    run_id = langsmith.add_run(payloads.run())
    page = await generated.runs.query(project_ids=[PROJECT_ID], ids=[run_id])
    assert page.items == []


async def test_a_query_is_paged(langsmith, generated):
    ids = {langsmith.add_run(payloads.run(number)) for number in range(5)}
    pages = generated.runs.query(project_ids=[PROJECT_ID], page_size=2, min_start_time="2024-01-01T00:00:00Z")
    assert {run.id async for run in pages} == ids
    assert len(langsmith.requests) == 3


async def test_a_run_is_read_and_shared(langsmith, client, generated):
    run = payloads.run()
    langsmith.add_run(run)
    with warnings.catch_warnings(action="ignore"):
        assert str((await client.read_run(run["id"])).id) == run["id"]
        assert "/public/" in await client.share_run(run["id"])
    back = await generated.runs.retrieve(
        run["id"], project_id=run["session_id"], start_time=run["start_time"], selects=["ID", "NAME"]
    )
    assert (back.id, back.name) == (run["id"], "classify-issue")


async def test_rules_are_listed(langsmith, generated):
    rule_id = langsmith.add_rule("corrections", webhooks=[{"url": "https://example.com/hook", "headers": None}])
    rules = await generated.evaluators.list()
    assert [(rule.id, rule.webhooks[0].url) for rule in rules] == [(rule_id, "https://example.com/hook")]


async def test_info_answers_with_its_settings(langsmith, client):
    langsmith.state.flags["ch_query_enabled"] = False
    info = await client.info()
    assert info.instance_flags["ch_query_enabled"] is False
    assert info.batch_ingest_config["size_limit"] == 100


async def test_a_wrong_key_is_refused():
    async with LangSmithStandIn(api_key="another key") as stand_in:
        client = _client(stand_in)
        with pytest.raises(LangSmithAuthError):
            await client.read_dataset(dataset_name="issues")
        await client.aclose()


async def test_an_organisation_key_needs_the_workspace():
    async with LangSmithStandIn(org_scoped=True) as stand_in:
        stand_in.add_dataset("issues")
        without, within = _client(stand_in), _client(stand_in, workspace_id=str(uuid4()))
        with pytest.raises(LangSmithError, match="org_scoped_key_requires_workspace"):
            await without.read_dataset(dataset_name="issues")
        assert (await within.read_dataset(dataset_name="issues")).name == "issues"
        await without.aclose()
        await within.aclose()


async def test_the_documented_rate_limit_of_runs_queries():
    async with LangSmithStandIn(rate_limits=LANGSMITH_LIMITS) as stand_in, aiohttp.ClientSession() as session:
        answers = []
        for _ in range(16):
            async with session.post(f"{stand_in.url}/runs/query", json={"id": [str(uuid4())]}) as response:
                answers.append((response.status, response.headers.get("Retry-After")))
        assert answers[:15] == [(200, None)] * 15
        assert answers[15] in [(429, "10"), (429, "9")]


async def test_a_rate_limit_reaches_the_sdk_as_its_own_error(langsmith, client):
    langsmith.faults.add(status=429, retry_after=1)
    with pytest.raises(LangSmithRateLimitError):
        await client.read_dataset(dataset_name="issues")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/datasets", {}, 422),
        ("POST", "/datasets", [], 422),
        ("POST", "/examples", {"dataset_id": "no uuid", "inputs": {}}, 422),
        ("POST", "/feedback", {"run_id": NOBODY}, 422),
        ("POST", "/feedback", {"key": "k" * 181}, 422),
        ("POST", "/feedback", {"key": "k", "run_id": "run"}, 422),
        ("GET", "/feedback?run=run", None, 422),
        ("GET", "/datasets?limit=101", None, 422),
        ("GET", f"/runs/{NOBODY}", None, 404),
        ("GET", "/runs/run", None, 422),
        ("POST", "/runs/query", {"filter": 'eq(status, "error")'}, 400),
        ("POST", "/runs/query", {}, 400),
        ("POST", "/runs/query", {"id": [NOBODY], "limit": 101}, 422),
        ("POST", "/api/v2/runs/query", {"ids": [NOBODY]}, 400),
        ("DELETE", f"/feedback/{NOBODY}", None, 404),
        ("POST", f"/annotation-queues/{NOBODY}/runs", [NOBODY], 404),
    ],
)
async def test_what_langsmith_would_refuse_is_refused(langsmith, method, path, body, status):
    async with aiohttp.ClientSession() as session, session.request(method, langsmith.url + path, json=body) as response:
        assert response.status == status
        assert await response.json()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"item_type": "RUN"}, "Field required"),
        ({"item_type": "THREAD", "thread_id": "t"}, "project_id"),
        ({"item_type": "TRACE", "run_id": NOBODY}, "item_type"),
        ("run", "dictionary"),
    ],
)
async def test_queue_items_are_checked(langsmith, item, words):
    url = f"{langsmith.url}/api/v1/platform/annotation-queues/{langsmith.add_queue('review')}/items"
    async with aiohttp.ClientSession() as session, session.post(url, json={"items": [item]}) as response:
        assert response.status == 422
        assert words in await response.text()


async def test_no_more_than_a_hundred_queue_items_at_once(langsmith):
    url = f"{langsmith.url}/api/v1/platform/annotation-queues/{langsmith.add_queue('review')}/items"
    items = [{"item_type": "RUN", "run_id": str(UUID(int=number))} for number in range(101)]
    async with aiohttp.ClientSession() as session, session.post(url, json={"items": items}) as response:
        assert response.status == 400
    assert langsmith.queue_items == []


async def test_an_unknown_endpoint_and_a_wrong_method_are_refused():
    async with LangSmithStandIn() as stand_in, aiohttp.ClientSession() as session:
        async with session.get(f"{stand_in.url}/no/such") as response:
            assert response.status == 404
        async with session.put(f"{stand_in.url}/datasets") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET, POST")


async def test_what_is_deleted_takes_its_contents_along(langsmith):
    dataset_id, queue_id = langsmith.add_dataset("issues"), langsmith.add_queue("review")
    async with aiohttp.ClientSession() as session:
        await session.post(f"{langsmith.url}/examples", json={"dataset_id": dataset_id, "inputs": {}})
        await session.post(f"{langsmith.url}/annotation-queues/{queue_id}/runs", json=[NOBODY])
        assert (len(langsmith.examples), len(langsmith.queue_items)) == (1, 1)
        await session.delete(f"{langsmith.url}/datasets/{dataset_id}")
        await session.delete(f"{langsmith.url}/annotation-queues/{queue_id}")
    assert (langsmith.examples, langsmith.queue_items) == ({}, [])


async def test_a_backend_on_smithdb_alone_wants_the_project_of_every_feedback():
    async with LangSmithStandIn(flags={"ch_query_enabled": False}) as stand_in, aiohttp.ClientSession() as session:
        url, feedback = f"{stand_in.url}/feedback", {"run_id": NOBODY, "key": "k"}
        async with session.post(url, json=feedback) as response:
            assert response.status == 422
        async with session.post(url, json=feedback | {"session_id": PROJECT_ID}) as response:
            assert response.status == 200


async def test_multipart_that_is_none_is_refused(langsmith):
    url = f"{langsmith.url}/v1/platform/datasets/{langsmith.add_dataset('issues')}/examples"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    form = aiohttp.FormData()
    form.add_field(NOBODY, "{broken", content_type="application/json")
    no_inputs = aiohttp.FormData()
    no_inputs.add_field(NOBODY, "{}", content_type="application/json")
    statuses = []
    async with aiohttp.ClientSession() as session:
        for options in ({"data": b"--no", "headers": headers}, {"data": form()}, {"data": no_inputs()}):
            async with session.post(url, **options) as response:
                statuses.append(response.status)
    assert statuses == [400, 422, 400]
    assert langsmith.examples == {}


@pytest.mark.parametrize("path", ["/api/v1/datasets/{}", "/api/v1/annotation-queues/{}"])
async def test_what_is_missing_is_created_where_that_is_wanted(path: str) -> None:
    asked = path.format("0b4f8e0e-93f5-4a6b-9d7a-54f1b8f0c00a")
    for creates_missing, statuses in ((False, (404, 0)), (True, (200, 1))):
        async with (
            LangSmithStandIn(creates_missing=creates_missing) as stand_in,
            aiohttp.ClientSession(stand_in.origin) as http,
        ):
            async with http.get(asked) as answer:
                assert answer.status == statuses[0]
            for _ in range(2):
                async with http.get(asked.rpartition("/")[0], params={"name": "mine"}) as answer:
                    assert len(await answer.json()) == statuses[1]
            async with http.get(asked.rpartition("/")[0], params={"name_contains": "other"}) as answer:
                assert await answer.json() == []
