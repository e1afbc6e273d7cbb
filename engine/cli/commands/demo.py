"""``engine demo``: the real engine between stand-ins, on the documentation's own webhook."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import click

from engine.app import Running, running
from engine.cli.demo.narrator import Narrator, ToPeople, ToPrograms
from engine.cli.demo.stage import ACTIONS, PACKAGED, Files, Stage, if_free, opening, opening_for, usual_ports, workplace
from engine.cli.demo.watch import Arrival, Ending, Place, Reporter, Story, Watch
from engine.cli.main import FINDINGS, GOOD
from engine.cli.support.langsmith_sender import Sender
from engine.cli.support.output import out
from engine.core.env_file import EnvFile
from engine.core.masking import Masker
from engine.core.serve_settings import Address, ServeSettings
from engine.receiver.receiver import WEBHOOK_PATH
from engine.telemetry.log import LOGGER_NAME, TextFormatter
from engine.testing import payloads
from engine.testing.langsmith.rows import Row
from engine.testing.payloads import renew_payload

_HOST = "127.0.0.1"
#: Where webhooks come in and where people look, if the ports are free.
_PUBLIC, _ADMIN = 8080, 8081
#: How long the opening may take in all, in seconds.
_LIMIT = 30.0
#: How long to wait for a later webhook before its unfinished state is shown, in seconds.
_PATIENCE = 3.0
#: How long the first webhook is waited for with rules of one's own, which may hold deliveries back, in seconds.
_OWN_PATIENCE = 5.0
#: How long is waited for what a duplicate must not lead to, in seconds.
_SILENCE = 0.25


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the first webhook: 0 if all four actions arrived, once each.")
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep rules and store in this folder.  [default: a temporary one]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Where webhooks come in; 0 takes a free one.  [default: {_PUBLIC} if it is free, else a free one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line, for programs.")
def command(once: bool, folder: Path | None, port: int | None, as_json: bool) -> None:  # noqa: FBT001
    """See it work: no account, no network.

    Starts the engine with stand-ins for LangSmith, Slack and a webhook's receiver, sends it
    the webhook of LangSmith's documentation, and shows which route matched and why, what was
    sent and what came back. Then it goes on, for you to edit its rules and send your own.

    With --data, rules in that folder's config.yaml are used and judged instead of the demo's,
    with a webhook of the first rule that has a route. They see your environment and the
    folder's .env, except that LangSmith's and Slack's endpoints and tokens are those of the
    stand-ins.
    """
    narrator: Narrator = ToPrograms() if as_json else ToPeople(out())
    with workplace(folder, narrator.ends) as files:
        code = asyncio.run(Demo(files, narrator, _ports(port, once=once)).run(once=once))
    sys.exit(code)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen: webhooks, people, the three stand-ins."""

    public: int
    admin: int
    stage: tuple[int, int, int]


def _ports(wish: int | None, *, once: bool) -> Ports:
    """The usual ones where they are free, so that a pasted line works tomorrow, too; with ``once`` any."""
    public = wish if wish is not None else 0 if once else if_free(_PUBLIC)
    if once:
        return Ports(public, 0, (0, 0, 0))
    admin = 0 if public == _ADMIN else if_free(_ADMIN)
    return Ports(public, admin, usual_ports())


