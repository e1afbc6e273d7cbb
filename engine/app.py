"""Wires everything: settings → a running engine."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from engine.admin.api import Admin, admin_app
from engine.admin.audit_log import Journal
from engine.clients.guard import OwnListeners
from engine.clients.langsmith import Sunsets
from engine.clients.session import Clients
from engine.config import Retention
from engine.core.counters import Counts
from engine.core.masking import Masker
from engine.core.memory_budget import Memory
from engine.core.process import connections_allowed
from engine.core.serve_settings import Address, ServeSettings, SettingsError
from engine.core.trace import Spans
from engine.receiver.readiness import Readiness
from engine.receiver.receiver import Receiver
from engine.receiver.responses import REFUSALS
from engine.receiver.server import IDLE, Connections, receiver_runner, redacting_logger
from engine.receiver.tls import Site, Tls
from engine.rules.load_warnings import log_warnings
from engine.rules.reload import LastReload, Loader, Reloader
from engine.rules.requirements import needs_secrets
from engine.store import open_store
from engine.store.protocol import Store
from engine.telemetry.loop_lag import LoopLag
from engine.telemetry.metrics import Metrics, UndecidedRoutes
from engine.worker.attempt import Executor
from engine.worker.context import Context, InMemoryEvents, Mutes, Rules
from engine.worker.hydrate import Hydrator
from engine.worker.observer import LogObserver, Observer, Observers
from engine.worker.plugin_loop import PluginLoops
from engine.worker.retention import RetentionService
from engine.worker.slack_threads import StoredThreads
from engine.worker.worker import Worker

#: How many accepted events may wait in memory to be evaluated; ``memory_limit`` bounds their bytes.
_MOST_EVALUATIONS = 8192
#: How long requests may take to end at a stop, in seconds.
_REQUESTS_END = 3.0


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A running engine: where it listens, and its parts for programs that embed it."""

    public: Address
    admin: Address
    store: Store
    worker: Worker
    reloader: Reloader
    metrics: Metrics
    mutes: Mutes


