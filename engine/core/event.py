"""Wire formats of LangSmith's webhooks → Event. The only module that knows their payloads' shapes."""

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
from engine.core.json_scan import MAX_VALUES, parsed_size
from engine.core.json_text import parse

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_JSON_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


class Kind(StrEnum):
    """The webhooks LangSmith sends, told apart by their keys."""

    RULE = "rule"
    ALERT = "alert"
    PROMPT = "prompt"
    ISSUE = "issue"
    CONTEXT_HUB = "context_hub"
    UNKNOWN = "unknown"
    #: Has more values or levels than are parsed, so that nothing else is known of it.
    UNPARSED = "unparsed"


@dataclass(frozen=True, slots=True)
class Sender:
    """How a kind of webhook is sent.

    ``subject`` is the key of the payload that names the rule, alert or prompt it is about; empty
    where nothing does. ``retry_span`` is for how long after the first copy the sender may repeat
    one, in seconds.
    """

    subject: str = ""
    retry_span: float = 60.0


#: LangSmith tries webhooks of issues and of Context Hub up to four times, with a timeout of 20 seconds each and pauses
#: in between.
SENDERS: Final[Mapping[Kind, Sender]] = {
    Kind.RULE: Sender("rule_id"),
    Kind.ALERT: Sender("alert_rule_id"),
    Kind.PROMPT: Sender("prompt_id"),
    Kind.ISSUE: Sender(retry_span=300.0),
    Kind.CONTEXT_HUB: Sender(retry_span=300.0),
    Kind.UNKNOWN: Sender(),
    Kind.UNPARSED: Sender(),
}
#: Longer ids stand in a subject by their hash.
_LONGEST_SUBJECT = 100
#: What a rule's and an alert's routes are looked up by; a prompt has no routes of its own.
_HAVE_ROUTES = (Kind.RULE, Kind.ALERT)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature says beside the body.

    ``by`` tells one signing secret from another and gives none away. ``id`` is the sender's own
    id of the message where the signature covers it, else empty.
    """

    by: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted webhook.

    ``received_at`` is in Unix seconds, UTC. ``body`` is what was sent (decompressed), and
    ``payload`` what it parsed to. ``repaired`` tells that it took the tolerant parser: the
    body was not strict JSON, and what JSON has no words for was replaced (see
    ``json_text``). ``rule_id`` is in lower case where it is a UUID, as rules are looked up
    by it. ``trace`` is the W3C traceparent that all which becomes of it goes on from, or empty.
    ``parsed_size`` is about how many bytes ``payload`` takes in memory. ``unparsed`` says why the
    body was not parsed, and is empty where it was; without it ``payload`` is.

    ``dedup_key`` is equal for two copies of one webhook. It is an identity, which holds for as
    long as the event is kept, unless there is a ``retry_span``: then it is no more than the body's
    hash, and a second event is a copy for so many seconds after the first, as long as no other
    event of the same ``subject`` (a rule, an alert, a prompt; empty: none is named) came in between.
    A store gives back neither of the two.
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
        """About how many bytes it takes in memory: its body, and what that parsed to."""
        return len(self.body) + self.parsed_size

    @property
    def word(self) -> dict[str, str]:
        """What documents say of it under ``event``: ``id kind received_at``. Made once; not to be changed."""
        if not self._word:
            received_at = datetime.fromtimestamp(self.received_at, UTC).isoformat()
            self._word.update(id=self.id, kind=self.kind.value, received_at=received_at)
        return self._word


def parse_event(
    body: bytes, received_at: float, signed: Signed | None = None, trace: str = "", max_values: int = MAX_VALUES
) -> Event:
    """The event a request body stands for, with a new id. ``received_at`` is in Unix seconds, UTC.

    ``signed`` is None where no signature was good. ``trace`` is the traceparent it goes on from.
    One with more than ``max_values`` values, or nested too deep, is of kind ``unparsed``.

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
        retry_span=None if identity else SENDERS[kind].retry_span,
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
    """An event as a store kept it; ``received_at`` is in Unix seconds, UTC.

    With another ``max_values`` than it was kept with, an event may become one that is not parsed,
    or one that is.

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
    """A body's payload, whether it was repaired, about how many bytes it takes, and why it was not parsed, if so.

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
    """Refuse what is no JSON object for sure, though it is not parsed.

    Raises:
        BadBody: it does not begin and end like one.
    """
    # Zero bytes and byte order marks are what UTF-16 and UTF-32 have beside these characters.
    first = body.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]
    last = body.rstrip(b"\0 \t\r\n")[-1:]
    if first == b"[":
        raise BadBody("the body is a JSON array, not an object")
    if (first, last) != (b"{", b"}"):
        raise BadBody("the body is not a JSON object: it does not begin with { and end with }")


