"""Whether a destination is blocked: by a pause it asked for, by the circuit breaker, by a refused key, for ever."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard, assert_never

from engine.action.failures import Health

#: Why a destination is blocked: it asked for a pause; it keeps failing; it refuses the key; it is gone.
BlockKind = Literal["paused", "failing", "refused", "gone"]

#: Failures in a row that open the circuit.
FAILURES_TO_OPEN = 5
#: The cool-down of the circuit, and a pause without a given length, in seconds. Both double from the first to the
#: longest.
FIRST_COOL_DOWN, LONGEST_COOL_DOWN = 1.0, 60.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: The time between two probes with a refused key, in seconds.
BETWEEN_KEYS = 300.0
#: A clock that was set back by at most this many seconds does not end a block.
_CLOCK_SLACK = 1.0
#: A block replaces only blocks of at most its own rank: a late 429 does not undo a 410.
_RANK: dict[BlockKind, int] = {"paused": 0, "failing": 0, "refused": 1, "gone": 2}


@dataclass(frozen=True, slots=True)
class Block:
    """Why a destination is blocked, since when, and until when (None: until someone changes something).

    At ``until`` a pause is over; for the other kinds one probe at a time goes out from then on. A ``soft`` pause ends
    earlier if other attempts succeed meanwhile.
    """

    kind: BlockKind
    reason: str
    since: float
    until: float | None
    soft: bool = False

    def is_closed(self, now: float) -> bool:
        """Whether nothing may go there yet. A clock that was set back does not prolong a block."""
        return self.until is None or self.since - _CLOCK_SLACK <= now < self.until

    def probes(self, now: float) -> bool:
        """Whether one attempt at a time may go out as a probe."""
        return self.kind != "paused" and not self.is_closed(now)


def is_kind(word: object) -> TypeGuard[BlockKind]:
    """Whether a word is a kind of block."""
    return word in _RANK


class Circuit:
    """The state of one destination, from the outcomes of its attempts."""

    __slots__ = (
        "_busy_in_a_row", "_failures", "_newest", "_rng", "_rounds", "_votes", "block", "failures_in_a_row", "is_clean",
    )  # fmt: skip

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.block: Block | None = None
        #: Whether the last outcome was a success and nothing is blocked, so that another success changes nothing.
        self.is_clean = False
        #: Attempts in a row that the destination did not take: it failed, was busy, or refused.
        self.failures_in_a_row = 0
        self._failures = self._rounds = 0
        #: For a soft pause: refused attempts less those that succeeded, and the number of the newest refused one.
        self._votes = self._newest = 0
        #: Attempts in a row that were refused as busy since the last success; None before the first success.
        self._busy_in_a_row: int | None = None

    @property
    def is_initial(self) -> bool:
        """Whether the state is that of a new circuit, so that it can be dropped."""
        return self.block is None and not self._failures and not self._rounds

    def record(
        self,
        health: Health,
        reason: str,
        now: float,
        *,
        after: float | None = None,
        probe: bool = False,
        number: int = 0,
    ) -> None:
        """Record what an attempt says about the destination.

        Args:
            health: what the outcome means for the destination.
            reason: the reason, for people.
            now: Unix seconds.
            after: the seconds that the destination asked to wait.
            probe: the attempt went out as a probe. Only a probe prolongs the block of an open circuit, as attempts
                from before the block say little.
            number: the attempt's number, which orders attempts by when they began.
        """
        if health == "unknown":
            return
        self.is_clean = False
        self.failures_in_a_row = 0 if health == "healthy" else self.failures_in_a_row + 1
        match health:
            case "healthy":
                self._record_success(now, number)
            case "busy":
                self._record_busy(reason, now, after or 0.0, number)
            case "pause":
                self._record_pause(reason, now, after, probe=probe)
            case "failing":
                self._record_failure(reason, now, probe=probe)
            case "refused":
                self._set(Block("refused", reason, now, now + BETWEEN_KEYS), now, override=probe)
            case "gone":
                self._set(Block("gone", reason, now, None), now)
            case _:
                assert_never(health)

    def reset(self) -> None:
        """Remove the block and forget all failures."""
        self.block, self.is_clean = None, False
        self._failures = self._rounds = self.failures_in_a_row = 0

    def _is_blocked(self, now: float) -> bool:
        """Whether there is a block that is not known to be over. Only a pause ends by time alone."""
        return self.block is not None and (self.block.kind != "paused" or self.block.is_closed(now))

    def _record_success(self, now: float, number: int) -> None:
        self._failures = self._busy_in_a_row = 0
        if self.block is not None and self.block.soft and number > self._newest:
            self._votes -= 1
            if self._votes <= 0:
                self.block = None
        if self.block is None or self.block.kind in ("failing", "refused") or not self._is_blocked(now):
            self.block, self._rounds, self.is_clean = None, 0, True

    def _record_busy(self, reason: str, now: float, after: float, number: int) -> None:
        """Block softly: the destination refused one attempt, and others may still succeed.

        Without others in flight, one attempt after a short pause decides. The pause grows with each refusal in a row,
        up to the time that the destination asked for.
        """
        self._failures = 0
        if not self._is_blocked(now):
            self._votes = self._newest = 0
        self._votes += 1
        self._newest = max(self._newest, number)
        if self._busy_in_a_row is not None:
            after = min(after, FIRST_PAUSE * 2.0 ** min(self._busy_in_a_row, 30))
            self._busy_in_a_row += 1
        self._set(Block("paused", reason, now, now + after, soft=True), now)

    def _record_pause(self, reason: str, now: float, after: float | None, *, probe: bool) -> None:
        self._failures = 0
        if after is None:
            if self._is_blocked(now) and not probe:
                return  # the attempts that were in flight all report the same pause
            after = self._backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._set(Block("paused", reason, now, now + after), now, override=probe)

    def _record_failure(self, reason: str, now: float, *, probe: bool) -> None:
        self._failures += 1
        if not probe and (self._is_blocked(now) or self._failures < FAILURES_TO_OPEN):
            return
        self._failures = 0
        until = now + self._backoff(FIRST_COOL_DOWN, LONGEST_COOL_DOWN)
        self._set(Block("failing", reason, now, until), now, override=probe)

    def _backoff(self, first: float, longest: float) -> float:
        """Seconds with full jitter, below a ceiling that doubles with each round."""
        self._rounds += 1
        return self._rng.uniform(first, min(longest, first * 2.0 ** min(self._rounds, 30)))

    def _set(self, new: Block, now: float, *, override: bool = False) -> None:
        """Set a block unless the present one has a higher rank or lasts longer. A probe's result overrides it."""
        old = self.block
        if old is None or not self._is_blocked(now):
            self.block = new
        elif (override and old.kind != "gone") or _outranks(new, old):
            self.block = replace(new, since=old.since, soft=new.soft and old.soft) if new.kind == old.kind else new
        elif old.soft and new.kind == old.kind and not new.soft:
            self.block = replace(old, soft=False)


def _outranks(new: Block, old: Block) -> bool:
    if _RANK[new.kind] != _RANK[old.kind]:
        return _RANK[new.kind] > _RANK[old.kind]
    return new.until is not None and old.until is not None and new.until > old.until
