"""The door to LangSmith: the real SDK against the stand-in."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import threading
import warnings
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from engine.clients.langsmith import LangSmith, LangSmithSettings, Sunsets
from engine.clients.langsmith.failure import LangSmithFailure
from engine.clients.langsmith.name_cache import NameCache
from engine.core.errors import Discard, Retry
from engine.testing import LangSmithStandIn

RUN = {"id": str(uuid4()), "session_id": str(uuid4()), "trace_id": str(uuid4()), "start_time": "2026-01-02T03:04:05"}


@pytest.fixture(scope="module", autouse=True)
def _one_tls_context():
    """The SDK reads the system's certificates four times for every client; on loopback, once is enough."""
    context = ssl.create_default_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", lambda *_args, **_options: context)
        yield


@pytest.fixture
async def door(langsmith):
    client = LangSmith(LangSmithSettings("lsv2_test", langsmith.url))
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    ("endpoint", "web_url", "api_root"),
    [
        ("https://api.smith.langchain.com", "https://smith.langchain.com", "https://api.smith.langchain.com"),
        ("https://api.smith.langchain.com/", "https://smith.langchain.com", "https://api.smith.langchain.com"),
        ("https://api.smith.langchain.com/api/v1", "https://smith.langchain.com", "https://api.smith.langchain.com"),
        ("https://eu.api.smith.langchain.com", "https://eu.smith.langchain.com", "https://eu.api.smith.langchain.com"),
        ("https://ls.example.com/api/v1", "https://ls.example.com", "https://ls.example.com"),
        ("https://ls.example.com/api", "https://ls.example.com", "https://ls.example.com"),
        ("https://example.com/ls/api/v1/", "https://example.com/ls", "https://example.com/ls"),
        ("https://u:p@ls.example.com/api", "https://ls.example.com", "https://u:p@ls.example.com"),
        ("http://127.0.0.1:1984", "http://127.0.0.1:1984", "http://127.0.0.1:1984"),
        ("http://[::1]:1984/api/v1", "http://[::1]:1984", "http://[::1]:1984"),
        ("https://api.smith.langchain.com.x.org",) * 3,
    ],
)
def test_web_address_and_api_root_follow_from_the_endpoint(endpoint, web_url, api_root):
    settings = LangSmithSettings(endpoint=endpoint)
    assert (settings.web_url, settings.api_root) == (web_url, api_root)


def test_the_key_is_not_shown():
    assert "lsv2_secret" not in repr(LangSmithSettings("lsv2_secret"))


