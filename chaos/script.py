"""The events that are sent, by number, and their expected results, written by hand without the engine's rules."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from engine.testing import payloads
from engine.testing.payloads import RULE_ID

#: A rule without a route.
STRANGER = "0b4f8e0e-93f5-4a6b-9d7a-54f1b8f0c0ff"
#: The probability of each tag of a run. Each tag has its own route in ``rules.yaml``.
TAGS = {
    "keep": 0.3, "corrected": 0.1, "ticket": 0.15, "mail": 0.08, "refused": 0.04, "hopeless": 0.01,
    "gather": 0.2, "flood": 0.3,
}  # fmt: skip
#: Length of a throttle's slot in seconds.
SLOT = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """An expected delivery of an event, and its expected effect: at a ``place``, under a ``key``.

    One that is ``dead`` has a destination that never takes it. Behind a ``gate`` there need be no delivery of its own:
    a digest has the effect for many, a throttle leaves it to the next one to count it.
    """

    route: str
    action: str
    index: int
    place: str
    key: str
    dead: bool = False
    gate: Literal["", "digest", "throttle"] = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook. ``seeds`` are the runs that LangSmith must have, with their corrections."""

    number: int
    body: bytes
    wanted: tuple[Wanted, ...]
    runs: tuple[dict[str, Any], ...] = ()
    seeds: dict[str, str] = field(default_factory=dict)


class Script:
    """Makes the events of one seed. ``storage`` is where runs' inputs are presigned to."""

    def __init__(self, seed: int, storage: str) -> None:
        self._seed, self._storage = seed, storage
        #: If set, make only events that open a throttle's next slot, and so report what was suppressed.
        self.closing = False

    def event(self, number: int) -> Event:
        """The ``number``-th; the same for the same seed."""
        rng = random.Random(f"{self._seed}:{number}")
        if self.closing:
            return self._closing(number)
        kind = rng.choices(["rule", "stranger", "alert"], [90, 6, 4])[0]
        if kind == "alert":
            wanted = Wanted("alert/alarmed", "forward_webhook", -1, "hooks/alert", str(number))
            # Each has its own rule: a retry is recognised only until another event of the same alert (decision 0042).
            body = payloads.alert(chaos=number, alert_rule_id=str(UUID(int=number)))
            return Event(number, payloads.to_body(body), (wanted, _audit(number)))
        runs = [self._run(rng, 3 * number + place) for place in range(rng.choice([1, 1, 2, 3]))]
        if kind == "stranger":
            wanted_ = [Wanted("unmatched/lost", "forward_webhook", i, "hooks/lost", run["id"]) for i, run in _at(runs)]
            body = payloads.rule([self._sent(run) for run in runs], rule_id=STRANGER, chaos=number)
            return Event(number, payloads.to_body(body), (*wanted_, _audit(number)))
        body = payloads.rule([self._sent(run) for run in runs], chaos=number)
        wanted_ = [one for index, run in _at(runs) for one in _of_run(index, run)]
        seeds = {run["id"]: f"rather {run['id']}" for run in runs if "corrected" in run["tags"]}
        return Event(number, payloads.to_body(body), (*wanted_, _audit(number)), tuple(runs), seeds)

    def _closing(self, number: int) -> Event:
        run = payloads.run(3 * number, status="running", tags=["flood"])
        body = payloads.to_body(payloads.rule([run], chaos=number))
        return Event(number, body, (*_of_run(0, run), _audit(number)))

    def _run(self, rng: random.Random, number: int) -> dict[str, Any]:
        status = "success" if rng.random() < 0.7 else "error"
        tags = [tag for tag, share in TAGS.items() if rng.random() < share]
        run = payloads.run(number, status=status, tags=tags, error=None if status == "success" else "it broke")
        run["inputs"] = {"question": f"What about {run['id']}?"}
        run["extra"] = {"metadata": {"presigned": rng.random() < 0.3}}
        return run

    def _sent(self, run: dict[str, Any]) -> dict[str, Any]:
        """The webhook as LangSmith sends it: large inputs are replaced by a link."""
        if not run["extra"]["metadata"]["presigned"]:
            return run
        return payloads.with_s3(run, inputs=f"{self._storage}/inputs/{run['id']}?signature=secret")


def _at(runs: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(runs)


def _audit(number: int) -> Wanted:
    return Wanted("*/audit", "forward_webhook", -1, "hooks/audit", str(number))


def _of_run(index: int, run: dict[str, Any]) -> Iterator[Wanted]:
    """The expected deliveries, by the rules in ``rules.yaml``."""
    key, tags = run["id"], run["tags"]

    def wanted(route: str, action: str, place: str, **more: Any) -> Wanted:
        return Wanted(f"{RULE_ID}/{route}", action, index, place, key, **more)

    if run["status"] == "success":
        yield wanted("good", "forward_webhook", "hooks/good")
        if "keep" in tags:
            yield wanted("good", "add_to_dataset", "examples/kept")
    if run["status"] == "error":
        yield wanted("bad", "annotate", "feedback/triage")
        yield wanted("bad", "post_to_slack", "slack")
    if "corrected" in tags:
        yield wanted("corrected", "add_to_dataset", "examples/corrected")
    if "ticket" in tags:
        yield wanted("ticket", "open_ticket", "tickets")
    if "mail" in tags:
        yield wanted("mail", "notify", "mail")
    for tag in ("refused", "hopeless"):
        if tag in tags:
            yield wanted(tag, "forward_webhook", "", dead=True)
            yield wanted(tag, "on_dead.forward_webhook", f"hooks/{tag}")
    if "gather" in tags:
        yield wanted("gathered", "forward_webhook", "hooks/gathered", gate="digest")
    if "flood" in tags:
        yield wanted("throttled", "forward_webhook", "hooks/throttled", gate="throttle")
