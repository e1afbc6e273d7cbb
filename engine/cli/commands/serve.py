"""``engine serve``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from engine.app import Running, running
from engine.cli.commands.mutes import muted_message
from engine.cli.main import FINDINGS
from engine.cli.support.admin_address import AdminAddress, announced, folder_of, url_of
from engine.cli.support.log_lines import formatter_for_standard_error
from engine.cli.support.options import (
    ADDRESS,
    DURATION,
    SIZE,
    config_option,
    data_of,
    env_file_of,
    store_options,
)
from engine.cli.support.output import err, out
from engine.cli.support.tables import Pairs
from engine.core.errors import EngineError
from engine.core.json_text import MAX_VALUES
from engine.core.masking import Masker
from engine.core.offload import in_thread
from engine.core.process import descriptors_needed, raise_descriptor_limit, tune_interpreter
from engine.core.serve_settings import Address, ServeSettings, TlsFiles
from engine.receiver.receiver import WEBHOOK_PATH
from engine.store.encryption import VARIABLE as KEY_VARIABLE
from engine.telemetry.log import route_logging
from engine.telemetry.log_queue import LogQueue

#: How long writing the banner may take if nothing reads standard output, in seconds.
_LONGEST_BANNER = 1.0


@click.command("serve")
@config_option
@click.option(
    "--listen",
    type=ADDRESS,
    default="0.0.0.0:8080",
    envvar="ENGINE_LISTEN",
    show_default=True,
    show_envvar=True,
    help="Where LangSmith's webhooks come in; port 0 takes a free one.",
)
@click.option(
    "--admin",
    type=ADDRESS,
    default="127.0.0.1:8081",
    envvar="ENGINE_ADMIN",
    show_default=True,
    show_envvar=True,
    help="The people's listener. Beyond loopback it needs ENGINE_ADMIN_TOKEN.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    envvar="ENGINE_TLS_CERT",
    show_envvar=True,
    help="Speak HTTPS with this certificate (PEM, the whole chain); renewed files are taken up.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    envvar="ENGINE_TLS_KEY",
    show_envvar=True,
    help="The certificate's key, if it is not in the same file. Its password is in ENGINE_TLS_PASSWORD.",
)
@store_options
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="ENGINE_LOG_FORMAT",
    show_default=True,
    show_envvar=True,
    help="Log lines for people or for machines.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    envvar="ENGINE_LOG_LEVEL",
    show_default=True,
    show_envvar=True,
    help="The least important lines to log.",
)
@click.option(
    "--grace",
    type=DURATION,
    default="10s",
    envvar="ENGINE_GRACE",
    show_default=True,
    show_envvar=True,
    help="How long a stop waits for what is under way.",
)
@click.option(
    "--body-limit",
    type=SIZE,
    default="64MiB",
    envvar="ENGINE_BODY_LIMIT",
    show_default=True,
    show_envvar=True,
    help="The largest webhook taken, decompressed.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=512,
    envvar="ENGINE_CONCURRENCY",
    show_default=True,
    show_envvar=True,
    help="How many deliveries are under way at once, at most, and how many evaluations beside them.",
)
@click.option(
    "--memory-limit",
    type=SIZE,
    default="256MiB",
    envvar="ENGINE_MEMORY_LIMIT",
    show_default=True,
    show_envvar=True,
    help="How much memory parsed webhooks and data fetched for them may use; the rest waits in the store.",
)
@click.option(
    "--max-values",
    type=click.IntRange(1),
    default=MAX_VALUES,
    envvar="ENGINE_MAX_VALUES",
    show_default=True,
    show_envvar=True,
    help="How many JSON values a webhook may have to be parsed; with more it is kept, for routes under `unmatched`.",
)
@click.option(
    "--traces",
    is_flag=True,
    envvar="ENGINE_TRACES",
    show_envvar=True,
    help="Make OpenTelemetry traces and send them by OTLP over HTTP; so does OTEL_EXPORTER_OTLP_ENDPOINT.",
)
def command(
    config: Path,
    env_file: Path | None,
    no_env_file: bool,  # noqa: FBT001
    listen: Address,
    admin: Address,
    tls_cert: Path | None,
    tls_key: Path | None,
    data: Path | None,
    store: str | None,
    log_format: str,
    log_level: str,
    grace: float,
    body_limit: int,
    concurrency: int,
    memory_limit: int,
    max_values: int,
    *,
    traces: bool,
) -> None:
    """Receive LangSmith's webhooks and run the actions of the routes that match.

    The configuration is watched: an edit counts as soon as it is saved, and one with a
    mistake leaves the previous rules in use. SIGHUP reloads it, too. SIGTERM or Ctrl-C
    stops gracefully, a second one at once.
    """
    settings = ServeSettings(
        config=config,
        data=data_of(config, data),
        store=store,
        listen=listen,
        admin=admin,
        admin_token=os.environ.get("ENGINE_ADMIN_TOKEN", "").strip() or None,
        store_key=os.environ.get(KEY_VARIABLE, ""),
        tls=_tls_files(tls_cert, tls_key),
        grace=grace,
        body_limit=body_limit,
        concurrency=concurrency,
        traces=traces,
        memory_limit=memory_limit,
        max_values=max_values,
        env_file=env_file_of(config, env_file, without=no_env_file),
    )
    masker = _CurrentMasker()
    lines = LogQueue(formatter_for_standard_error(log_format, masker))
    logger = route_logging(lines, log_level)
    try:
        with _uncaught_logged(logger), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, lines, masker, logger, json=log_format == "json"))
    except (EngineError, KeyboardInterrupt):
        raise
    except BaseException as error:
        logger.critical("the engine ended by a fault: start it again, and report this", exc_info=error)
        sys.exit(FINDINGS)


@contextlib.contextmanager
def _uncaught_logged(logger: logging.Logger) -> Iterator[None]:
    """What no code catches, in threads and in finalizers, is a log line: Python would print it, not masked."""

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else "unknown"
            logger.error("the thread %s ended by an exception", name, exc_info=args.exc_value)

    def of_finalizer(args: sys.UnraisableHookArgs) -> None:
        what = args.err_msg or "an exception was ignored"
        logger.error("%s in %s", what, type(args.object).__name__, exc_info=args.exc_value)

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = of_thread, of_finalizer
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before


def _tls_files(cert: Path | None, key: Path | None) -> TlsFiles | None:
    if cert is None:
        if key is not None:
            raise click.UsageError("--tls-key is of no use without --tls-cert")
        return None
    return TlsFiles(cert, key or cert, os.environ.get("ENGINE_TLS_PASSWORD") or None)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _raise_limit(concurrency: int, logger: logging.Logger) -> None:
    """Have as many connections as the system allows, and say so where these are too few."""
    limit, needed = raise_descriptor_limit(), descriptors_needed(concurrency)
    if limit is not None and limit < needed:
        told = {"limit": limit, "needed": needed, "next": "raise `ulimit -Hn`, or lower --concurrency"}
        logger.warning("this process may have too few open files and connections", extra=told)


async def _serve(
    settings: ServeSettings, lines: LogQueue, masker: _CurrentMasker, logger: logging.Logger, *, json: bool
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        # Lines wait until now, to come out below the banner and with the secrets known.
        with _written_afterwards(lines):
            _raise_limit(settings.concurrency, logger)
            engine = await stack.enter_async_context(
                running(
                    settings,
                    logger,
                    before_listening=tune_interpreter,
                    masking=masker.follow,
                    dropped_lines=lines.dropped,
                )
            )
            address = AdminAddress(_admin_url(engine, settings), engine.store.owner)
            stack.enter_context(announced(folder_of(settings.store, settings.data), address, logger))
            stop = asyncio.Event()
            _handle_signals(engine, stop, logger)
            await _announce(engine, settings, logger, json=json)
        await stop.wait()
        logger.info("stopping", extra={"grace": settings.grace, "under_way": engine.worker.busy})
    logger.info("stopped")


@contextlib.contextmanager
def _written_afterwards(lines: LogQueue) -> Iterator[None]:
    """Log lines are written from the end on, and first of all where it ends by an exception."""
    try:
        yield
    except BaseException:
        lines.flush()
        raise
    lines.start()


class _CurrentMasker:
    """Knows the secrets of now, once there are any."""

    def __init__(self) -> None:
        nothing = Masker()
        self.live: Callable[[], Masker] = lambda: nothing

    def follow(self, live: Callable[[], Masker]) -> None:
        """Ask this from now on."""
        self.live = live

    def __call__(self) -> Masker:
        return self.live()


def _handle_signals(engine: Running, stop: asyncio.Event, logger: logging.Logger) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[Any]] = set()

    def on_stop(number: int) -> None:
        if stop.is_set():
            # Nothing accepted is lost: what was under way is taken up at the next start.
            logger.warning("stopped at once; what was under way is taken up at the next start")
            logging.shutdown()
            os._exit(128 + number)
        stop.set()

    def on_reload() -> None:
        task = loop.create_task(engine.reloader.reload("SIGHUP"))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        _on_signal(loop, number, functools.partial(on_stop, number))
    if hasattr(signal, "SIGHUP"):
        _on_signal(loop, signal.SIGHUP, on_reload)


def _on_signal(loop: asyncio.AbstractEventLoop, number: signal.Signals, callback: Callable[[], None]) -> None:
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:  # Windows' loops have no signal handlers of their own
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(callback))


async def _announce(engine: Running, settings: ServeSettings, logger: logging.Logger, *, json: bool) -> None:
    loaded = engine.reloader.current
    plugins = [registered for registered in loaded.registry if not registered.builtin]
    if json:
        given = {"public": str(engine.public), "admin": str(engine.admin), "store": _where(settings)}
        given |= {"env_file": str(loaded.config.env_file)} if loaded.config.env_file else {}
        given |= {"tls": str(settings.tls.cert)} if settings.tls else {}
        counts: dict[str, Any] = {"routes": len(loaded.router.routes), "plugins": len(plugins)}
        counts |= {"muted": len(engine.mutes.muted), "hash": loaded.config.hash}
        logger.info("serving", extra={"config": str(settings.config), **given, **counts, "pid": os.getpid()})
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_BANNER):
            await in_thread(lambda: _print_banner(engine, settings, [plugin.name for plugin in plugins]))


def _print_banner(engine: Running, settings: ServeSettings, plugins: list[str]) -> None:
    loaded, console = engine.reloader.current, out()
    console.print(Text("engine serves", style="bold green"), Text(f"(pid {os.getpid()})", style="dim"))
    console.print(
        Pairs(
            [
                ("  config", f"{settings.config} · {loaded.config.hash}"),
                ("  variables", loaded.config.env_file),
                ("  routes", _count_routes(engine)),
                ("  muted", muted_message(engine.mutes.muted)),
                ("  plug-ins", ", ".join(sorted(plugins))),
                ("  store", _where(settings)),
                ("  admin", f"{_admin_url(engine, settings)}/"),
                ("  webhook", Text(_webhook(engine, settings), style="bold")),
            ]
        )
    )
    console.file.flush()  # what started it may wait for this line in a pipe
    if not engine.public.is_loopback:
        err().print(Text("  LangSmith must reach it: give the public https address of this machine there", style="dim"))


def _count_routes(engine: Running) -> str:
    loaded = engine.reloader.current
    live, all_ = len(loaded.router.routes), len(loaded.config.routes)
    return f"{live}" if live == all_ else f"{live}, and {all_ - live} disabled"


def _where(settings: ServeSettings) -> str:
    """The store, without a password."""
    if settings.store is None:
        return str(settings.data / "engine.db")
    scheme, slashes, rest = settings.store.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def _admin_url(engine: Running, settings: ServeSettings) -> str:
    return url_of(engine.admin, tls=settings.admin_tls is not None)


def _webhook(engine: Running, settings: ServeSettings) -> str:
    """What to paste into LangSmith. The secret's place is shown, never the secret."""
    base = f"{url_of(engine.public, tls=settings.tls is not None)}{WEBHOOK_PATH}"
    return f"{base}?secret=…" if engine.reloader.current.config.secrets else base