@pytest.mark.parametrize("prefix", ["", "/api", "/api/v1"])
async def test_every_way_to_write_the_endpoint_works(langsmith, prefix):
    door = LangSmith(LangSmithSettings("k", langsmith.url + prefix))
    queue = langsmith.add_queue("q")
    assert await door.queue_id("q") == queue
    await door.add_to_queue(queue, RUN)
    await door.aclose()
    assert {request.status // 100 for request in langsmith.requests} == {2}


@pytest.mark.parametrize("key", [None, "", "  "])
async def test_without_a_key_nothing_is_sent(langsmith, key):
    door = LangSmith(LangSmithSettings(key, langsmith.url))
    with pytest.raises(Retry, match=r"set langsmith\.api_key"):
        await door.dataset_id("d")
    assert not langsmith.requests


async def test_nothing_leaks_in_from_environment_or_profile(langsmith, monkeypatch, tmp_path):
    profile = {"api_key": "profile", "api_url": "http://127.0.0.1:9", "workspace_id": "profile"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"current_profile": "p", "profiles": {"p": profile}}))
    for name, value in {
        "LANGSMITH_CONFIG_FILE": str(file),
        "LANGSMITH_API_KEY": "environment",
        "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
        "LANGSMITH_WORKSPACE_ID": "environment",
        "LANGSMITH_TENANT_ID": "environment",
        "LANGCHAIN_CUSTOM_HEADERS": "X-Leak: environment",
        "LANGCHAIN_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    door = LangSmith(LangSmithSettings("given", langsmith.url))
    queue = langsmith.add_queue("q")
    await door.queue_id("q")
    await door.add_to_queue(queue, RUN)
    await door.aclose()
    assert len(langsmith.requests) == 2
    for request in langsmith.requests:
        assert request.headers["X-API-Key"] == "given"
        assert "environment" not in str(request.headers)
        assert "profile" not in str(request.headers)


async def test_the_workspace_is_sent_by_both_clients():
    async with LangSmithStandIn(org_scoped=True) as langsmith:
        door = LangSmith(LangSmithSettings("k", langsmith.url, "w-1"))
        queue = langsmith.add_queue("q")
        await door.queue_id("q")
        await door.add_to_queue(queue, RUN)
        await door.aclose()
        assert [request.headers["X-Tenant-Id"] for request in langsmith.requests] == ["w-1", "w-1"]


async def test_no_info_is_asked_for_and_no_thread_traces(langsmith, door):
    before = threading.active_count()
    queue = langsmith.add_queue("q")
    await door.create_feedback(RUN, feedback_id=str(uuid4()), key="k")
    await door.add_to_queue(queue, RUN)
    await asyncio.sleep(0.05)
    assert [request.route for request in langsmith.requests if request.route == "/info"] == []
    named = [thread.name for thread in threading.enumerate() if "asyncio_" not in thread.name]
    assert len(named) <= before


async def test_closing_leaves_nothing_open(langsmith):
    gc.collect()  # what other tests left is not of interest
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        door = LangSmith(LangSmithSettings("k", langsmith.url))
        queue = langsmith.add_queue("q")
        await door.queue_id("q")
        await door.add_to_queue(queue, RUN)
        await door.aclose()
        await door.aclose()
        del door
        gc.collect()
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if "RequestHandler" not in repr(task)]
    assert left == [asyncio.current_task()], "but for the stand-in's own"


async def test_callers_at_once_share_one_look_up_and_the_answer_is_kept(langsmith, door):
    dataset = langsmith.add_dataset("d")
    langsmith.faults.add(hang=0.05)
    assert await asyncio.gather(*(door.dataset_id("d") for _ in range(10))) == [dataset] * 10
    assert await door.dataset_id("d") == dataset
    assert len(langsmith.requests) == 1


async def test_that_something_is_missing_is_not_kept(langsmith, door):
    assert await door.dataset_id("d") is None
    assert await door.queue_id("q") is None
    dataset, queue = langsmith.add_dataset("d"), langsmith.add_queue("q")
    assert (await door.dataset_id("d"), await door.queue_id("q")) == (dataset, queue)


async def test_a_name_is_matched_whole_and_exactly(langsmith, door):
    langsmith.add_queue("needs-review-2")
    langsmith.add_queue("Needs-Review")
    assert await door.queue_id("needs-review") is None


async def test_an_empty_answer_and_a_404_of_the_server_are_two_things(langsmith, door):
    langsmith.faults.add(status=404, path="/datasets")
    with pytest.raises(LangSmithFailure) as caught:
        await door.dataset_id("d")
    assert caught.value.status == 404


async def test_a_failure_names_the_request_and_the_answer(langsmith, door):
    langsmith.faults.add(status=422, path="/examples", body='{"detail": "inputs are odd"}')
    with pytest.raises(LangSmithFailure, match="answered 422 when asked to add the example: inputs are odd") as caught:
        await door.add_example(example_id=str(uuid4()), dataset_id=str(uuid4()), inputs={})
    assert "lsv2_test" not in str(caught.value)


@pytest.mark.parametrize(("status", "advice"), [(401, "check langsmith.api_key"), (302, "redirects are not followed")])
async def test_a_failure_says_what_to_do(langsmith, door, status, advice):
    langsmith.faults.add(status=status, headers={"Location": "/elsewhere"})
    with pytest.raises(LangSmithFailure, match=advice):
        await door.dataset_id("d")
    assert len(langsmith.requests) == 1


