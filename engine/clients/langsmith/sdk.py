"""The LangSmith SDK's two clients, configured for the engine. Imported at first use, because the SDK is large."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import httpx2
from langsmith import APIError, AsyncLangsmith
from langsmith.async_client import AsyncClient
from langsmith.utils import LangSmithError, LangSmithNotFoundError

from engine.clients.langsmith.request_limits import RequestLimits, current_request_limits
from engine.clients.langsmith.sunset import Sunsets
from engine.core.errors import DataTooLarge, HttpFailure, TooComplex, check_response
from engine.core.feedback import feedback_error
from engine.core.json_text import parsed_size
from engine.core.trace import TRACEPARENT, carried

if TYPE_CHECKING:
    from engine.clients.langsmith.settings import LangSmithSettings

#: Attempts have their own timeout; these only end abandoned requests. Seconds.
_TIMEOUT = httpx2.Timeout(300.0, connect=30.0)
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)
#: Headers that describe the encoded body.
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Sdk:
    """Both clients with the same configuration: no retries, no redirects, no proxy or profile from the environment.

    ``client`` is the hand-written client; ``generated`` has endpoints that it lacks. ``faults`` are the exceptions that
    either of them raises for a response other than 2xx, or for no response.
    """

    def __init__(self, settings: LangSmithSettings, sunsets: Sunsets) -> None:
        tls = ssl.create_default_context()
        self.client = _Client(settings, _transport(settings.endpoint.rstrip("/"), tls, sunsets))
        self.generated = _Generated(settings, _transport(settings.api_root, tls, sunsets))
        # Resources are imported at first access, which is slow. Here nothing waits for it.
        _ = self.generated.annotation_queues.items, self.generated.annotation_queues.runs, self.generated.runs
        self.faults: tuple[type[Exception], ...] = (LangSmithError, APIError, httpx2.HTTPError)

    async def find_dataset(self, name: str) -> str | None:
        """The id of the dataset of exactly this name, if there is one."""
        try:
            dataset = await self.client.read_dataset(dataset_name=name)
            return str(dataset.id) if dataset.name == name else None
        except LangSmithNotFoundError as error:
            if error.__cause__ is not None:  # a 404 of the server; without a cause the SDK reports an empty list
                raise
            return None

    async def find_queue(self, name: str) -> str | None:
        """The id of the annotation queue of exactly this name, if there is one."""
        async for queue in self.client.list_annotation_queues(name=name):
            if queue.name == name:
                return str(queue.id)
        return None

    async def create_feedback(self, run_id: str, key: str, **fields: Any) -> Mapping[str, Any]:
        """Create feedback. Returns the row that LangSmith stored, which the SDK's method does not return."""
        with _captured_responses() as answers:
            await self.client.create_feedback(run_id, key, stop_after_attempt=1, **fields)
        return _row(answers)

    async def read_feedback(self, feedback_id: str) -> Mapping[str, Any]:
        """Feedback with all its fields. The SDK's model drops unknown fields."""
        with _captured_responses() as answers:
            await self.client.read_feedback(feedback_id)
        return _row(answers)

    async def list_feedback(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        """All feedback of some runs. ``error`` says why a row is an error, wherever LangSmith stores that."""
        with _captured_responses() as answers:
            rows = [row.model_dump(mode="json") async for row in self.client.list_feedback(run_ids=run_ids)]
        raw = [row for answer in answers for row in answer.json()]
        return [row | {"error": feedback_error(as_sent)} for row, as_sent in zip(rows, raw, strict=True)]

    async def aclose(self) -> None:
        """Close the connections of both."""
        await self.client.aclose()
        await self.generated.close()


#: Collects the responses to requests of the current task, because the SDK returns only the fields of its models.
_RESPONSES: ContextVar[list[httpx2.Response] | None] = ContextVar("answers", default=None)


@contextmanager
def _captured_responses() -> Iterator[list[httpx2.Response]]:
    """A context that collects the responses to requests of this task."""
    answers: list[httpx2.Response] = []
    token = _RESPONSES.set(answers)
    try:
        yield answers
    finally:
        _RESPONSES.reset(token)


def _row(answers: Sequence[httpx2.Response]) -> Mapping[str, Any]:
    """The JSON object of the last response; empty if it has none."""
    try:
        row = answers[-1].json() if answers else None
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


class _Transport(httpx2.AsyncClient):
    """An HTTP client that observes ``RequestLimits`` and reports endpoints with a ``Sunset`` header."""

    def __init__(self, sunsets: Sunsets, **options: Any) -> None:
        super().__init__(**options)
        self._sunsets = sunsets

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, within the limits of the current task if there are any."""
        if (limits := current_request_limits()) is None:
            response = await super().send(request, **options)
        else:
            response = await self._send_limited(limits, request, **options)
        self._sunsets.note(request.method, request.url.path, response.headers)
        if (answers := _RESPONSES.get()) is not None:
            answers.append(response)
        return response

    async def _send_limited(self, limits: RequestLimits, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with limits.turn():
                response = await super().send(request, **{**options, "stream": True})
                try:
                    read = await _read(response, limits)
                finally:
                    await response.aclose()
                check_response(read.status_code, read.headers)
        except HttpFailure:  # the destination has recorded it; the SDK checks the response itself
            pass
        return read


async def _read(response: httpx2.Response, limits: RequestLimits) -> httpx2.Response:
    """Read a whole response, and reserve memory for it while it arrives."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        await limits.grow(len(piece))
        body += piece
    content = bytes(body)
    try:
        size = parsed_size(content, len(content))
    except TooComplex as error:
        raise DataTooLarge(str(error).replace("the body", "it")) from None
    await limits.parse(size)
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_THE_BODY]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=content,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
    )


def _transport(base_url: str, tls: ssl.SSLContext, sunsets: Sunsets) -> httpx2.AsyncClient:
    return _Transport(
        sunsets,
        base_url=base_url,
        timeout=_TIMEOUT,
        limits=_LIMITS,
        verify=tls,
        trust_env=False,
        follow_redirects=False,
        event_hooks={"request": [_add_traceparent]},
    )


async def _add_traceparent(request: httpx2.Request) -> None:
    """Add the trace context of the current attempt, if any."""
    if trace := carried():
        request.headers[TRACEPARENT] = trace


class _Client(AsyncClient):
    """The SDK's AsyncClient with the engine's transport, because it cannot ignore proxies from the environment."""

    def __init__(self, settings: LangSmithSettings, transport: httpx2.AsyncClient) -> None:
        super().__init__(
            api_url=settings.endpoint.rstrip("/"),
            api_key=settings.api_key,
            # Unlike None, an empty text is not replaced by LANGSMITH_WORKSPACE_ID.
            workspace_id=settings.workspace_id or "",
            retry_config={"max_retries": 1},
            disable_prompt_cache=True,
            profile_config_path=os.devnull,
        )
        # The SDK's annotations say httpx, but it uses this fork if it is installed.
        transport.headers.update(self._client.headers)
        self._client = transport

    async def aclose(self) -> None:
        """Close the transport, and the generated client that the SDK creates besides and leaves open."""
        await super().aclose()  # type: ignore[no-untyped-call]
        await self._langsmith_api.close()


class _Generated(AsyncLangsmith):
    """The SDK's generated client without headers and tenant from the environment."""

    def __init__(self, settings: LangSmithSettings, transport: httpx2.AsyncClient) -> None:
        super().__init__(
            api_key=settings.api_key,
            base_url=settings.api_root,
            max_retries=0,
            timeout=_TIMEOUT,
            http_client=transport,
        )
        self.tenant_id = settings.workspace_id
        self._custom_headers = {}