@asynccontextmanager
async def running(
    settings: ServeSettings,
    logger: logging.Logger,
    *,
    environ: Mapping[str, str] = os.environ,
    observers: Sequence[Observer] = (),
    before_listening: Callable[[], None] = lambda: None,
    masking: Callable[[Callable[[], Masker]], None] = lambda _: None,
    dropped_lines: Counts | None = None,
) -> AsyncIterator[Running]:
    """Start everything in order; on leaving, stop it in the opposite order.

    ``before_listening`` is called when everything is loaded and no connection is accepted yet. ``masking`` gets, before
    any code of a plug-in runs, a function that returns the masker of the current secrets. ``dropped_lines`` counts the
    lines that the log dropped.

    Raises:
        ConfigError: the configuration cannot be used.
        SettingsError: the settings do not go together, or the certificate can't be used.
        StoreError: the store cannot be opened.
    """
    settings.check()
    async with AsyncExitStack() as stack:
        tls = Tls(settings.tls) if settings.tls else None
        reloader = await _load(settings, environ, logger, masking)

        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = open_store(settings.store_url, keys=settings.store_key, max_values=settings.max_values)
        await store.open()
        stack.push_async_callback(store.close)

        metrics = Metrics(
            CollectorRegistry(),
            routes=lambda: reloader.current.router.routes,
            backlog=store.backlog,
            mask=reloader.mask,
            knows=lambda route, action: reloader.current.router.find(route, action) is not None,
            rejections=REFUSALS,
        )
        spans, traced = _make_spans(stack, settings, environ, reloader.mask)
        undecided = UndecidedRoutes(reloader.mask)
        observer = Observers([LogObserver(logger), metrics, undecided, *traced, *observers])

        own_listeners = OwnListeners()
        threads, sunsets = StoredThreads(store, logger), _sunsets(metrics)
        make_clients = partial(
            Clients, lambda: reloader.current.router, own_listeners, sunsets=sunsets, threads=threads
        )
        clients = make_clients()
        stack.push_async_callback(clients.close)
        await clients.langsmith.warm_up()
        plugins = PluginLoops(make_clients, Clients.close, logger)
        stack.push_async_callback(plugins.close)
        mutes = await _watch_mutes(stack, store, logger)
        hydrator = Hydrator(
            lambda: clients.langsmith,
            clients.http,
            turn=lambda destination: worker.gateway.turn(destination),  # noqa: PLW0108 - the worker is made later
            max_values=settings.max_values,
        )
        stack.push_async_callback(hydrator.close)
        context = Context(
            store=store,
            rules=Rules(reloader.current.router, reloader.masker),
            events=InMemoryEvents(
                hydrator,
                lambda event_id, fetched: store.save_fetched(event_id, fetched.to_json()),
                Memory(settings.memory_limit, lambda: worker.bytes_in_memory),
            ),
            observer=observer,
            logger=logger,
            mutes=mutes,
        )
        executor = Executor(clients, plugins, store.fingerprint, spans)
        lag = _watch_loop(stack, logger, executor)
        worker = Worker(
            context,
            executor,
            limit=settings.concurrency,
            byte_limit=settings.memory_limit,
            evaluations=_MOST_EVALUATIONS,
        )
        reloader.listen(lambda last: worker.reloaded(Rules(reloader.current.router, reloader.masker), good=last.good))
        reloader.listen(lambda _: plugins.reloaded({type(one.action) for one in reloader.current.registry}))
        reloader.listen(lambda last: _report_reload(observer, reloader, last))
        _report_reload(observer, reloader, reloader.last)
        await worker.start()
        stack.push_async_callback(worker.stop, settings.grace)

        retention = await _start_retention(stack, store, lambda: reloader.current.config.retention, logger)
        readiness = Readiness(
            lambda: store.heartbeat(now=time.time()),
            settings.store_folder,
            checks=[lambda: "full" if retention.full else ""],
        )
        stack.push_async_callback(readiness.close)
        receiver = Receiver(
            append=worker.accept,
            secrets=lambda: reloader.current.config.secrets,
            signing_secrets=lambda: reloader.current.config.signing_secrets,
            ready=readiness.obstacle,
            obstacle=lambda: retention.full,
            limit=settings.body_limit,
            max_values=settings.max_values,
            on_result=observer.answered,
            spans=spans,
        )
        before_listening()
        public = await _listen_public(stack, receiver, settings, tls, metrics)
        _show(metrics, worker, receiver, readiness, lag, store, retention, dropped_lines or Counts())
        admin = await _listen_admin(
            stack,
            Admin(
                store,
                worker,
                reloader,
                metrics,
                mutes,
                undecided,
                hydrator=hydrator,
                public=public,
                journal=Journal(logger),
            ),
            settings,
            tls,
            own_listeners,
        )
        _in_background(stack, reloader.watch(), log_warnings(reloader, logger))
        if tls is not None:
            _in_background(stack, tls.watch())
            reloader.listen(lambda _: tls.check_soon())
        # The stop begins here, from the last line up: webhooks are refused, received ones are stored, work in progress
        # is finished. Both listeners answer meanwhile: the public one 503 `stopping`, the admin one as usual.
        stack.push_async_callback(worker.stop, settings.grace)
        stack.push_async_callback(receiver.settled)
        stack.callback(receiver.stopping)
        yield Running(public, admin, store, worker, reloader, metrics, mutes)


async def _load(
    settings: ServeSettings,
    environ: Mapping[str, str],
    logger: logging.Logger,
    masking: Callable[[Callable[[], Masker]], None],
) -> Reloader:
    """Load the configuration."""
    loader = Loader(
        settings.config,
        environ,
        env_file=settings.env_file,
        check=needs_secrets(settings.listen),
        secrets=settings.secrets,
    )
    masking(lambda: loader.masker)
    reloader = Reloader(loader, await loader.load_offloaded(), logger)
    masking(lambda: reloader.masker)
    return reloader


def _make_spans(
    stack: AsyncExitStack, settings: ServeSettings, environ: Mapping[str, str], mask: Callable[[str], str]
) -> tuple[Spans | None, Sequence[Observer]]:
    """Spans and their observers; neither, unless traces are enabled.

    Raises:
        EngineError: a package for traces is missing; says what to install.
    """
    asked = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not (settings.traces or any(map(environ.get, asked))):
        return None, ()
    from engine.telemetry.otel import TraceObserver, otlp_spans

    spans = otlp_spans(environ, mask)
    stack.push_async_callback(spans.close)
    return spans, (TraceObserver(spans),)


async def _listen_public(
    stack: AsyncExitStack, receiver: Receiver, settings: ServeSettings, tls: Tls | None, metrics: Metrics
) -> Address:
    """Start to accept webhooks, over a limited number of connections so that file descriptors remain."""
    connections = Connections(connections_allowed(settings.concurrency))
    metrics.gauge("engine_connections", "Open connections of the public listener.", lambda: connections.count)
    metrics.show("engine_connections_closed", "How many were closed to make room.", connections.closed, "why")
    return await _listen(stack, receiver_runner(receiver, connections), settings.listen, "--listen", tls)


