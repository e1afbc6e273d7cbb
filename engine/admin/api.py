"""The admin listener: JSON about events, deliveries and the configuration, replay and reload."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from engine.admin.audit_log import Journal, user_of
from engine.admin.describe import describe_actions, describe_config, describe_routes
from engine.admin.guard import Guard
from engine.admin.openapi import openapi_document
from engine.admin.openapi_schemas import OBJECT
from engine.admin.operations import OPERATIONS, Api, Call, Operation
from engine.admin.query import BadQuery, Refusal, TooSlow
from engine.admin.responses import error_response, json_response
from engine.admin.rules import Means
from engine.admin.views import backlog_view, iso, problem_views
from engine.core.document import Fetched
from engine.core.errors import StoreBusy, StoreError
from engine.core.event import Event
from engine.core.offload import in_thread
from engine.core.serve_settings import Address
from engine.rules.reload import Loaded, Reloader
from engine.store.protocol import Store
from engine.store.records import Control
from engine.telemetry.metrics import Metrics, UndecidedRoutes
from engine.worker.context import Mutes
from engine.worker.hydrate import Hydrator
from engine.worker.worker import Worker

#: How long the evaluation of an event for an answer may take, in seconds.
_LONGEST_ANSWER = 30.0
#: The largest body of a request, in bytes.
_BODY_LIMIT = 1024 * 1024
#: Sent with every answer: nothing may be cached, sniffed, framed or made part of a page of another origin.
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_logger = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin(Api):
    """The API of a running engine. Every answer is JSON-able, secrets masked."""

    def __init__(
        self,
        store: Store,
        worker: Worker,
        reloader: Reloader,
        metrics: Metrics,
        mutes: Mutes,
        undecided: UndecidedRoutes,
        *,
        hydrator: Hydrator,
        public: Address,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.metrics, self.journal, self.public = metrics, journal or Journal(_logger), public
        self._hydrator, self._asking = hydrator, asyncio.Semaphore(1)
        self._store, self._worker, self._reloader, self._clock = store, worker, reloader, clock
        self._mutes, self._undecided = mutes, undecided
        super().__init__(
            store,
            lambda: reloader.masker,
            lambda: reloader.current.config,
            Means(lambda: reloader.current, self._muted, self._run, self._fetch),
            gateway=worker.gateway,
            woken=worker.wake,
            changed=mutes.refresh,
            clock=clock,
        )

    def mask(self, text: str) -> str:
        """A text without secrets."""
        return self._reloader.masker.text(text)

    def _masked(self, answer: dict[str, Any]) -> dict[str, Any]:
        masked: dict[str, Any] = self._reloader.masker.tree(answer)
        return masked

    async def _muted(self) -> Mapping[str, Control]:
        return self._mutes.muted

    async def _run(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run code that may be a plug-in's in a thread, for a limited time; the answer is masked."""
        try:
            async with asyncio.timeout(_LONGEST_ANSWER), self._asking:
                return await in_thread(lambda: self._masked(work()))
        except TimeoutError:
            message = f"the rules gave no answer within {_LONGEST_ANSWER:g} s"
            raise TooSlow(message, "code of a plug-in may block; the log names what blocks the engine") from None

    async def _fetch(self, _loaded: Loaded, event: Event, needs: frozenset[str], known: Fetched) -> Fetched:
        return await self._hydrator.fetch(event, needs, None, known)

    async def backlog(self) -> dict[str, Any]:
        """How much waits, how much is under way, and the name of the engine that answers."""
        view = backlog_view(await self._store.backlog(), busy=self._worker.busy, now=self._clock())
        return view | {"engine": self._store.owner, "rules": self._about_rules(await self._reloader.file_is())}

    def _about_rules(self, file_is: str) -> dict[str, Any]:
        loaded = self._reloader.current
        return {
            "file": loaded.config.file,
            "path": str(Path(loaded.config.file).absolute()),
            "hash": loaded.config.hash,
            "loaded_at": iso(loaded.at),
            "file_is": file_is,
            "problems": len(self._reloader.last.problems),
        }

    async def routes(self) -> dict[str, Any]:
        """The routes in use."""
        muted, undecided = self._mutes.muted, self._undecided.views()
        loaded, now = self._reloader.current, self._clock()
        return await self.renderer.make(lambda: {"routes": describe_routes(loaded, muted, now, undecided)})

    async def actions(self) -> dict[str, Any]:
        """The actions that routes can use, and the plug-ins that cannot be used."""
        loaded = self._reloader.current
        broken = problem_views(loaded.broken)
        return await self.renderer.make(
            lambda: self._masked({"actions": describe_actions(loaded.registry), "broken": broken})
        )

    async def config(self) -> dict[str, Any]:
        """The configuration in use and its latest reload."""
        loaded, last = self._reloader.current, self._reloader.last
        return await self.renderer.make(lambda: self._masked(describe_config(loaded, last)))

    async def reload(self, by: str) -> dict[str, Any]:
        """Load the file as it is now; the answer has an ``error`` where it cannot be used."""
        last = await self._reloader.reload(by)
        loaded = self._reloader.current
        facts: dict[str, Any] = {"hash": loaded.config.hash, "routes": len(loaded.router.routes), "at": iso(last.at)}
        if not last.good:
            facts |= {
                "error": "the configuration was not reloaded: the previous rules stay in use",
                "hint": "fix what `problems` names; the file is loaded again as soon as it is saved",
            }
        problems = {"problems": problem_views(last.problems), "broken_plugins": problem_views(loaded.broken)}
        return self._masked(facts | problems)