class Demo:
    """One demo, from the first webhook to Ctrl-C."""

    def __init__(self, files: Files, narrator: Narrator, ports: Ports) -> None:
        self._files, self._narrator, self._ports = files, narrator, ports
        self._watch = Watch()
        self._ending: Ending | None = None

    async def run(self, *, once: bool) -> int:
        """Play. The exit code: good, unless the opening was not; ended early it is good where nothing is promised."""
        task = asyncio.current_task()
        with contextlib.suppress(NotImplementedError):  # loops on Windows have no signal handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel if task else lambda: None)
        try:
            await self._play(once=once)
        except asyncio.CancelledError:
            if self._ending is None:
                return FINDINGS if once else GOOD
        return GOOD if self._ending is not None and self._ending.good else FINDINGS

    async def _play(self, *, once: bool) -> None:
        settings = ServeSettings(
            config=self._files.rules,
            data=self._files.data,
            listen=Address(_HOST, self._ports.public),
            admin=Address(_HOST, self._ports.admin),
            grace=1.0,
            env_file=EnvFile.beside(self._files.rules),
        )
        own = self._files.own
        with _logging(self._files.log) as log:
            async with (
                Stage(self._ports.stage, creates_missing=own) as stage,
                running(settings, log.logger, environ=_environ(stage), observers=[self._watch]) as engine,
            ):
                log.mask(lambda: engine.reloader.masker)
                first = self._opening(engine)
                place = self._place(engine, first, once=once, own=own)
                self._narrator.begins(place)
                engine.reloader.listen(self._narrator.reloads)
                act = _Act(engine, stage, self._watch, self._narrator, own=own)
                self._ending = await act.open(_webhook(engine), payloads.to_body(first))
                self._narrator.sums_up(self._ending)
                if not once:
                    self._narrator.hands_over(place)
                self._narrator.leads_on(place)
                if not once:
                    await act.follow()

    def _opening(self, engine: Running) -> Row:
        routes = engine.reloader.current.config.routes if self._files.own else ()
        keys = [key for route in routes if route.enabled for key in route.keys]
        payload = opening_for(keys) if self._files.own else opening()
        return renew_payload(payload) if self._files.reused else payload

    def _place(self, engine: Running, first: Row, *, once: bool, own: bool) -> Place:
        secrets = engine.reloader.current.config.secrets or ()
        webhook = _webhook(engine)
        return Place(
            # A copy that is gone when this is read would be no use.
            rules=PACKAGED if once and self._files.temporary else self._files.rules,
            encore=self._files.encore,
            log=self._files.log,
            webhook=f"{webhook.partition('?')[0]}?secret=***" if own and secrets else webhook,
            admin=f"http://{engine.admin}",
            command=_own_name(),
            own=own,
            secret=_in_a_shell(secrets[0]) if secrets else "",
            rule=str(first.get("rule_id", "")) if own else "",
            activate=_activation(),
            elsewhere=_activation_elsewhere(),
        )


class _Act:
    """What happens on the stage while the engine runs."""

    def __init__(self, engine: Running, stage: Stage, watch: Watch, narrator: Narrator, *, own: bool) -> None:
        self._engine, self._stage, self._watch, self._narrator = engine, stage, watch, narrator
        self._own = own
        self._opened: Arrival | None = None
        self._reporter = Reporter(engine.store, stage)

    async def open(self, url: str, body: bytes) -> Ending:
        """Send the webhook, tell what became of it, send it again; judge by what the stand-ins saw."""
        begun, repeated, troubles = time.monotonic(), 0, []
        try:
            async with asyncio.timeout(_LIMIT):
                await self._first(url, body)
                repeated = await self._again(url, body)
        except TimeoutError:
            troubles.append(f"not done within {_LIMIT:g} s")
        except _NotDelivered as error:
            troubles.append(str(error))
        ending = Ending([], {}, repeated, time.monotonic() - begun, troubles, own=self._own)
        opened = self._opened
        if opened is not None and (self._own or opened.muted):
            return _judged(ending, opened)
        missing = self._stage.missing(opening()["runs"][0]["id"])
        return replace(ending, seen=[action for action in ACTIONS if action not in missing], missing=missing)

    async def _first(self, url: str, body: bytes) -> None:
        status, seconds = await _send(url, body)
        story = await self._story()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OWN_PATIENCE if self._own else None):
                await story.done.wait()
        self._opened = await self._arrival(story)
        self._narrator.opens(self._opened, status, seconds)

    async def _again(self, url: str, body: bytes) -> int:
        """The number of requests that the duplicate led to."""
        before = len(self._stage.requests)
        status, _seconds = await _send(url, body)
        story = await self._story()
        await asyncio.sleep(_SILENCE)
        requests = len(self._stage.requests) - before
        self._narrator.repeats(await self._arrival(story), status, requests)
        return requests

    async def _story(self) -> Story:
        """The next one; attempts at deliveries of an earlier demo are passed over."""
        while True:
            news = await self._watch.news.get()
            if isinstance(news, Story):
                return news

    async def _arrival(self, story: Story) -> Arrival:
        arrival = await self._reporter.arrival(story, self._engine.reloader.current)
        self._watch.told(story)
        return arrival

    async def follow(self) -> None:
        """Tell of every further webhook, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                news = await self._watch.news.get()
                if isinstance(news, Story):
                    group.create_task(self._tell(news))
                else:
                    self._narrator.attempts(news.job.event.id, self._reporter.sent(news))

    async def _tell(self, story: Story) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await story.done.wait()
        self._narrator.arrives(await self._arrival(story))


def _judged(ending: Ending, opened: Arrival) -> Ending:
    """The ending by what the webhook led to: every delivery's last attempt counts."""
    last = {sent.delivery: sent for sent in opened.sent}
    faulty = {f"{sent.route} {sent.action}": sent.reason for sent in last.values() if sent.outcome != "succeeded"}
    return replace(
        ending,
        seen=[sent.action for sent in last.values() if sent.outcome == "succeeded"],
        missing=faulty,
        muted=opened.muted,
        waiting=opened.waiting,
        matched=any(opened.report["counts"][each] for each in ("matched", "fallback")),
    )


