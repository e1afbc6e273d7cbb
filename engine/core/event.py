"""Webhook bodies → ``Event``. The only module that knows the payloads' formats."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import orjson

from engine.core.errors import BadBody, TooComplex
from engine.core.json_text import MAX_VALUES, parse, parsed_size

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_JSON_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


class Kind(StrEnum):
    """The kinds of webhooks that LangSmith sends, distinguished by their keys."""

    RULE = "rule"
    ALERT = "alert"
    PROMPT = "prompt"
    ISSUE = "issue"
    CONTEXT_HUB = "context_hub"
    UNKNOWN = "unknown"
    #: It has too many values or levels to be parsed, so its kind is unknown.
    UNPARSED = "unparsed"


#: How LangSmith sends each kind: the payload key with the id of the rule, alert or prompt (empty if there is none), and
#: how long after the first copy it may repeat a webhook, in seconds. It sends webhooks of issues and of Context Hub up
#: to four times, with a timeout of 20 seconds each and pauses in between.
SENDERS: Final[Mapping[Kind, tuple[str, float]]] = {
    Kind.RULE: ("rule_id", 60.0),
    Kind.ALERT: ("alert_rule_id", 60.0),
    Kind.PROMPT: ("prompt_id", 60.0),
    Kind.ISSUE: ("", 300.0),
    Kind.CONTEXT_HUB: ("", 300.0),
    Kind.UNKNOWN: ("", 60.0),
    Kind.UNPARSED: ("", 60.0),
}
#: A subject contains the hash of ids longer than this.
_LONGEST_SUBJECT = 100
#: The kinds whose routes are found by an id. Prompts have no routes of their own.
_HAVE_ROUTES = (Kind.RULE, Kind.ALERT)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a valid signature says about a request.

    ``by`` identifies the signing secret without revealing it. ``id`` is the sender's id of the message if the signature
    covers it, else empty.
    """

    by: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted webhook.

    ``received_at`` is in Unix seconds, UTC. ``body`` is the decompressed body, ``payload`` the parsed value.
    ``repaired``: the body was not strict JSON and the tolerant parser replaced parts of it (see ``json_text``).
    ``rule_id`` is in lower case if it is a UUID, because rules are looked up by it. ``trace`` is the W3C traceparent
    that its processing continues, or empty. ``parsed_size`` is the approximate size of ``payload`` in memory, in bytes.
    ``unparsed`` says why the body was not parsed; ``payload`` is empty then.

    ``dedup_key`` is equal for two copies of one webhook. Without a ``retry_span`` it identifies the webhook for as long
    as the event is stored. With a ``retry_span`` it is only the body's hash: a second event is a copy during so many
    seconds after the first, unless another event of the same ``subject`` (a rule, an alert or a prompt; empty if there
    is none) came in between. The store does not restore ``retry_span`` and ``subject``.
    """

    id: str
    kind: Kind
    rule_id: str | None
    dedup_key: str
    received_at: float
    body: bytes
    payload: dict[str, Any]
    repaired: bool = False
    trace: str = ""
    parsed_size: int = field(default=0, compare=False)
    unparsed: str = ""
    subject: str = field(default="", compare=False)
    retry_span: float | None = field(default=None, compare=False)
    _word: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Its approximate size in memory, body and payload, in bytes."""
        return len(self.body) + self.parsed_size

    @property
    def word(self) -> dict[str, str]:
        """The value of ``event`` in documents: ``id kind received_at``. It is shared; do not change it."""
        if not self._word:
            received_at = datetime.fromtimestamp(self.received_at, UTC).isoformat()
            self._word.update(id=self.id, kind=self.kind.value, received_at=received_at)
        return self._word