async def test_a_server_that_is_gone_is_named_as_the_cause(langsmith, door):
    await langsmith.stop()
    with pytest.raises(LangSmithFailure, match="could not be reached to look up the dataset 'd'") as caught:
        await door.dataset_id("d")
    assert caught.value.status is None


async def test_feedback_comes_back_as_rows_of_all_runs_asked_for(langsmith, door):
    runs = [str(uuid4()) for _ in range(150)]
    for run in runs:
        langsmith.add_feedback(run, key="correctness", score=0.5, correction={"output": run})
    langsmith.add_feedback(runs[0], key="other", value="x", comment="c")
    rows = await door.list_feedback([*runs, runs[0], "no uuid"])
    assert len(rows) == 151
    assert {row["run_id"] for row in rows} == set(runs)
    first = next(row for row in rows if row["run_id"] == runs[3])
    assert first["correction"] == {"output": runs[3]}
    assert json.dumps(rows)
    pages = [request for request in langsmith.requests if request.method == "GET"]
    assert max(len(request.query.getall("run")) for request in pages) <= 100


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ({"extra": {"error": "the judge timed out"}}, "the judge timed out"),
        ({"extra": {"error": {"message": "the judge  timed out"}}}, "the judge timed out"),
        ({"extra": {"error": True}, "comment": "no JSON"}, "no JSON"),
        ({"error": True}, "LangSmith does not say why"),
        ({"extra": {"error": False, "model": "m"}}, None),
        ({"extra": None, "error": None}, None),
        ({"comment": "an error in the answer"}, None),
    ],
)
async def test_an_error_is_read_from_both_places(langsmith, door, written, error):
    id_ = langsmith.add_feedback(str(uuid4()), key="k", **written)
    langsmith.feedback[id_] |= written  # a stand-in of now moves it, as LangSmith does
    (row,) = await door.list_feedback([langsmith.feedback[id_]["run_id"]])
    assert (row["id"], row["error"]) == (id_, error)


async def test_only_the_feedback_row_with_an_error_is_reported_as_one(langsmith, door):
    run = str(uuid4())
    sound = [langsmith.add_feedback(run, key="k", score=score) for score in range(3)]
    failed = langsmith.add_feedback(run, key="k", extra={"error": "why"})
    rows = await door.list_feedback([run])
    assert {row["id"]: row["error"] for row in rows} == {**dict.fromkeys(sound), failed: "why"}


async def test_feedback_is_checked_by_its_id(langsmith, door):
    await door.check_feedback(langsmith.add_feedback(str(uuid4()), key="k", score=1))
    await door.check_feedback(str(uuid4()))  # somebody deleted it
    with pytest.raises(Discard, match="'k' as an error: why"):
        await door.check_feedback(langsmith.add_feedback(str(uuid4()), key="k", extra={"error": "why"}))
    langsmith.faults.add(status=503)
    with pytest.raises(LangSmithFailure, match="503"):
        await door.check_feedback(str(uuid4()))


async def test_no_ids_no_request(langsmith, door):
    assert await door.list_feedback([]) == []
    assert await door.query_runs(["no uuid"], []) == {}
    assert not langsmith.requests


def hold_run(langsmith, **fields):
    run = RUN | {"id": str(uuid4()), "name": "n", "run_type": "chain", "inputs": {"a": [1, {"b": None}]}, **fields}
    return langsmith.add_run(run | {"outputs": {"c": 1.5}})


async def test_runs_are_queried_in_one_batch_with_the_columns_asked_for(langsmith, door):
    ids = [hold_run(langsmith) for _ in range(3)]
    found = await door.query_runs([*ids, str(uuid4())], [RUN["session_id"]], ("inputs", "outputs"))
    assert found == {id_: {"id": id_, "inputs": {"a": [1, {"b": None}]}, "outputs": {"c": 1.5}} for id_ in ids}
    (request,) = langsmith.requests
    assert request.route == "/v2/runs/query"