class _NotDelivered(Exception):  # noqa: N818 - an outcome of the demo
    """The engine did not take the webhook."""


async def _send(url: str, body: bytes) -> tuple[int | None, float]:
    """Deliver as LangSmith does. The answer's status, and the seconds it took."""
    delivery = await Sender().send(url, body)
    if delivery.result == "failed":
        raise _NotDelivered(f"the webhook was not delivered: {delivery.reason}")
    last = delivery.attempts[-1]
    return last.status, last.duration


class _Log:
    """The engine's log, in a file: the terminal shows the same in another form."""

    def __init__(self, path: Path) -> None:
        self.logger = logging.getLogger(LOGGER_NAME)
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.mask(Masker)

    def mask(self, masker: Callable[[], Masker]) -> None:
        """Keep the secrets of now out of it."""
        self.handler.setFormatter(TextFormatter(masker))


@contextlib.contextmanager
def _logging(path: Path) -> Iterator[_Log]:
    log = _Log(path)
    logger = log.logger
    before = (logger.handlers[:], logger.level, logger.propagate)
    logger.handlers[:], logger.propagate = [log.handler], False
    logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        log.handler.close()


def _environ(stage: Stage) -> dict[str, str]:
    """The person's environment, in which LangSmith and Slack are the stand-ins, and no traces are sent."""
    return {**os.environ, "OTEL_SDK_DISABLED": "true", **stage.environ}


def _webhook(engine: Running) -> str:
    """Where the engine receives webhooks, with the secret that it wants."""
    secrets = engine.reloader.current.config.secrets
    query = f"?secret={quote(secrets[0], safe='')}" if secrets else ""
    return f"http://{engine.public}{WEBHOOK_PATH}{query}"


def _in_a_shell(secret: str) -> str:
    """How a shell has a secret that is not to be shown: its variable, or a place to fill in."""
    names = [name for name, value in os.environ.items() if value == secret and name.isidentifier()]
    return f'"${names[0]}"' if names else "YOUR-SECRET"


def _activation() -> str:
    """The line that brings the command into a shell; empty where it is there."""
    if shutil.which("engine") is not None:
        return ""
    return _activating()


def _activation_elsewhere() -> str:
    """The line that a new terminal needs before the command is there; empty where it needs none."""
    found = shutil.which("engine")
    is_ours = found is not None and Path(found).parent == Path(sys.prefix) / "bin"
    return _activating() if is_ours else ""


def _activating() -> str:
    script = Path(sys.prefix) / "bin" / "activate"
    return f". {shlex.quote(_from_here(script))}" if script.exists() else ""


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _own_name() -> str:
    """How this command can be called from here."""
    if shutil.which("engine") is not None:
        return "engine"
    return shlex.quote(_from_here(Path(sys.argv[0]).absolute()))
