"""``engine send``."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from engine.admin.query import BadQuery
from engine.cli.main import FINDINGS
from engine.cli.support.admin_client import trust_in
from engine.cli.support.langsmith_sender import Delivery, Fault, SendAttempt, Sender, policy_of
from engine.cli.support.options import json_option
from engine.cli.support.output import emit, err, out, plural
from engine.cli.support.payload_changes import changed, parse_change, runs_changed, strict_json
from engine.cli.support.samples import kind_option, sample_body
from engine.cli.support.webhook_answer import Answer
from engine.core.errors import BadBody
from engine.core.event import Kind, kind_of, parse_payload
from engine.core.signatures import Form, secret_problem, sign
from engine.core.terminal_text import visible_in_json
from engine.core.units import format_duration
from engine.receiver.receiver import WEBHOOK_PATH
from engine.testing.payloads import renew_payload

#: How many sendings may be under way at once.
_AT_ONCE = 64
#: What to do about a connection that failed.
_HINTS: Mapping[Fault, str] = {
    "unreachable": "is engine serve running at {0}?",
    "certificate": "trust it with --ca FILE, or take any certificate with --insecure",
    "no_tls": "if it speaks plain HTTP, write http://",
    "no_http": "if it speaks HTTPS, write https://",
}


@click.command("send")
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE]")
@kind_option
@click.option("--to", "url", metavar="URL", help=f"Where to; 127.0.0.1:8080 is http://127.0.0.1:8080{WEBHOOK_PATH}.")
@click.option(
    "--secret",
    metavar="TEXT",
    envvar="LANGSMITH_WEBHOOK_SECRET",
    show_envvar=True,
    help="Sent as ?secret=… in the URL, as LangSmith does. The variable counts if neither --sign nor the URL has one.",
)
@click.option("--sign", "signing", metavar="SECRET", help="Sign the body, as senders with `signing_secrets` do.")
@click.option(
    "--sign-as",
    "form",
    type=click.Choice(["standard", "langsmith", "github"]),
    help="How; whsec_… is standard (Standard Webhooks), any other secret langsmith.",
)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A custom header; repeatable.")
@click.option("--ca", metavar="FILE", help="Trust the certificates in FILE and no others.")
@click.option("--insecure", is_flag=True, help="Take any certificate.")
@click.option("--rule", metavar="ID", help="Send it as the webhook of this rule.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a field of every run (name=chat, latency=12, extra.metadata.env=dev; the sample has three runs) or, "
    "with $ and in quotes, what a path names ('$.runs[0].name=chat': the first run); repeatable.",
)
@click.option(
    "--fresh/--same",
    default=None,
    help="With a time of its own, so that it is no duplicate; or as it stands.  [default: a FILE as it stands, "
    "--kind and --set fresh]",
)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How often.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="R", help="So many a second at most.")
@click.option("--print", "print_only", is_flag=True, help="Only print what would be sent.")
@json_option
def command(
    file: BinaryIO | None,
    kind: str | None,
    url: str | None,
    secret: str | None,
    signing: str | None,
    form: Form | None,
    headers: tuple[str, ...],
    ca: str | None,
    insecure: bool,  # noqa: FBT001
    rule: str | None,
    changes: tuple[str, ...],
    fresh: bool | None,  # noqa: FBT001
    count: int,
    rate: float | None,
    print_only: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Send the webhook in FILE (- is standard input) as LangSmith sends it.

    For a payload of your own: engine send --kind rule --print > my.json, edit it, then
    engine send my.json --fresh. Or change a sample's fields: --kind rule --set name=chat.
    A value is JSON where it can be read as that, else text.

    With LangSmith's own delivery policy: 5 seconds to answer and no retry after that, up to
    two retries when no connection can be made and on a 5xx, none on a 4xx. Issues and Context
    Hub commits: 20 seconds, up to three retries, also after a timeout and on 408, 425 and 429.
    Every attempt is shown. Exits with 1 if it was not accepted.
    """
    body = _body(file, kind) if rule is None else _of_rule(_body(file, kind), rule)
    body = _changed(body, changes, quiet=as_json)
    fresh = (kind is not None or bool(changes)) if fresh is None else fresh
    if print_only:
        _print(_fresh(body) if fresh else body)
        return
    if url is None:
        raise click.UsageError("--to URL is missing (or --print, to see what would be sent)")
    sign = _signer(signing, form)
    trust = False if insecure else True if ca is None else trust_in(ca)
    order = _Order(_target(url, _secret(secret, url, signing)), body, _headers(headers), sign, trust=trust, fresh=fresh)
    results = asyncio.run(_send_all(order, count, rate, as_json=as_json))
    failed = [result for result in results if result.result == "failed"]
    if as_json:
        emit(_as_json(results[0], order.url) if count == 1 else _totals(results, failed))
    elif count > 1:
        _tell_all(out(), results, failed)
    if failed and not as_json:
        _conclude({_hint(result, order.url) for result in failed} - {""}, count)
    if failed:
        sys.exit(FINDINGS)