#: What only a running engine answers.
_LIVE: Final[tuple[Operation[Admin], ...]] = (
    Operation("GET", "/api/v1/routes", lambda admin, call: admin.routes(), "The routes, in file order", "Routes"),
    Operation(
        "GET", "/api/v1/actions", lambda admin, call: admin.actions(), "The actions that routes can use", "Actions"
    ),
    Operation(
        "GET",
        "/api/v1/config",
        lambda admin, call: admin.config(),
        "The configuration in use and its latest reload",
        "Config",
    ),
    Operation("GET", "/api/v1/backlog", lambda admin, call: admin.backlog(), "How much waits", "Backlog"),
    Operation(
        "POST",
        "/-/reload",
        lambda admin, call: admin.reload(call.by),
        "Load the configuration file as it is now",
        "Reload",
        body=OBJECT,
        refusal="ReloadRefused",
    ),
)
ALL_OPERATIONS: Final[tuple[Operation[Admin], ...]] = (*OPERATIONS, *_LIVE)


def admin_app(admin: Admin, token: str | None) -> web.Application:
    """The admin listener's application. Every request is checked before any handler sees it (see ``Guard``)."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await admin.metrics.page(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def description(request: web.Request) -> web.Response:
        return await admin.renderer.response(lambda: openapi_document(ALL_OPERATIONS))

    app = web.Application(
        middlewares=[_errors(admin), Guard(token).check],
        client_max_size=_BODY_LIMIT,
        handler_args={"access_log": None},
    )
    app.router.add_get("/", _index)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/api/v1/openapi.json", description)
    for operation in ALL_OPERATIONS:
        path = operation.path.replace("{id}", "{id:.+}") if operation.method == "DELETE" else operation.path
        app.router.add_route(operation.method, path, _handler(admin, operation))
    return app


def _handler(admin: Admin, operation: Operation[Admin]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        fields = await _fields(request, operation)
        call = Call(fields, request.match_info.get("id", ""), user_of(request.headers))
        answer = await operation.run(admin, call)
        if operation.journal is not None:
            operation.journal(admin.journal, answer, call)
        if operation.refusal:
            return json_response(answer, 422 if "error" in answer else 200)
        return await admin.renderer.response(lambda: answer)

    return handler


async def _fields(request: web.Request, operation: Operation[Any]) -> Mapping[str, Any]:
    """What an operation is asked with: the fields of the body, or of the query, each at most once."""
    if operation.body is not None:
        return {} if operation.body is OBJECT else await _body(request)
    fields = dict(request.query)
    if len(fields) != len(request.query):
        raise BadQuery("a field stands twice in the query", "write each once")
    if fields and not operation.query and not operation.id:
        raise BadQuery(f"{request.path} takes no fields", "leave the query out")
    return fields


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadQuery(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadQuery("the body is not a JSON object", 'write {"deliveries": [ids]}')
    return body


async def _index(_request: web.Request) -> web.Response:
    """``GET /``: where things are."""
    read = [operation.path for operation in ALL_OPERATIONS if operation.method == "GET" and not operation.id]
    changes = [f"{operation.method} {operation.path}" for operation in ALL_OPERATIONS if operation.method != "GET"]
    links = "".join(f'<li><a href="{path}">{escape(path)}</a>' for path in ["/metrics", *read, "/api/v1/openapi.json"])
    page = (
        "<!doctype html><meta charset=utf-8><title>engine</title><h1>engine: admin listener</h1>"
        f"<ul>{links}</ul><p>{', '.join(changes)}; /healthz and /readyz are on the public listener; "
        "openapi.json describes all of it."
    )
    return web.Response(text=page, content_type="text/html")


def _errors(admin: Admin) -> Any:
    """Every error as JSON, ``error`` and ``hint``, secrets masked."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _guarded(admin, request, handler)
        response.headers.update(_HEADERS)
        return response

    return middleware


async def _guarded(admin: Admin, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as error:
        about = admin.mask(str(error)), admin.mask(error.hint)
        return error_response(error.status, *about, candidates=error.candidates)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return error_response(405, f"{request.method} is not for this address", f"use {allowed}", {hdrs.ALLOW: allowed})
    except web.HTTPNotFound:
        return error_response(404, "nothing is here", _where_instead(request.path, admin.public))
    except web.HTTPRequestEntityTooLarge:
        return error_response(413, f"the body is more than {_BODY_LIMIT} bytes", "ask in several requests")
    except StoreBusy as error:
        return error_response(503, admin.mask(f"the store is busy: {error}"), "ask again", {hdrs.RETRY_AFTER: "1"})
    except StoreError as error:
        return error_response(500, admin.mask(f"the store cannot answer: {error}"), "the log tells more")
    except web.HTTPException:
        raise
    except Exception:
        # A request is where its work ends; the traceback goes to the log, which masks.
        _logger.exception("an admin request failed: %s %s", request.method, request.path)
        return error_response(500, "this is a fault of the engine", "the log has the traceback")


def _where_instead(path: str, public: Address) -> str:
    """Where to find what a request to an unknown address probably meant."""
    if path.startswith("/webhooks"):
        return f"webhooks go to the public listener, {public}: engine serve --listen"
    if path in ("/healthz", "/readyz"):
        return f"{path} is on the public listener: engine serve --listen"
    return "the addresses are at /api/v1/openapi.json"