def parse_event(
    body: bytes, received_at: float, signed: Signed | None = None, trace: str = "", max_values: int = MAX_VALUES
) -> Event:
    """Make an event from a request body, with a new id. ``received_at`` is in Unix seconds, UTC.

    ``signed`` is None if there is no valid signature. ``trace`` is the traceparent to continue. A body with more than
    ``max_values`` values, or with too many levels, gets the kind ``unparsed``.

    Raises:
        BadBody: the body is not a JSON object; says why and where.
    """
    payload, repaired, size, unparsed = _read(body, max_values)
    kind = Kind.UNPARSED if unparsed else kind_of(payload)
    rule_id = _rule_id(payload, kind)
    identity = _identity(payload, kind, rule_id, signed)
    return Event(
        id=new_event_id(received_at),
        kind=kind,
        rule_id=rule_id,
        dedup_key=identity or "body:" + sha256(body).hexdigest(),
        received_at=received_at,
        body=body,
        payload=payload,
        repaired=repaired,
        trace=trace,
        parsed_size=size,
        unparsed=unparsed,
        subject=_subject(payload, kind, rule_id),
        retry_span=None if identity else SENDERS[kind][1],
    )


def restored_event(
    event_id: str,
    kind: str,
    rule_id: str | None,
    dedup_key: str,
    received_at: float,
    body: bytes,
    *,
    repaired: bool,
    trace: str,
    max_values: int = MAX_VALUES,
) -> Event:
    """Restore an event from the store; ``received_at`` is in Unix seconds, UTC.

    With a different ``max_values`` than before, an event may become unparsed, or become parsed.

    Raises:
        BadBody: the body is not a JSON object; says why and where.
    """
    payload, repaired_now, size, unparsed = _read(body, max_values)
    known = Kind.UNPARSED if unparsed else Kind(kind)
    if known is Kind.UNPARSED and not unparsed:
        known, repaired = kind_of(payload), repaired_now
        rule_id = _rule_id(payload, known)
    return Event(event_id, known, rule_id, dedup_key, received_at, body, payload, repaired, trace, size, unparsed)


def _read(body: bytes, max_values: int) -> tuple[dict[str, Any], bool, int, str]:
    """A body's payload, whether it was repaired, its approximate size in memory, and why it was not parsed.

    Raises:
        BadBody: the body is not a JSON object; says why and where.
    """
    try:
        size = parsed_size(body, max_values)
        return *_parse_object(body), size, ""
    except TooComplex as error:
        _check_ends(body)
        return {}, False, 0, str(error)


def _check_ends(body: bytes) -> None:
    """Refuse an unparsed body that cannot be a JSON object.

    Raises:
        BadBody: it does not begin with { and end with }.
    """
    # UTF-16 and UTF-32 have zero bytes and byte order marks beside these characters.
    first = body.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]
    last = body.rstrip(b"\0 \t\r\n")[-1:]
    if first == b"[":
        raise BadBody("the body is a JSON array, not an object")
    if (first, last) != (b"{", b"}"):
        raise BadBody("the body is not a JSON object: it does not begin with { and end with }")


def parse_payload(body: bytes, max_values: int = MAX_VALUES) -> tuple[dict[str, Any], bool]:
    """A webhook's payload, and whether the body had to be repaired.

    Raises:
        TooComplex: it has more than ``max_values`` values, or too many levels.
        BadBody: the body is not a JSON object; says why and where.
    """
    parsed_size(body, max_values)
    return _parse_object(body)


def _parse_object(body: bytes) -> tuple[dict[str, Any], bool]:
    payload, repaired = parse(body)
    if not isinstance(payload, dict):
        raise BadBody(f"the body is a JSON {_JSON_NAMES[type(payload)]}, not an object")
    return payload, repaired


def parse_json(body: bytes, max_values: int = MAX_VALUES) -> tuple[Any, bool]:
    """Any JSON value, and whether the text had to be repaired. See ``parse_payload``.

    Raises:
        TooComplex: it has more than ``max_values`` values, or too many levels.
        BadBody: it is not JSON; says why and where.
    """
    parsed_size(body, max_values)
    return parse(body)


def kind_of(payload: Mapping[str, Any]) -> Kind:
    """The kind of a webhook, from its payload.

    Rules are checked first, because an alert's body is the user's own JSON with LangSmith's keys merged in. Thread
    rules have ``threads`` instead of ``runs``; a test notification has neither.
    """
    has = payload.get
    if has("rule_id") is not None and ("runs" in payload or "threads" in payload):
        return Kind.RULE
    if has("alert_rule_id") is not None:
        return Kind.ALERT
    if has("prompt_id") is not None:
        return Kind.PROMPT
    if isinstance(type_ := has("type"), str) and type_.startswith(("issue.", "context_hub.")):
        return Kind(type_.partition(".")[0])
    return Kind.RULE if has("rule_id") is not None else Kind.UNKNOWN


