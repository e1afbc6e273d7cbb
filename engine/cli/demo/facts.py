"""What the demo has to tell: where everything is, what came, what was sent, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.cli.support.output import plural
from engine.core.decisions import MUTED


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is. ``admin`` and ``webhook`` are addresses.

    ``webhook`` bears the secret of the packaged rules; with rules of one's ``own`` it is masked, and ``secret`` is how
    a shell has it. ``rule`` is the rule whose webhooks are sent to these. ``activate`` brings the command into this
    shell, ``elsewhere`` into another one; empty where it is there.
    """

    rules: Path
    encore: Path
    log: Path
    webhook: str
    admin: str
    command: str
    own: bool = False
    secret: str = ""
    rule: str = ""
    activate: str = ""
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt at a delivery: what it wrote (``requests`` as of ``digest``) and what became of it."""

    delivery: str
    route: str
    action: str
    action_type: str
    index: int
    run_id: str | None
    outcome: str
    number: int
    seconds: float
    reason: str
    result: Mapping[str, Any]
    requests: Sequence[Mapping[str, Any]]
    again_in: float | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook that was accepted, or recognised. ``report`` tells why routes match, ``sent`` what followed.

    ``waiting`` is how many deliveries are neither done nor dead.
    """

    event: str
    kind: str
    size: int
    duplicate: bool
    report: Mapping[str, Any] = field(default_factory=dict)
    sent: Sequence[Sent] = ()
    waiting: int = 0

    @property
    def muted(self) -> dict[str, str]:
        """The routes that match and are muted, each with until when."""
        return {
            route["route"]: route["reason"]
            for document in self.report["documents"]
            for route in document["routes"]
            if route["verdict"] == "true" and route["applies"] and route["reason"].startswith(MUTED)
        }


@dataclass(frozen=True, slots=True)
class Ending:
    """How the opening went: which actions were ``seen``, what is ``missing`` and why.

    They are the four of the packaged rules; with rules of one's ``own``, or where routes are ``muted``, those that the
    webhook led to. ``waiting`` deliveries are not tried yet, or will be tried again. ``matched``: some route did.
    """

    seen: Sequence[str]
    missing: Mapping[str, str]
    repeated: int
    seconds: float
    troubles: Sequence[str] = ()
    own: bool = False
    muted: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0
    matched: bool = True

    @property
    def good(self) -> bool:
        """Whether everything happened once and nothing twice."""
        return self.matched and not (self.missing or self.repeated or self.troubles)

    @property
    def words(self) -> str:
        """A good one in a line."""
        if not (self.own or self.muted):
            return "all four actions arrived, once each, and the duplicate fired nothing"
        done = f"{plural(len(self.seen), 'delivery', 'deliveries')} of your rules succeeded" if self.own else ""
        done = done or f"{plural(len(self.seen), 'delivery', 'deliveries')} succeeded"
        waiting = f", {self.waiting} not due yet" if self.waiting else ""
        if self.muted and not (self.seen or self.waiting):
            done = "nothing was sent, as all that matched is muted"
        return f"{done}{waiting}, and the duplicate fired nothing"