def parse_payload(body: bytes, max_values: int = MAX_VALUES) -> tuple[dict[str, Any], bool]:
    """A webhook's payload, and whether the body had to be repaired.

    Raises:
        TooComplex: it has more than ``max_values`` values, or is nested too deep.
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
    """Any JSON value, and whether the text had to be repaired to be one. See ``parse_payload``.

    Raises:
        TooComplex: it has more than ``max_values`` values, or is nested too deep.
        BadBody: it is not JSON; says why and where.
    """
    parsed_size(body, max_values)
    return parse(body)


def kind_of(payload: Mapping[str, Any]) -> Kind:
    """Which of LangSmith's webhooks a payload is.

    A rule's comes first, since an alert's body is the user's own JSON with LangSmith's keys
    merged in. Thread rules have ``threads`` instead of ``runs``; a test notification has neither.
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
    """The id that routes are looked up by, UUIDs in lower case; None where there is none."""
    if kind not in _HAVE_ROUTES:
        return None
    rule_id = _text_of(payload[SENDERS[kind].subject])
    if rule_id is None:
        return None
    lower = rule_id.lower()
    return lower if lower != rule_id and _UUID.fullmatch(lower) else rule_id


def _text_of(found: Any) -> str | None:
    """An id as text; what is not text is taken as YAML would write it. None where there is none."""
    return found if found is None or isinstance(found, str) else orjson.dumps(found).decode()


def _subject(payload: Mapping[str, Any], kind: Kind, rule_id: str | None) -> str:
    """The rule, alert or prompt that a webhook is about; empty where none is named."""
    key = SENDERS[kind].subject
    named = rule_id or (_text_of(payload.get(key)) if key else None)
    if not named:
        return ""
    return f"{kind.value}:{named if len(named) <= _LONGEST_SUBJECT else _digest(named)}"


def _identity(payload: Mapping[str, Any], kind: Kind, rule_id: str | None, signed: Signed | None) -> str:
    """What tells a webhook from all others, whatever else is in its body; empty where nothing does.

    LangSmith's rules send no id of a delivery: a rule, its time window and what it found are one,
    also when presigned URLs were signed anew for a retry. Other webhooks have the sender's own id,
    where a signature covers that. Senders that sign with different secrets may use the same ids.
    A prompt's have none: a tag that goes back to an earlier commit repeats its webhook to the byte.
    """
    if kind is Kind.RULE and rule_id is not None:
        runs, threads = _ids(payload.get("runs"), _run_id), _ids(payload.get("threads"), _thread_id)
        window = (payload.get("start_time"), payload.get("end_time"))
        if runs is not None and threads is not None and (runs or threads) and all(map(_is_scalar, window)):
            digest = sha256(orjson.dumps((rule_id, window, runs, threads))).hexdigest()
            # The time in front keeps the keys of one hour together in the store's index: a batch of
            # events then touches its last page, and not a page anywhere for each event.
            return f"rule:{str(window[1])[:32]}:{digest[:32]}"
    if signed is not None and (own := _own_id(payload, kind) or signed.id):
        return f"id:{kind}:{_digest(f'{signed.by}:{own}')}"
    return ""


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _own_id(payload: Mapping[str, Any], kind: Kind) -> str:
    """The id that LangSmith gives an issue's or Context Hub's webhook, the same for every attempt at it."""
    own = payload.get("id") if kind in (Kind.ISSUE, Kind.CONTEXT_HUB) else None
    return own if isinstance(own, str) else ""


def _ids(elements: Any, identify: Callable[[Any], Any]) -> list[str] | None:
    """Sorted ids of the elements; None unless every one of them has an id."""
    if not isinstance(elements, list):
        return [] if elements is None else None
    ids: list[Any] = [identify(element) if isinstance(element, dict) else None for element in elements]
    return sorted(ids) if all(isinstance(found, str) and found for found in ids) else None


def _run_id(run: dict[str, Any]) -> Any:
    return run.get("id")


def _thread_id(thread: dict[str, Any]) -> str:
    """A thread's own name is unique within a project only, so its id counts as well."""
    return "\x00".join(value for key in ("thread_id", "id") if isinstance(value := thread.get(key), str) and value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def new_event_id(at: float) -> str:
    """A UUIDv7 (RFC 9562) for a time in Unix seconds: sorts by time, to a quarter of a microsecond (6.2, method 3).

    Its 62 random bits make it unique, not unguessable: an id opens nothing, and the kernel's randomness costs a call.
    """
    ticks = int(at * 4_096_000)
    milliseconds, fraction = divmod(ticks, 4096)
    noise = random.getrandbits(62)
    number = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | noise
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_ids_since(at: float) -> str:
    """What stands between the ids of events received before a time and those received since, in Unix seconds."""
    text = f"{max(int(at * 1000), 0) & (1 << 48) - 1:012x}"
    return f"{text[:8]}-{text[8:]}"
