"""The stage of ``engine demo``: the stand-ins with what the rules expect of them, and what they saw of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from engine.cli.support.options import data_of
from engine.config.keys import KEY_WORDS
from engine.core.event import Kind
from engine.testing import payloads
from engine.testing.langsmith.rows import Row
from engine.testing.langsmith.server import LangSmithStandIn
from engine.testing.server import Recorded
from engine.testing.sink import WebhookSink
from engine.testing.slack import SlackStandIn

#: Where the stand-ins of LangSmith, Slack and the webhook's receiver listen, if they may choose; as in ``demo.yaml``.
PORTS: tuple[int, int, int] = (9101, 9102, 9103)
#: What the three stand for, in words.
SERVICES = ("LangSmith", "Slack", "the receiver")
#: The actions that the opening webhook is to fire, in the order of ``demo.yaml``.
ACTIONS = ("add_to_dataset", "post_to_slack", "forward_webhook", "annotate")
#: The demo's configuration, as packaged.
PACKAGED = Path(__file__).with_name("demo.yaml")
_DATASET, _QUEUE = "classifier-github-issues", "needs-review"
#: What of a request and of its answer says what it did, by the end of its path; of others, all.
_MATTERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("/examples", ("inputs", "outputs", "metadata", "split", "source_run_id"), ("id", "name")),
    ("/feedback", ("key", "score", "value", "comment", "correction", "run_id"), ("id",)),
    ("/items", ("items.run_id",), ("items.id",)),
    ("/chat.postMessage", ("channel", "text", "blocks", "thread_ts"), ("ok", "error", "channel", "ts")),
)


#: A webhook of each kind that is about no run, by the key of its routes.
_OF_KIND: Mapping[str, Callable[[], Row]] = {
    Kind.ALERT: payloads.alert,
    Kind.PROMPT: payloads.prompt_commit,
    Kind.ISSUE: payloads.issue,
    Kind.CONTEXT_HUB: payloads.context_hub_commit,
}
#: Keys of routes that see webhooks of any kind.
_EVERY = KEY_WORDS - {*_OF_KIND}


def usual_ports() -> tuple[int, int, int]:
    """Those of ``PORTS`` that are free, each with 0 in its place where it is not."""
    first, second, third = map(if_free, PORTS)
    return first, second, third


def if_free(port: int) -> int:
    """The port, or 0, which stands for any."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def rules() -> str:
    """The text of ``PACKAGED``."""
    return PACKAGED.read_text(encoding="utf-8")


def opening() -> Row:
    """The webhook that the demo begins with: the documentation's payload with its run made whole."""
    payload = payloads.complete()
    return payload | {"runs": payload["runs"][:1]}


def opening_for(keys: Sequence[str]) -> Row:
    """The webhook that the demo begins with for rules of one's own, by the ``keys`` of their routes.

    It has all runs of the documentation's rule, so that what only matches a failed one is seen to match. Where no route
    is for that rule, it comes from the first rule that has one, else it is of the first kind that has one.
    """
    payload = payloads.complete()
    if payload["rule_id"] in keys:
        return payload
    if rule := next((key for key in keys if key not in KEY_WORDS), None):
        return payload | {"rule_id": rule}
    kind = next((key for key in keys if key in _OF_KIND), None)
    return payload if kind is None or _EVERY & {*keys} else _OF_KIND[kind]()


def encore() -> Row:
    """A webhook for people to send: a run that pleased, and one that failed slowly and dearly."""
    payload = payloads.complete()
    return payload | {"runs": payload["runs"][1:]}