def _conclude(hints: set[str], count: int) -> None:
    """That there is no other attempt, and what to do."""
    first, *others = [*sorted(hints), ""]
    gives_up = "LangSmith gives up here" if count == 1 else ""
    for line in ("; ".join(filter(None, (gives_up, first))), *others):
        if line:
            err().print(Text(line, style="cyan"))


Sign = Callable[[bytes], dict[str, str]]


class _Order:
    """What to send, and where."""

    def __init__(
        self, url: str, body: bytes, headers: dict[str, str], sign: Sign, *, trust: ssl.SSLContext | bool, fresh: bool
    ) -> None:
        self.url, self.trust, self.kind = url, trust, _kind(body)
        self.policy = policy_of(self.kind)
        self._headers, self._body, self._sign, self._freshly = headers, body, sign, fresh

    def next(self) -> tuple[bytes, dict[str, str]]:
        """The bytes of the next one, and its headers."""
        body = _fresh(self._body) if self._freshly else self._body
        return body, self._sign(body) | self._headers


def _signer(secret: str | None, form: Form | None) -> Sign:
    """Makes a body's signature, if one is wanted. The same bytes are the same message, as in LangSmith's retries."""
    if secret is None:
        if form is not None:
            raise click.UsageError("--sign-as says how to sign; say with what: --sign SECRET")
        return lambda _body: {}
    if problem := secret_problem(secret):
        raise click.UsageError(f"--sign: {problem}")
    chosen: Form = form or ("standard" if secret.startswith("whsec_") else "langsmith")
    return lambda body: sign(chosen, secret, body, f"msg_{sha256(body).hexdigest()[:24]}", time.time())


def _body(file: BinaryIO | None, kind: str | None) -> bytes:
    if (file is None) == (kind is None):
        raise click.UsageError("give a FILE or --kind")
    return file.read() if file is not None else sample_body(str(kind))


def _of_rule(body: bytes, rule: str) -> bytes:
    try:
        payload = _payload(body)
    except BadBody as error:
        raise BadQuery(f"cannot give it a rule: {error}", "send it without --rule") from error
    if "rule_id" not in payload:
        raise BadQuery("cannot give it a rule: this webhook is not from one", "send it without --rule")
    return _to_body({**payload, "rule_id": rule})


def _kind(body: bytes) -> Kind:
    """What kind of webhook a body is. What cannot be parsed is sent all the same."""
    try:
        return kind_of(parse_payload(body)[0])
    except BadBody:
        return Kind.UNKNOWN


def _changed(body: bytes, changes: Sequence[str], *, quiet: bool) -> bytes:
    """The body with the fields that ``--set`` names changed; says on standard error how many runs that were."""
    if not changes:
        return body
    parsed = [parse_change(each) for each in changes]
    try:
        before = _payload(body)
        after = changed(before, parsed)
    except BadBody as error:
        raise BadQuery(f"cannot change it: {error}", "send it without --set") from error
    if not quiet and (told := runs_changed(before, after, parsed)):
        err().print(Text(told, style="dim"), soft_wrap=True)
    return _to_body(after)


def _fresh(body: bytes) -> bytes:
    try:
        return _to_body(renew_payload(_payload(body)))
    except BadBody as error:
        raise BadQuery(f"cannot make it fresh: {error}", "send it as it stands, with --same") from error


def _payload(body: bytes) -> Mapping[str, Any]:
    """A body's payload, whole numbers of any length as they stand.

    Raises:
        BadBody: it is not a JSON object.
    """
    try:
        exact = strict_json(body)
    except ValueError:
        exact = None
    return exact if isinstance(exact, dict) else parse_payload(body)[0]


