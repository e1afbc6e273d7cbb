"""The people's listener: JSON about events, deliveries and the configuration, replay and reload."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import orjson
from aiohttp import hdrs, web

from engine.admin.describe import describe_actions, describe_config, describe_routes
from engine.admin.destinations import Destinations
from engine.admin.events import Queries
from engine.admin.guard import Guard
from engine.admin.journal import Journal, user_of
from engine.admin.mutes import Muting
from engine.admin.openapi import openapi_document
from engine.admin.query import BadQuery, NotFound, TooSlow
from engine.admin.responses import Renderer, error_response, json_response
from engine.admin.rules import Means, Rules
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

#: How long evaluating an event for people may take, in seconds.
_LONGEST_ANSWER = 30.0
#: The largest body of a question, in bytes.
_BODY_LIMIT = 1024 * 1024
#: Every answer: nothing may be kept, guessed at, framed or made part of another origin's page.
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


class Admin:
    """What the listener can tell and do. Every answer is JSON-able, secrets masked."""

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
        self.renderer = Renderer()
        self.muting = Muting(
            store,
            lambda: reloader.masker,
            lambda: [(route.id, route.name) for route in reloader.current.config.routes],
            changed=mutes.refresh,
            clock=clock,
        )
        self.queries = Queries(
            store,
            lambda: reloader.masker,
            lambda: reloader.current.config.rules,
            woken=worker.wake,
            renderer=self.renderer,
            clock=clock,
        )
        self.rules = Rules(self.queries, Means(lambda: reloader.current, self._muted, self._run, self._fetch))
        self.destinations = Destinations(store, worker.gateway, clock=clock)

    def mask(self, text: str) -> str:
        """A text without secrets."""
        return self._reloader.masker.text(text)

    async def backlog(self) -> dict[str, Any]:
        """How much waits, how much is under way, and the name of the engine that answers."""
        view = backlog_view(await self._store.backlog(), busy=self._worker.busy, now=self._clock())
        return view | {"engine": self._store.owner, "rules": self._about_rules(await self._reloader.file_is())}

    def _about_rules(self, file_is: str) -> dict[str, Any]:
        """Which rules are at work, and what their file is by now."""
        loaded, last = self._reloader.current, self._reloader.last
        return {
            "file": loaded.config.file,
            "path": str(Path(loaded.config.file).absolute()),
            "hash": loaded.config.hash,
            "loaded_at": iso(loaded.at),
            "file_is": file_is,
            "problems": len(last.problems),
        }

    async def _muted(self) -> Mapping[str, Control]:
        return self._mutes.muted

    async def _run(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Code that may be a plug-in's, in a thread that is not waited for without end; masked."""
        try:
            async with asyncio.timeout(_LONGEST_ANSWER), self._asking:
                return await in_thread(lambda: self._masked(work()))
        except TimeoutError:
            message = f"the rules gave no answer within {_LONGEST_ANSWER:g} s"
            raise TooSlow(message, "code of a plug-in may block; the log names what blocks the engine") from None

    def _masked(self, answer: dict[str, Any]) -> dict[str, Any]:
        masked: dict[str, Any] = self._reloader.masker.tree(answer)
        return masked

    async def _fetch(self, _loaded: Loaded, event: Event, needs: frozenset[str], known: Fetched) -> Fetched:
        return await self._hydrator.fetch(event, needs, None, known)

    def routes(self) -> dict[str, Any]:
        """The routes at work."""
        now, undecided = self._clock(), self._undecided.views()
        return {"routes": describe_routes(self._reloader.current, self._mutes.muted, now, undecided)}

    def actions(self) -> dict[str, Any]:
        """The actions there are, and the plug-ins that can't be used."""
        loaded = self._reloader.current
        answer: dict[str, Any] = self._reloader.masker.tree(
            {"actions": describe_actions(loaded.registry), "broken": problem_views(loaded.broken)}
        )
        return answer

    def config(self) -> dict[str, Any]:
        """The configuration at work and its latest reload."""
        answer: dict[str, Any] = self._reloader.masker.tree(
            describe_config(self._reloader.current, self._reloader.last)
        )
        return answer

    async def reload(self, by: str) -> tuple[bool, dict[str, Any]]:
        """Load the file as it is now. Whether that went well, and the answer for it."""
        last = await self._reloader.reload(by)
        loaded = self._reloader.current
        facts: dict[str, Any] = {"hash": loaded.config.hash, "routes": len(loaded.router.routes), "at": iso(last.at)}
        if not last.good:
            facts |= {
                "error": "the configuration was not reloaded: the previous rules stay in use",
                "hint": "fix what `problems` names; the file is loaded again as soon as it is saved",
            }
        answer: dict[str, Any] = self._reloader.masker.tree(
            facts | {"problems": problem_views(last.problems), "broken_plugins": problem_views(loaded.broken)}
        )
        return last.good, answer