async def test_old_runs_are_found_too(langsmith, door):
    id_ = hold_run(langsmith, start_time="2025-12-02T03:04:05")
    since = datetime(2025, 12, 1, tzinfo=UTC)
    assert id_ in await door.query_runs([id_], [RUN["session_id"]], since=since)
    assert id_ in await door.query_runs([id_], [RUN["session_id"]], since="2025-12-01T00:00:00")


@pytest.mark.filterwarnings("ignore:.*list_runs")
async def test_older_backends_and_runs_without_project_get_version_one(langsmith, door):
    id_ = hold_run(langsmith)
    langsmith.faults.add(status=404, path="/v2/runs/query")
    for projects in ([RUN["session_id"]], []):
        found = await door.query_runs([id_], projects, ["outputs"])
        assert found == {id_: {"id": id_, "outputs": {"c": 1.5}}}
    assert [request.route for request in langsmith.requests] == ["/v2/runs/query", "/runs/query", "/runs/query"]


# Endpoints that will be removed


@pytest.mark.parametrize(
    ("endpoint", "on_cloud"),
    [
        ("https://api.smith.langchain.com", True),
        ("https://eu.api.smith.langchain.com/api/v1", True),
        ("https://APAC.api.smith.langchain.com", True),
        ("https://api.smith.langchain.com.example.org", False),
        ("https://langsmith.example.com/api", False),
        ("http://127.0.0.1:1984", False),
    ],
)
def test_the_cloud_is_known_by_its_host(endpoint, on_cloud):
    settings = LangSmithSettings(endpoint=endpoint)
    assert settings.on_cloud is on_cloud
    assert settings.trace_retention == timedelta(days=180 if on_cloud else 400)
    assert LangSmithSettings(endpoint=endpoint, retention=86400.0).trace_retention == timedelta(days=1)


@pytest.fixture
def cloud(monkeypatch):
    monkeypatch.setattr(LangSmithSettings, "on_cloud", True)


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("status", [404, 405, 410])
async def test_the_cloud_is_asked_for_nothing_old(langsmith, door, status):
    queue = langsmith.add_queue("q")
    langsmith.faults.add(status=status, path="/v2/runs/query")
    with pytest.raises(LangSmithFailure) as caught:
        await door.query_runs([RUN["id"]], [RUN["session_id"]])
    assert caught.value.status == status
    langsmith.faults.add(status=status, path="/platform/annotation-queues")
    with pytest.raises(LangSmithFailure) as caught:
        await door.add_to_queue(queue, RUN)
    assert caught.value.status == status
    assert [request.route for request in langsmith.requests] == [
        "/v2/runs/query",
        f"/platform/annotation-queues/{queue}/items",
    ]


@pytest.mark.usefixtures("cloud")
async def test_a_run_without_a_project_cannot_be_asked_for_on_the_cloud(langsmith, door):
    with pytest.raises(Discard, match="without a session_id"):
        await door.query_runs([RUN["id"]], [])
    assert not langsmith.requests


@pytest.mark.filterwarnings("ignore:.*list_runs")
@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
@pytest.mark.parametrize("gone", [404, 410])
async def test_a_server_without_the_old_endpoints_means_its_404(langsmith, door, gone):
    langsmith.faults.add(status=404, path="/v2/runs/query", body='{"detail": "no such project"}')
    langsmith.faults.add(status=gone, path="/runs/query", body='{"detail": "removed"}')
    with pytest.raises(LangSmithFailure, match="no such project") as caught:
        await door.query_runs([RUN["id"]], [RUN["session_id"]])
    assert caught.value.status == 404
    langsmith.faults.add(status=404, path="/platform/annotation-queues", body='{"detail": "no such run"}')
    langsmith.faults.add(status=gone, path="/runs", body='{"detail": "removed"}')
    with pytest.raises(LangSmithFailure, match="no such run") as caught:
        await door.add_to_queue(str(uuid4()), RUN)
    assert caught.value.status == 404
    assert len(langsmith.requests) == 4


