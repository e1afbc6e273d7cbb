"""Rows to insert, one function for each table, so that one place knows the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.store.packing import Insert, clean, clean_or_none, clean_reason, dump_json, pack
from engine.store.records import Attempt, Routed, Work
from engine.store.sqlite.encryption import EncryptingInsert
from engine.store.windows import Amendments

WORK = Insert(
    "INSERT INTO work (id, kind, event_id, route, action, idx, run_id, first_at, due_at, attempts, replays, owner,"
    " leased_at, error, lane, until_at, target) VALUES ",
    17,
)
_ATTEMPTS = Insert(
    "INSERT INTO attempt (event_id, work_id, kind, route, action, idx, run_id, first_at, replay, number, started_at,"
    " seconds, outcome, reason, status, destination, worker, detail) VALUES ",
    18,
)
ATTEMPTS = EncryptingInsert(_ATTEMPTS, "attempt.detail", row=1, data=17, tagged=True)
_DECISIONS = Insert(
    "INSERT INTO decision (event_id, replays, decided_at, config_hash, matched, fallback, unmatched_reason,"
    " encoding, decisions) VALUES ",
    9,
)
DECISIONS = EncryptingInsert(_DECISIONS, "decision.decisions", row=0, data=8)
_VARIABLES = Insert(
    "INSERT OR REPLACE INTO delivery_words (work_id, event_id, encoding, words, group_key, told) VALUES ", 6
)
VARIABLES = EncryptingInsert(_VARIABLES, "delivery_words.words", row=0, data=3)
ITEMS = Insert(
    "INSERT OR REPLACE INTO digest_item (delivery_id, item_id, event_id, idx, run_id, replays, added_at) VALUES ", 7
)


def work_row(work: Work, owner: str | None = None, leased_at: float | None = None) -> tuple[Any, ...]:
    """A row of ``work``: owned, or due without an owner."""
    return (
        work.id,
        work.kind,
        work.event_id,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        work.due_at,
        work.attempts,
        work.replays,
        owner,
        leased_at,
        None if work.error is None else clean_reason(work.error),
        clean(work.lane),
        work.until,
        work.target or None,
    )


def attempt_row(work: Work, attempt: Attempt) -> tuple[Any, ...]:
    """A row of ``attempt``, with a copy of its work's columns."""
    return (
        work.event_id,
        work.id,
        work.kind,
        clean(work.route),
        clean(work.action),
        work.index,
        clean_or_none(work.run_id),
        work.first_at,
        attempt.replay,
        attempt.number,
        attempt.started_at,
        attempt.seconds,
        attempt.outcome,
        clean_reason(attempt.reason),
        attempt.status,
        clean(attempt.destination),
        clean(attempt.worker),
        None if attempt.detail is None else dump_json(attempt.detail),
    )


def decision_row(routed: Routed, replays: int, amendments: Amendments) -> tuple[Any, ...]:
    """A row of ``decision``: the result of an evaluation, including throttled and collected deliveries."""
    return (
        routed.event_id,
        replays,
        routed.decided_at,
        clean(routed.config_hash),
        routed.matched,
        routed.fallback,
        clean_or_none(routed.unmatched_reason),
        *pack(dump_json(amendments.of(routed.decisions))),
    )


def variables_row(
    work: Work, variables: Mapping[str, Any], key: str | None = None, reported: int = 0
) -> tuple[Any, ...]:
    """A row of ``delivery_words``: template variables, and how many suppressed deliveries of a key it reports."""
    return (work.id, work.event_id, *pack(dump_json(variables)), key, reported)


def item_row(delivery_id: str, work: Work, at: float) -> tuple[Any, ...]:
    """A row of ``digest_item``."""
    return (delivery_id, work.id, work.event_id, work.index, clean_or_none(work.run_id), work.replays, at)