def admin_app(admin: Admin, token: str | None) -> web.Application:
    """The admin listener's application. Every request is checked before any handler sees it (see ``Guard``)."""
    api = _Api(admin)
    guard = Guard(token)
    app = web.Application(
        middlewares=[_errors(admin), guard.check],
        client_max_size=_BODY_LIMIT,
        handler_args={"access_log": None},
    )
    app.router.add_get("/", api.index)
    app.router.add_get("/metrics", api.metrics)
    for path, handler in api.addresses().items():
        app.router.add_get(path, handler)
    app.router.add_post("/api/v1/replay", api.replay)
    app.router.add_post("/api/v1/discard", api.discard)
    app.router.add_post("/api/v1/explain", api.explain)
    app.router.add_post("/api/v1/preview", api.preview)
    app.router.add_post("/api/v1/destinations/resume", api.resume)
    app.router.add_post("/-/reload", api.reload)
    app.router.add_post("/api/v1/mutes", api.mute)
    app.router.add_delete("/api/v1/mutes/{id:.+}", api.unmute)
    return app


class _Api:
    """One method an address."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def addresses(self) -> Mapping[str, Handler]:
        """What can be read, by address."""
        queries = self._admin.queries
        return {
            "/api/v1/events": self._asked(queries.events),
            "/api/v1/events/{id}": self._named(queries.event),
            "/api/v1/deliveries": self._asked(queries.deliveries),
            "/api/v1/deliveries/{id}": self._named(queries.delivery),
            "/api/v1/routes": self._told(self._admin.routes),
            "/api/v1/actions": self._told(self._admin.actions),
            "/api/v1/config": self._told(self._admin.config),
            "/api/v1/openapi.json": self._told(openapi_document),
            "/api/v1/destinations": self.destinations,
            "/api/v1/backlog": self.backlog,
            "/api/v1/mutes": self.mutes,
        }

    def _told(self, tell: Callable[[], dict[str, Any]]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            _words(request, none=True)
            return await self._admin.renderer.response(tell)

        return handler

    def _asked(self, ask: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            return await self._respond(await ask(_words(request)))

        return handler

    def _named(self, ask: Callable[[str], Awaitable[dict[str, Any]]]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            return await self._respond(await ask(request.match_info["id"]))

        return handler

    async def _respond(self, answer: dict[str, Any]) -> web.Response:
        return await self._admin.renderer.response(lambda: answer)

    async def destinations(self, request: web.Request) -> web.Response:
        """``GET /api/v1/destinations``."""
        _words(request, none=True)
        return await self._respond(await self._admin.destinations.list())

    async def backlog(self, _request: web.Request) -> web.Response:
        """``GET /api/v1/backlog``."""
        return json_response(await self._admin.backlog())

    async def replay(self, request: web.Request) -> web.Response:
        """``POST /api/v1/replay``."""
        answer = await self._admin.queries.replay(await _body(request))
        self._admin.journal.replayed(answer, user_of(request.headers))
        return await self._respond(answer)

    async def discard(self, request: web.Request) -> web.Response:
        """``POST /api/v1/discard``."""
        body = await _body(request)
        answer = await self._admin.queries.discard(body)
        self._admin.journal.discarded(answer, body.get("by") or user_of(request.headers), body.get("reason") or "")
        return await self._respond(answer)

    async def explain(self, request: web.Request) -> web.Response:
        """``POST /api/v1/explain``."""
        return await self._respond(await self._admin.rules.explain(await _body(request)))

    async def preview(self, request: web.Request) -> web.Response:
        """``POST /api/v1/preview``."""
        return await self._respond(await self._admin.rules.preview(await _body(request)))

    async def resume(self, request: web.Request) -> web.Response:
        """``POST /api/v1/destinations/resume``."""
        answer = await self._admin.destinations.resume(await _body(request))
        if answer["resumed"] or answer["due"]:
            self._admin.journal.resumed(answer["name"], user_of(request.headers))
        return json_response(answer)

    async def mutes(self, _request: web.Request) -> web.Response:
        """``GET /api/v1/mutes``."""
        return json_response(await self._admin.muting.list())

    async def mute(self, request: web.Request) -> web.Response:
        """``POST /api/v1/mutes``."""
        answer = await self._admin.muting.mute({"by": user_of(request.headers)} | await _body(request))
        self._admin.journal.muted(answer["mute"])
        return json_response(answer)

    async def unmute(self, request: web.Request) -> web.Response:
        """``DELETE /api/v1/mutes/ROUTE``."""
        answer = await self._admin.muting.unmute(request.match_info["id"])
        self._admin.journal.unmuted(answer, user_of(request.headers))
        return json_response(answer)

    async def reload(self, request: web.Request) -> web.Response:
        """``POST /-/reload``: 200, or 422 with the problems."""
        good, answer = await self._admin.reload(user_of(request.headers))
        return json_response(answer, 200 if good else 422)

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``, in Prometheus' own format or OpenMetrics', as the Accept header asks for."""
        body, content_type = await self._admin.metrics.page(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def index(self, _request: web.Request) -> web.Response:
        """``GET /``: where things are."""
        paths = ["/metrics", *(path for path in self.addresses() if "{" not in path)]
        links = "".join(f'<li><a href="{path}">{escape(path)}</a>' for path in paths)
        page = (
            "<!doctype html><meta charset=utf-8><title>engine</title><h1>engine: admin listener</h1>"
            f"<ul>{links}</ul><p>POST /api/v1/replay, POST /api/v1/discard, POST /api/v1/explain, "
            "POST /api/v1/preview, POST /api/v1/destinations/resume, POST /api/v1/mutes, "
            "POST /-/reload; /healthz and /readyz are on the public listener; "
            "the whole is described in openapi.json."
        )
        return web.Response(text=page, content_type="text/html")


def _words(request: web.Request, *, none: bool = False) -> dict[str, str]:
    """The query string's words, each at most once."""
    words = dict(request.query)
    if len(words) != len(request.query):
        raise BadQuery("a field stands twice in the query", "write each once")
    if none and words:
        raise BadQuery(f"{request.path} takes no fields", "leave the query out")
    return words


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadQuery(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadQuery("the body is not a JSON object", 'write {"deliveries": [ids]}')
    return body


def _errors(admin: Admin) -> Any:
    """Every fault as JSON, ``error`` and ``hint``, secrets masked."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _guarded(admin, request, handler)
        response.headers.update(_HEADERS)
        return response

    return middleware


async def _guarded(admin: Admin, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadQuery as error:
        return error_response(400, admin.mask(str(error)), admin.mask(error.hint), candidates=error.candidates)
    except NotFound as error:
        return error_response(404, admin.mask(str(error)), error.hint)
    except TooSlow as error:
        return error_response(503, str(error), error.hint)
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