def _to_body(payload: Mapping[str, Any], indent: int | None = None) -> bytes:
    """JSON in UTF-8, in ASCII only where a text has half a character in it."""
    try:
        return json.dumps(payload, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(payload, indent=indent).encode()


def _print(body: bytes) -> None:
    """A JSON object indented, as it can be edited; anything else as it stands."""
    with suppress(ValueError):
        body = _to_body(strict_json(body), indent=2)
    click.echo(visible_in_json(body.decode(errors="replace")) if sys.stdout.isatty() else body)


def _secret(secret: str | None, url: str, signing: str | None) -> str | None:
    """The secret to send. The one of the environment is left out where another proof goes along."""
    context = click.get_current_context()
    if context.get_parameter_source("secret") is ParameterSource.COMMANDLINE:
        return secret
    return None if signing is not None or "secret=" in urlsplit(url).query else secret or None


def _target(url: str, secret: str | None) -> str:
    """The whole address: LangSmith's secret stands in the query."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.path in ("", "/"):
        parts = parts._replace(path=WEBHOOK_PATH)
    if secret is not None:
        pair = f"secret={quote(secret, safe='')}"
        parts = parts._replace(query=f"{parts.query}&{pair}" if parts.query else pair)
    return parts.geturl()


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    for name, colon, _value in pairs:
        if not colon or not name.strip():
            raise click.UsageError(f"{name!r} is no header; write -H 'X-Name: value'")
    return {name.strip(): value.strip() for name, _colon, value in pairs}


async def _send_all(order: _Order, count: int, rate: float | None, *, as_json: bool) -> list[Delivery]:
    if count == 1:
        watch = None if as_json else _Watcher(out(), order)
        return [await _send(order, watch)]
    console = err()
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("sending", total=count)
        return await _paced(order, count, rate, lambda: bar.advance(task))


async def _paced(order: _Order, count: int, rate: float | None, advance: Callable[[], None]) -> list[Delivery]:
    """Many, begun at an even rate; several are under way at once, as LangSmith's own are."""
    slots, loop = asyncio.Semaphore(_AT_ONCE), asyncio.get_running_loop()
    begun = loop.time()

    async def one(number: int) -> Delivery:
        if rate is not None:
            await asyncio.sleep(begun + number / rate - loop.time())
        async with slots:
            delivery = await _send(order, None)
        advance()
        return delivery

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def _send(order: _Order, watch: Callable[[SendAttempt], None] | None) -> Delivery:
    try:
        return await Sender(policy=order.policy, on_attempt=watch, trust=order.trust).send(order.url, *order.next())
    except ValueError as error:
        raise BadQuery(str(error), "write it like http://127.0.0.1:8080/webhooks/langsmith") from error


class _Watcher:
    """Shows each attempt as it ends."""

    def __init__(self, console: Console, order: _Order) -> None:
        self._console, self._kind = console, order.kind
        console.print(Text(f"POST {urlsplit(order.url)._replace(query='').geturl()}", style="dim"), soft_wrap=True)

    def __call__(self, attempt: SendAttempt) -> None:
        """One line, and below it what the endpoint said."""
        self._console.print(_attempt_line(attempt))
        for line in Answer.of(attempt).lines(failed=bool(attempt.reason), kind=self._kind):
            self._console.print(line)


def _attempt_line(attempt: SendAttempt) -> Text:
    waited = f" after {format_duration(attempt.delay)}" if attempt.delay else ""
    style = "green" if not attempt.reason else "yellow" if attempt.retry else "red"
    what = f"accepted ({attempt.status})" if not attempt.reason else attempt.reason
    then = "; LangSmith would try again" if attempt.retry else ""
    return Text.assemble(
        (f"attempt {attempt.number}{waited}: ", "bold"),
        (what, style),
        then,
        (f"  {format_duration(attempt.duration)}", "dim"),
    )


def _tell_all(console: Console, results: list[Delivery], failed: list[Delivery]) -> None:
    console.print(Text.assemble((f"{len(results) - len(failed)} accepted", "green"), f", {len(failed)} failed"))
    if repeated := _duplicates(results):
        words = f"  {plural(repeated, 'duplicate')} of earlier events: nothing fires; --fresh makes each new"
        console.print(Text(words, style="yellow"))
    for reason, times in Counter(map(_why, failed)).most_common():
        console.print(Text(f"  {plural(times, 'time')}: {reason}", style="red"))


def _why(delivery: Delivery) -> str:
    error = Answer.of(delivery.attempts[-1]).error
    return f"{delivery.reason}: {error}" if error else delivery.reason


def _hint(delivery: Delivery, url: str) -> str:
    """What to do about how it ended; empty if nothing is known."""
    fault = delivery.attempts[-1].fault
    return "" if fault == "no_http" and url.startswith("https:") else _HINTS.get(fault, "").format(urlsplit(url).netloc)


def _duplicates(results: list[Delivery]) -> int:
    return sum(Answer.of(result.attempts[-1]).duplicate for result in results)


def _totals(results: list[Delivery], failed: list[Delivery]) -> dict[str, Any]:
    return {
        "delivered": len(results) - len(failed),
        "failed": len(failed),
        "duplicates": _duplicates(results),
        "reasons": dict(Counter(map(_why, failed))),
    }


def _as_json(delivery: Delivery, url: str) -> dict[str, Any]:
    attempts = [
        {
            "number": attempt.number,
            "delay": attempt.delay,
            "duration": round(attempt.duration, 6),
            "status": attempt.status,
            "reason": attempt.reason,
            "retry": attempt.retry,
            "answer": Answer.of(attempt).content,
        }
        for attempt in delivery.attempts
    ]
    last = Answer.of(delivery.attempts[-1])
    known = {"event": last.event, "duplicate": last.duplicate if last.event else None}
    hint = _hint(delivery, url)
    told = {"reason": delivery.reason, **({"hint": hint} if hint else {})}
    return {"result": delivery.result, **told, **known, "attempts": attempts}