class Stage:
    """The three stand-ins, started together and seeded for ``demo.yaml``; ``ports`` of 0 take free ones.

    For rules of one's own ``creates_missing`` lets LangSmith have every dataset and queue that is
    asked for. ``on_request`` is called with every request and the service that it reached.
    """

    def __init__(
        self,
        ports: tuple[int, int, int] = (0, 0, 0),
        *,
        creates_missing: bool = False,
        on_request: Callable[[str, Recorded], None] | None = None,
    ) -> None:
        told = [partial(on_request, name) if on_request else None for name in SERVICES]
        self.langsmith = LangSmithStandIn(port=ports[0], creates_missing=creates_missing, on_request=told[0])
        self.slack = SlackStandIn(port=ports[1], on_request=told[1])
        self.inbox = WebhookSink(port=ports[2], on_request=told[2])
        self._stack = AsyncExitStack()
        self._seed()

    def _seed(self) -> None:
        self.langsmith.add_dataset(_DATASET)
        self.langsmith.add_queue(_QUEUE)
        runs = payloads.complete()["runs"]
        for run in runs:
            self.langsmith.add_run(run)
        self.langsmith.add_feedback(runs[0]["id"], key="user_score", score=0)
        self.langsmith.add_feedback(runs[0]["id"], key="correctness", score=0, correction="bug")
        self.langsmith.add_feedback(runs[1]["id"], key="user_score", score=1)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for stand_in in (self.langsmith, self.slack, self.inbox):
                await stack.enter_async_context(stand_in)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead the engine here, with tokens that are good for nothing else."""
        return {
            "LANGSMITH_ENDPOINT": self.langsmith.url,
            "LANGSMITH_API_KEY": "lsv2_sandbox",
            "SLACK_ENDPOINT": self.slack.url,
            "SLACK_BOT_TOKEN": "xoxb-sandbox",
            "INBOX_URL": self.inbox.url,
        }

    @property
    def requests(self) -> list[Recorded]:
        """Everything that reached a stand-in, in the order it came."""
        every = [*self.langsmith.requests, *self.slack.requests, *self.inbox.requests]
        return sorted(every, key=lambda recorded: recorded.at)

    def service_of(self, recorded: Recorded) -> str:
        """Whom a request reached, in a word."""
        stand_ins = zip(SERVICES, (self.langsmith, self.slack, self.inbox), strict=True)
        return next((name for name, one in stand_ins if any(recorded is each for each in one.requests)), SERVICES[-1])

    def requests_of(
        self, delivery_id: str, run_id: str | None, result: Mapping[str, Any], since: float
    ) -> list[Recorded]:
        """What one attempt at a delivery wrote, by the marks it left; ``since`` is its start in Unix seconds."""
        marks = {delivery_id, *(str(result[key]) for key in ("example_id", "feedback_id") if key in result)}
        queue_id = result.get("queue_id")
        return [
            recorded
            for recorded in self.requests
            if recorded.method != "GET"
            and recorded.at >= since
            and (
                any(_mentions(recorded, mark) for mark in marks)
                or (queue_id is not None and queue_id in recorded.path and _mentions(recorded, run_id))
            )
        ]

    def missing(self, run_id: str) -> dict[str, str]:
        """Of the four actions those that no stand-in took for this run, with what is not there."""
        return dict(self._missing(run_id))

    def _missing(self, run_id: str) -> Iterator[tuple[str, str]]:
        posted = [recorded for recorded in self.langsmith.requests if recorded.method == "POST" and _taken(recorded)]
        about = [recorded.route for recorded in posted if _mentions(recorded, run_id)]
        if not any(route.endswith("/examples") for route in about):
            yield "add_to_dataset", "no example of the run reached LangSmith"
        if not any(_taken(one) and _mentions(one, run_id) for one in self.slack.requests):
            yield "post_to_slack", "no message about the run reached Slack"
        if not any(_taken(one) and _mentions(one, run_id) for one in self.inbox.requests):
            yield "forward_webhook", "no request about the run reached the webhook's receiver"
        absent = [word for word, end in (("feedback", "/feedback"), ("queue item", "/items")) if not _ends(about, end)]
        if absent:
            yield "annotate", f"no {' and no '.join(absent)} for the run reached LangSmith"


def _ends(routes: list[str], end: str) -> bool:
    return any(route.endswith(end) for route in routes)


def _taken(recorded: Recorded) -> bool:
    """Whether the service said yes; Slack's no is a 200, too."""
    said_no = isinstance(recorded.answer, dict) and recorded.answer.get("ok") is False
    return 200 <= recorded.status < 300 and not said_no


def _mentions(recorded: Recorded, mark: str | None) -> bool:
    """Whether a request bears an id: in its body, or as its ``webhook-id``."""
    if not mark:
        return False
    return recorded.headers.get("webhook-id") == mark or mark.encode() in recorded.raw or mark in str(recorded.body)


def digest(recorded: Recorded) -> dict[str, Any]:
    """A request and its answer, reduced to what matters."""
    sent, back = recorded.body, recorded.answer
    for end, of_request, of_answer in _MATTERS:
        if recorded.route.endswith(end):
            sent, back = _pick(sent, *of_request), _pick(back, *of_answer)
    return {
        "method": recorded.method,
        "path": recorded.path,
        "status": recorded.status,
        "sent": sent,
        "answer": back,
    }


def _pick(body: Any, *keys: str) -> Any:
    """Of an object these keys; ``items.run_id`` is that key of each of its items. Where none is there, all."""
    if not isinstance(body, dict):
        return body
    picked = {}
    for key in keys:
        outer, _, inner = key.partition(".")
        if (value := body.get(outer)) is not None:
            picked[outer] = [_pick(item, inner) for item in value] if inner and isinstance(value, list) else value
    return picked or body


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in the demo's folder. ``reused``: it was the folder of an earlier demo."""

    rules: Path
    encore: Path
    data: Path
    reused: bool = False
    temporary: bool = False

    @property
    def own(self) -> bool:
        """Whether the rules are not the packaged ones."""
        return not self.rules.exists() or self.rules.read_bytes() != rules().encode()

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.data / "engine.log"


@contextlib.contextmanager
def workplace(folder: Path | None, ends: Callable[[Path | None], None]) -> Iterator[Files]:
    """The folder, with the packaged rules. A temporary one is removed, unless something in it was edited.

    ``ends`` is called with the folder if it is kept.
    """
    place = Path(tempfile.mkdtemp(prefix="engine-demo-")) if folder is None else folder.absolute()
    files = replace(lay_out(place), temporary=folder is None)
    try:
        yield files
    finally:
        kept = not files.temporary or edited(files)
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
        ends(place if kept else None)


def lay_out(folder: Path) -> Files:
    """The folder's files; those that it lacks are written."""
    data = data_of(folder / "config.yaml", None)
    files = Files(folder / "config.yaml", folder / "event.json", data, reused=data.exists())
    files.data.mkdir(parents=True, exist_ok=True)
    for path, text in _packaged(files).items():
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    return files


def _packaged(files: Files) -> dict[Path, str]:
    return {files.rules: rules(), files.encore: json.dumps(encore(), indent=2) + "\n"}


def edited(files: Files) -> bool:
    """Whether somebody wrote anything that is worth keeping."""
    packaged = _packaged(files)
    strange = set(files.rules.parent.iterdir()) - {*packaged, files.data}
    return bool(strange) or any(
        not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text
        for path, text in packaged.items()
    )