async def _listen_admin(
    stack: AsyncExitStack, admin: Admin, settings: ServeSettings, tls: Tls | None, own_listeners: OwnListeners
) -> Address:
    """Start the admin listener. Requests of actions cannot reach it."""
    app = admin_app(admin, settings.admin_token)
    runner = web.AppRunner(
        app, access_log=None, logger=redacting_logger(), keepalive_timeout=IDLE, shutdown_timeout=_REQUESTS_END
    )
    address = await _listen(stack, runner, settings.admin, "--admin", tls if settings.admin_tls else None)
    own_listeners.add(runner.addresses)
    return address


async def _watch_mutes(stack: AsyncExitStack, store: Store, logger: logging.Logger) -> Mutes:
    """The muted routes, kept up to date from the store."""
    mutes = Mutes(store, logger)
    await mutes.refresh()
    _in_background(stack, mutes.keep_fresh())
    return mutes


async def _start_retention(
    stack: AsyncExitStack, store: Store, ages: Callable[[], Retention], logger: logging.Logger
) -> RetentionService:
    """Start to delete old records and to watch the store's size."""
    retention = RetentionService(store, ages, logger)
    await retention.start()
    stack.push_async_callback(retention.stop)
    return retention


def _watch_loop(stack: AsyncExitStack, logger: logging.Logger, executor: Executor) -> LoopLag:
    """Start to log what blocks the event loop."""
    lag = LoopLag(logger, jobs=lambda: list(executor.in_plugins.values()))
    lag.start()
    stack.callback(lag.stop)
    return lag


def _sunsets(metrics: Metrics) -> Sunsets:
    sunsets = Sunsets()
    metrics.show("engine_langsmith_sunset", "Answers of LangSmith with a Sunset header.", sunsets.counts, "endpoint")
    return sunsets


def _report_reload(observer: Observer, reloader: Reloader, last: LastReload) -> None:
    observer.reloaded(len(last.problems), reloader.current.config.hash, last.at)


def _show(
    metrics: Metrics,
    worker: Worker,
    receiver: Receiver,
    readiness: Readiness,
    lag: LoopLag,
    store: Store,
    retention: RetentionService,
    dropped_lines: Counts,
) -> None:
    """Add the metrics that parts of the engine count."""
    metrics.unready = receiver.unready
    metrics.in_memory = worker.gateway.waiting_counts
    admission = receiver.admission
    gauges: dict[str, tuple[str, Callable[[], Any]]] = {
        "engine_work_under_way": (
            "Evaluations and deliveries in progress, without those that wait.",
            lambda: worker.busy,
        ),
        "engine_offload_waiting": (
            "Evaluations and renderings that wait for a thread.",
            lambda: worker.waiting_for_threads,
        ),
        "engine_body_bytes_in_hand": ("Bytes of webhooks that are not stored yet.", admission.in_memory),
        "engine_appends_under_way": ("Webhooks that wait for the store.", lambda: admission.under_way),
        "engine_disk_free_bytes": ("Free space on the store's disk.", readiness.read_free),
        "engine_store_bytes": (
            "The size of the store.",
            lambda: {(): retention.size.used} if retention.size else {},
        ),
    }
    for name, facts in gauges.items():
        metrics.gauge(name, *facts)
    counters: dict[str, tuple[Any, ...]] = {
        "engine_store_commit_seconds": ("Duration of the store's transactions.", store.commits.seconds),
        "engine_store_commit_verbs": ("How many writes shared a transaction.", store.commits.verbs),
        "engine_log_lines_dropped": ("Log lines that were not written.", dropped_lines),
        "engine_loop_lag_seconds": ("How late the event loop's clock ticked.", lag.lag),
        "engine_loop_stalls": ("How often the event loop was blocked.", lag.stalls, "culprit"),
        "engine_loop_stall_seconds": ("For how long it was blocked.", lag.stall_seconds, "culprit"),
    }
    for name, counted in counters.items():
        metrics.show(name, *counted)


def _in_background(stack: AsyncExitStack, *works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until the stop. An exception that ends one is logged."""
    for work in works:
        task = asyncio.create_task(work)
        task.add_done_callback(_report_end)
        stack.callback(task.cancel)


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        name = getattr(task.get_coro(), "__qualname__", "a task")
        _logger.error("%s ended because of a bug in the engine: restart it, and report this", name, exc_info=error)


async def _listen(
    stack: AsyncExitStack, runner: web.BaseRunner, address: Address, flag: str, tls: Tls | None
) -> Address:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await Site(runner, address, tls).start()
    except OSError as error:
        raise _cannot_listen(address, flag, error) from None
    return Address(address.host, runner.addresses[0][1])


def _cannot_listen(address: Address, flag: str, error: OSError) -> SettingsError:
    why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return SettingsError(f"cannot listen on {address}: {why}; name another address with {flag} HOST:PORT")