@pytest.mark.filterwarnings("ignore:.*list_runs")
@pytest.mark.filterwarnings("ignore:Deprecated. use annotation_queues.items.create")
async def test_every_answer_with_a_sunset_is_counted_and_the_first_of_an_endpoint_logged(langsmith, caplog):
    sunsets = Sunsets()
    queues = [langsmith.add_queue("q"), langsmith.add_queue("r")]
    langsmith.faults.add(status=404, path="/platform/annotation-queues", times=2)
    for key in ("one", "two"):  # as a reload makes clients anew
        door = LangSmith(LangSmithSettings(key, langsmith.url), sunsets=sunsets)
        await door.query_runs([hold_run(langsmith)], [])
        await door.query_runs([RUN["id"]], [RUN["session_id"]])
        for queue in queues:
            await door.add_to_queue(queue, RUN)
        await door.aclose()
    assert sunsets.counts.read() == {("POST /runs/query",): 2, ("POST /api/v1/annotation-queues/{id}/runs",): 4}
    said = [one.message for one in caplog.records if "will remove" in one.message]
    assert [line.split(" at ")[0] for line in said] == [
        "LangSmith will remove POST /runs/query",
        "LangSmith will remove POST /api/v1/annotation-queues/{id}/runs",
    ]
    assert "31 Jan 2027" in said[0]
    assert "update this engine, and LangSmith if it is self-hosted" in said[0]
    assert "/api/v2/runs/query" in said[0]


def test_what_a_sunset_says_cannot_forge_a_line(caplog):
    Sunsets().note("GET", "/x", {"Sunset": "soon\r\nERROR all is lost" + "!" * 500})
    (line,) = [one.getMessage() for one in caplog.records]
    assert "\n" not in line
    assert len(line) < 500


async def test_how_far_back_runs_are_looked_for_is_a_setting(langsmith):
    door = LangSmith(LangSmithSettings("k", langsmith.url, retention=30 * 86400.0))
    await door.query_runs([RUN["id"]], [RUN["session_id"]])
    await door.aclose()
    earliest = datetime.fromisoformat(langsmith.requests[0].body["min_start_time"])
    assert abs(datetime.now(UTC) - timedelta(days=30) - earliest) < timedelta(minutes=5)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


async def test_names_expire_and_can_be_forgotten():
    clock, asked = Clock(), []

    async def look_up(name):
        asked.append(name)
        return f"id of {name}"

    names = NameCache(clock)
    for _ in range(3):
        assert await names.get("a", look_up) == "id of a"
    assert asked == ["a"]
    clock.now = 300.0
    await names.get("a", look_up)
    names.forget("a")
    await names.get("a", look_up)
    assert asked == ["a"] * 3


async def test_a_caller_that_gives_up_does_not_take_the_others_along():
    release = asyncio.Event()

    async def look_up(_name):
        await release.wait()
        return "id"

    names = NameCache(Clock())
    first, second = asyncio.ensure_future(names.get("a", look_up)), asyncio.ensure_future(names.get("a", look_up))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    release.set()
    assert await second == "id"
    assert first.cancelled()


async def test_a_failed_look_up_fails_for_all_that_wait_and_is_not_cached():
    failures = [LangSmithFailure("no", status=500)]

    async def look_up(_name):
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return "id"

    names = NameCache(Clock())
    results = await asyncio.gather(names.get("a", look_up), names.get("a", look_up), return_exceptions=True)
    assert [type(result) for result in results] == [LangSmithFailure] * 2
    assert await names.get("a", look_up) == "id"


async def test_names_are_bounded():
    async def look_up(name):
        return name

    names = NameCache(Clock())
    for number in range(1100):
        await names.get(str(number), look_up)
    assert len(names._known) == 1024
    assert "1099" in names._known