def _rule_id(payload: Mapping[str, Any], kind: Kind) -> str | None:
    """The id by which routes are looked up, UUIDs in lower case; None if there is none."""
    if kind not in _HAVE_ROUTES:
        return None
    rule_id = _text_of(payload[SENDERS[kind][0]])
    if rule_id is None:
        return None
    lower = rule_id.lower()
    return lower if lower != rule_id and _UUID.fullmatch(lower) else rule_id


def _text_of(found: Any) -> str | None:
    """An id as text; other values as YAML would write them. None if there is none."""
    return found if found is None or isinstance(found, str) else orjson.dumps(found).decode()


def _subject(payload: Mapping[str, Any], kind: Kind, rule_id: str | None) -> str:
    """The rule, alert or prompt of a webhook; empty if it names none."""
    key = SENDERS[kind][0]
    named = rule_id or (_text_of(payload.get(key)) if key else None)
    if not named:
        return ""
    return f"{kind.value}:{named if len(named) <= _LONGEST_SUBJECT else _digest(named)}"


def _identity(payload: Mapping[str, Any], kind: Kind, rule_id: str | None, signed: Signed | None) -> str:
    """The identity of a webhook, independent of the rest of its body; empty if it has none.

    LangSmith's rules send no delivery id. The rule, its time window and the ids it found identify the webhook, even if
    presigned URLs were signed again for a retry. For other webhooks the sender's id is used if a signature covers it.
    Senders with different signing secrets may use the same ids. Prompt webhooks have no identity: moving a tag back to
    an earlier commit sends exactly the same bytes again.
    """
    if kind is Kind.RULE and rule_id is not None:
        runs, threads = _ids(payload.get("runs"), _run_id), _ids(payload.get("threads"), _thread_id)
        window = (payload.get("start_time"), payload.get("end_time"))
        if runs is not None and threads is not None and (runs or threads) and all(map(_is_scalar, window)):
            digest = sha256(orjson.dumps((rule_id, window, runs, threads))).hexdigest()
            # The leading time keeps the keys of one hour together in the store's index: a batch of events then writes
            # to its last page, not to a different page for each event.
            return f"rule:{str(window[1])[:32]}:{digest[:32]}"
    if signed is not None and (own := _own_id(payload, kind) or signed.id):
        return f"id:{kind}:{_digest(f'{signed.by}:{own}')}"
    return ""


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _own_id(payload: Mapping[str, Any], kind: Kind) -> str:
    """LangSmith's id of an issue or Context Hub webhook, equal in every attempt."""
    own = payload.get("id") if kind in (Kind.ISSUE, Kind.CONTEXT_HUB) else None
    return own if isinstance(own, str) else ""


def _ids(elements: Any, identify: Callable[[Any], Any]) -> list[str] | None:
    """The sorted ids of the elements; None unless every element has an id."""
    if not isinstance(elements, list):
        return [] if elements is None else None
    ids: list[Any] = [identify(element) if isinstance(element, dict) else None for element in elements]
    return sorted(ids) if all(isinstance(found, str) and found for found in ids) else None


def _run_id(run: dict[str, Any]) -> Any:
    return run.get("id")


def _thread_id(thread: dict[str, Any]) -> str:
    """The thread's name and id. The name is unique only within a project."""
    return "\x00".join(value for key in ("thread_id", "id") if isinstance(value := thread.get(key), str) and value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def new_event_id(at: float) -> str:
    """A UUIDv7 (RFC 9562) for a time in Unix seconds. It sorts by time, to a quarter of a microsecond (6.2, method 3).

    The 62 random bits make it unique, not unguessable: an id grants no access, and secure randomness costs a system
    call.
    """
    ticks = int(at * 4_096_000)
    milliseconds, fraction = divmod(ticks, 4096)
    noise = random.getrandbits(62)
    number = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | noise
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_ids_since(at: float) -> str:
    """The lower bound of the ids of events received since a time, in Unix seconds."""
    text = f"{max(int(at * 1000), 0) & (1 << 48) - 1:012x}"
    return f"{text[:8]}-{text[8:]}"
