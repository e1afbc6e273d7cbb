"""Whether anything may go to a destination: pauses it asked for, and the circuit that opens when it fails."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard, assert_never

from engine.action.failures import Says

#: Why nothing goes to a destination: it asked for a pause; it keeps failing; it refuses the key; it is gone.
BlockKind = Literal["paused", "failing", "refused", "gone"]

#: So many failures in a row open the circuit.
FAILURES_TO_OPEN = 5
#: The circuit's cool-down, and a pause that a destination asks for without saying how long: in seconds, doubling from
#: the first to the last.
FIRST_COOL_DOWN, LONGEST_COOL_DOWN = 1.0, 60.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Between two probes with a key that was refused, in seconds.
BETWEEN_KEYS = 300.0
#: So far back a clock may be set without a block being taken for one of the past, in seconds.
_CLOCK_SLACK = 1.0
#: What outlasts what: a 410 is not undone by a late 429.
_WEIGHT: dict[BlockKind, int] = {"paused": 0, "failing": 0, "refused": 1, "gone": 2}


@dataclass(frozen=True, slots=True)
class Block:
    """Why nothing goes to a destination, since when, and until when (None: until people change something).

    At ``until`` a pause is over; after the other kinds one attempt at a time finds out. A ``soft`` pause is over before
    that where other attempts succeed meanwhile.
    """

    kind: BlockKind
    reason: str
    since: float
    until: float | None
    soft: bool = False

    def is_closed(self, now: float) -> bool:
        """Whether nothing may go there yet. A clock that was set back must not make it last longer."""
        return self.until is None or self.since - _CLOCK_SLACK <= now < self.until

    def probes(self, now: float) -> bool:
        """Whether one attempt at a time finds out."""
        return self.kind != "paused" and not self.is_closed(now)


def is_kind(word: object) -> TypeGuard[BlockKind]:
    """Whether a word is a kind of block."""
    return word in _WEIGHT


class Shutter:
    """One destination's. ``learn`` is told what each attempt said of it."""

    __slots__ = ("_failures", "_in_a_row", "_in_vain", "_newest", "_rng", "_rounds", "_votes", "block")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.block: Block | None = None
        self._failures = self._rounds = self._in_vain = 0
        #: Of a soft pause: how many attempts were refused, less those that succeeded, and the newest that was refused.
        self._votes = self._newest = 0
        #: How many attempts in a row were refused for being busy since one succeeded; None where none ever did.
        self._in_a_row: int | None = None

    @property
    def unremarkable(self) -> bool:
        """Whether there is nothing to remember."""
        return self.block is None and not self._failures and not self._rounds

    @property
    def in_vain(self) -> int:
        """How many attempts in a row it took none of: it failed, was busy, or refused them all."""
        return self._in_vain

    def learn(
        self,
        says: Says,
        reason: str,
        now: float,
        *,
        after: float | None = None,
        probe: bool = False,
        number: int = 0,
    ) -> None:
        """What an attempt said. ``after`` are the seconds it asked for; a ``probe`` was let in to find out.

        ``number`` tells which of two attempts began later. What was under way before a block says little: only a probe
        makes a circuit's block longer.
        """
        if says != "nothing":
            self._in_vain = 0 if says == "healthy" else self._in_vain + 1
        match says:
            case "healthy":
                self._works(now, number)
            case "busy":
                self._busy(reason, now, after or 0.0, number)
            case "pause":
                self._pause(reason, now, after, probe=probe)
            case "failing":
                self._failing(reason, now, probe=probe)
            case "refused":
                self._set(Block("refused", reason, now, now + BETWEEN_KEYS), now, anew=probe)
            case "gone":
                self._set(Block("gone", reason, now, None), now)
            case "nothing":
                return
            case _:
                assert_never(says)

    def reset(self) -> None:
        """Forget everything: people know better."""
        self.block = None
        self._failures = self._rounds = self._in_vain = 0

    def _holds(self, now: float) -> bool:
        """Whether something blocks, or is not known to be over. A pause is over by itself."""
        return self.block is not None and (self.block.kind != "paused" or self.block.is_closed(now))

    def _works(self, now: float, number: int) -> None:
        self._failures = self._in_a_row = 0
        if self.block is not None and self.block.soft and number > self._newest:
            self._votes -= 1
            if self._votes <= 0:
                self.block = None
        if self.block is None or self.block.kind in ("failing", "refused") or not self._holds(now):
            self.block, self._rounds = None, 0

    def _busy(self, reason: str, now: float, after: float, number: int) -> None:
        """It refuses one attempt for now. Whether it refuses all, others that began later will tell.

        Where none are under way, one after a short pause tells; the more it refuses in a row, the longer it is paused,
        up to what it asked for.
        """
        self._failures = 0
        if not self._holds(now):
            self._votes = self._newest = 0
        self._votes += 1
        self._newest = max(self._newest, number)
        if self._in_a_row is not None:
            after = min(after, FIRST_PAUSE * 2.0 ** min(self._in_a_row, 30))
            self._in_a_row += 1
        self._set(Block("paused", reason, now, now + after, soft=True), now)

    def _pause(self, reason: str, now: float, after: float | None, *, probe: bool) -> None:
        self._failures = 0
        if after is None:
            if self._holds(now) and not probe:
                return  # many were under way; they all say the same
            after = self._grown(FIRST_PAUSE, LONGEST_PAUSE)
        self._set(Block("paused", reason, now, now + after), now, anew=probe)

    def _failing(self, reason: str, now: float, *, probe: bool) -> None:
        self._failures += 1
        if not probe and (self._holds(now) or self._failures < FAILURES_TO_OPEN):
            return
        self._failures = 0
        self._set(Block("failing", reason, now, now + self._grown(FIRST_COOL_DOWN, LONGEST_COOL_DOWN)), now, anew=probe)

    def _grown(self, first: float, longest: float) -> float:
        """Full jitter below a ceiling that doubles with each round."""
        self._rounds += 1
        return self._rng.uniform(first, min(longest, first * 2.0 ** min(self._rounds, 30)))

    def _set(self, new: Block, now: float, *, anew: bool = False) -> None:
        """Block, unless what blocks already weighs more or lasts longer. A probe knows better than what was."""
        old = self.block
        if old is None or not self._holds(now):
            self.block = new
        elif (anew and old.kind != "gone") or _outweighs(new, old):
            self.block = replace(new, since=old.since, soft=new.soft and old.soft) if new.kind == old.kind else new
        elif old.soft and new.kind == old.kind and not new.soft:
            self.block = replace(old, soft=False)


def _outweighs(new: Block, old: Block) -> bool:
    if _WEIGHT[new.kind] != _WEIGHT[old.kind]:
        return _WEIGHT[new.kind] > _WEIGHT[old.kind]
    return new.until is not None and old.until is not None and new.until > old.until
