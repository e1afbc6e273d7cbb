"""The way to the destinations: a delivery enters its lane, waits a moment in memory, or goes back to the store."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace

from engine.desk import Desk
from engine.retry import Failure
from engine.secrets import Masker
from engine.store.work import Control, Haul
from engine.traffic import Admitted, Ask, Block, Lane, Lanes, Shut
from engine.traffic.lane import PATIENCE
from engine.traffic.shutter import is_kind
from engine.traffic.words import cause

#: How many deliveries may wait in memory, for all lanes together.
MOST_WAITING = 512
#: How long a stop waits for what is to outlast it to be written, in seconds.
_WRITTEN_WITHIN = 2.0
#: A pause that lasts longer survives a restart, in seconds.
LONG_PAUSE = 30.0
#: A pause that is longer by no more than this is the same, in seconds.
_A_MOMENT = 1.0
#: The longest name of a lane, in characters.
_LONGEST_NAME = 200
#: Names that are remembered, before all of them are worked out anew.
_MOST_NAMES = 4096
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class Gate:
    """Holds the lanes of one process, which have at most ``total`` attempts under way together.

    ``woken`` is called when more could be taken out of the store. A lane that holds ``most_held`` bytes takes no more.
    """

    def __init__(self, desk: Desk, total: int, woken: Callable[[], None], most_held: float = math.inf) -> None:
        self._desk, self._woken = desk, woken
        self._lanes = Lanes(desk.rng, total, self._forget, most_held)
        self._queues: dict[str, deque[asyncio.Future[Admitted | Shut]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._writing: set[asyncio.Task[None]] = set()
        #: Lanes that were told to be paused, with until when at most, and those whose pauses are in the store.
        self._told: dict[str, float] = {}
        self._kept: set[str] = set()
        self._names = _Names()
        #: Routes that are gone with an action, by the lanes in which their deliveries wait.
        self._removed: dict[str, tuple[str, str]] = {}
        self._closing = False
        #: The configuration whose word counts.
        self._config = desk.rules().router.private_hash
        #: How many deliveries wait in memory.
        self.waiting = 0

    # Entering and leaving

    async def enter(self, destination: str, queue: str = "", size: int = 0) -> Admitted | Shut:
        """A place in the destination's lane, at once or after a moment; or why there is none.

        ``queue`` is the lane it was taken out of the store for. Others don't pass those that wait there. ``size`` is
        how many bytes of memory the delivery keeps until it leaves again.
        """
        lane, now = self._lane(destination), self._desk.clock()
        if lane.is_heavy or (lane.stored and queue != lane.name):
            return Shut(lane, lane.block(now))
        lane.held += size
        answer: Admitted | Shut | None = None
        try:
            answer = await self._enter(lane, now)
        finally:
            if not isinstance(answer, Admitted):
                lane.held -= size
        return replace(answer, size=size) if isinstance(answer, Admitted) else answer

    async def _enter(self, lane: Lane, now: float) -> Admitted | Shut:
        if not lane.waiting:
            answer = self._lanes.enter(lane, now)
            if isinstance(answer, Admitted) or (answer.block is not None and not lane.is_brief(now)):
                return answer
        if not self._may_wait(lane, now):
            return Shut(lane, lane.block(now))
        return await self._wait(lane)

    def turned_away(self, destination: str) -> Shut | None:
        """Whether a delivery to a destination would not even wait here if it came now, and why."""
        lane, now = self._lane(destination), self._desk.clock()
        open_ = not lane.is_heavy and not lane.stored
        if open_ and ((not lane.waiting and lane.free(now) > 0) or self._may_wait(lane, now)):
            return None
        return Shut(lane, lane.block(now))

    def _may_wait(self, lane: Lane, now: float) -> bool:
        # As with places: a lane that keeps many waiting leaves as many to the others.
        return lane.waiting < min(lane.may_wait(now), MOST_WAITING - self.waiting) and not self._closing

    def leave(self, admitted: Admitted, failure: Failure | None, config: str = "") -> None:
        """The attempt is over; None is success. ``config``: the private hash of the rules it followed, if known.

        That a key is refused or a URL gone says nothing of other rules, which may have mended it.
        """
        lane, now, rules = admitted.lane, self._desk.clock(), self._desk.rules()
        before = lane.last_block
        lane.held -= admitted.size
        if failure is not None:
            old = config not in ("", rules.router.private_hash) and failure.says in ("refused", "gone")
            reason = " ".join(rules.masker.text(failure.reason).split())[:300]
            failure = replace(failure, reason=reason, cause="action" if old else failure.cause)
        self._lanes.left(admitted, failure, now)
        self._tell(lane, before, now)
        self._go_on(lane)
        self._share()

    def give_up(self, admitted: Admitted) -> None:
        """The attempt was broken off by this process, which says nothing of the destination."""
        admitted.lane.given_up(self._desk.clock())
        admitted.lane.held -= admitted.size
        self._go_on(admitted.lane)
        self._share()

    def stored(self, lane: Lane) -> None:
        """A delivery went to the store, or is about to, to wait in this lane; it is due."""
        self._lanes.store(lane)
        if lane.wants(self._desk.clock()):
            self._woken()

    def removed(self, route: str, action: str) -> str:
        """The lane in which deliveries of a removed route or action wait: shut until a reload brings that back."""
        rules, now = self._desk.rules(), self._desk.clock()
        name = _name_of(f"removed route {route}, action {action}", rules.masker)
        if rules.router.find(route, action) is None:
            lane = self._lanes.lane(name, name, rules.router.limits, now)
            reason = f"route {route!r} with action {action!r} is not in the configuration"
            self._lanes.restore(lane, Block("gone", reason, now, None), now)
            self._removed[name] = route, action
        return name

    # Waiting in memory

    async def _wait(self, lane: Lane) -> Admitted | Shut:
        place: asyncio.Future[Admitted | Shut] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(lane.name, deque())
        queue.append(place)
        lane.waiting += 1
        self.waiting += 1
        self._arm(lane)
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(place)
        except TimeoutError:
            # It may have been let in at this very moment.
            return place.result() if place.done() else Shut(lane, None)
        except asyncio.CancelledError:
            if place.done() and isinstance(admitted := place.result(), Admitted):
                self.give_up(admitted)
            raise
        finally:
            self._withdraw(lane, place)

    def _withdraw(self, lane: Lane, place: asyncio.Future[Admitted | Shut]) -> None:
        if not place.done():
            place.cancel()
            self._queues[lane.name].remove(place)
            self._no_longer_waits(lane)

    def _no_longer_waits(self, lane: Lane) -> None:
        lane.waiting -= 1
        self.waiting -= 1
        if not lane.waiting:
            del self._queues[lane.name]

    def _go_on(self, lane: Lane) -> None:
        """Let in those who wait, as far as there is room; send all away where the lane is shut for longer."""
        now = self._desk.clock()
        block = None if lane.is_brief(now) else lane.block(now)
        away = self._closing or block is not None
        while lane.waiting:
            answer = Shut(lane, block) if away else self._lanes.enter(lane, now)
            if isinstance(answer, Shut) and not away:
                break
            self._queues[lane.name].popleft().set_result(answer)
            self._no_longer_waits(lane)
        self._arm(lane)
        if lane.wants(now):
            self._woken()

    def _share(self) -> None:
        """A place is free: others may have it who had none, though their own lanes had room."""
        places = self._lanes.places
        if not places.short:
            return
        places.short = False
        for name in tuple(self._queues):
            if (lane := self._lanes.get(name)) is not None:
                self._go_on(lane)
        self._woken()

    def _arm(self, lane: Lane) -> None:
        """Look again when time alone lets the next one in."""
        now, loop = self._desk.clock(), asyncio.get_running_loop()
        at = lane.opens_at(now) if lane.waiting else None
        if at is None:
            return
        timer, when = self._timers.get(lane.name), loop.time() + at - now
        if timer is None or timer.when() > when:
            if timer is not None:
                timer.cancel()
            self._timers[lane.name] = loop.call_at(when, self._look, lane)

    def _look(self, lane: Lane) -> None:
        self._timers.pop(lane.name, None)
        self._go_on(lane)

    # Names

    def _lane(self, destination: str) -> Lane:
        rules = self._desk.rules()
        name = self._names.of(destination, rules.masker)
        return self._lanes.lane(name, destination, rules.router.limits, self._desk.clock())

    # What the store is asked with

    def ask(self) -> Ask:
        """How much may be taken out of the store for which lane."""
        return self._lanes.ask(self._desk.clock(), ahead=self.waiting < MOST_WAITING)

    def without_room(self) -> Collection[str]:
        """The lanes of which nothing can be taken now."""
        now = self._desk.clock()
        rooms = self._lanes.rooms(now, ahead=self.waiting < MOST_WAITING)
        return {*self._lanes.shut(now), *(name for name, room in rooms.items() if not room)}

    def opens_at(self) -> float | None:
        """When the next lane opens by itself for which something waits in the store."""
        return self._lanes.opens_at(self._desk.clock())

    def taken(self, ask: Ask, found: Haul) -> None:
        """A claim took what it could."""
        self._lanes.taken(ask, found.left, found.passed, found.emptied)

    # Blocks: told once, kept where they last, undone by people

    def _tell(self, lane: Lane, before: Block | None, now: float) -> None:
        block = lane.last_block
        if block is None:
            if before is not None:
                self._reopened(lane)
            return
        if self._is_news(lane, before, block, now) or (block is not before and self._is_longer(lane, block, now)):
            self._told[lane.name] = block.until or math.inf
            self._desk.observer.paused(lane.name, block.until, cause(block))
            self._keep(lane, block, now)
        if block is not before and block.kind == "paused" and block.until is not None:
            asyncio.get_running_loop().call_later(block.until - now, self._pause_over, lane, block)

    def _is_news(self, lane: Lane, before: Block | None, block: Block, now: float) -> bool:
        """Whether people are to be told. A soft pause is none as long as attempts are under way that may end it."""
        if block.soft:
            return not lane.under_way and lane.name not in self._told and block.is_closed(now)
        known = before is not None and before.kind == block.kind and (before.is_closed(now) or before.probes(now))
        return block is not before and not (known and lane.name in self._told)

    def _is_longer(self, lane: Lane, block: Block, now: float) -> bool:
        """Whether a pause lasts longer than was told, and long enough to be kept. Many say the same a moment apart."""
        if block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE:
            return False
        return block.until > self._told.get(lane.name, 0.0) + _A_MOMENT

    def _pause_over(self, lane: Lane, block: Block) -> None:
        if lane.last_block is block:
            self._reopened(lane)
            self._go_on(lane)

    def _reopened(self, lane: Lane) -> None:
        if lane.name in self._told:
            self._desk.observer.reopened(lane.name)
        self._forget(lane.name)

    def _keep(self, lane: Lane, block: Block, now: float) -> None:
        """What outlasts a restart. A refused key is tried once after one, a failing destination at once."""
        lasts = block.kind in ("refused", "gone")
        if not lasts and (block.kind != "paused" or block.until is None or block.until - now <= LONG_PAUSE):
            self._unkeep(lane.name)
            return
        self._kept.add(lane.name)
        state = {"kind": block.kind, "config": self._fingerprint()}
        until = None if lasts else block.until
        control = Control("pause", lane.name, block.reason, "engine", block.since, until, state)
        self._write(lambda: self._desk.store.set_control(control))

    def _fingerprint(self) -> str:
        """What is stored to tell this configuration, its secrets included, from another."""
        return self._desk.store.fingerprint(self._desk.rules().router.private_hash)

    def _forget(self, name: str) -> None:
        """It is well, or nobody remembers it."""
        self._removed.pop(name, None)
        self._told.pop(name, None)
        self._unkeep(name)

    def _unkeep(self, name: str) -> None:
        if name in self._kept:
            self._kept.discard(name)
            self._write(lambda: self._desk.store.remove_control("pause", name))

    def _write(self, verb: Callable[[], Awaitable[object]]) -> None:
        """One after another: what was decided last is to be kept last."""
        earlier = tuple(self._writing)

        async def write() -> None:
            if earlier:
                await asyncio.wait(earlier)
            try:
                await self._desk.persist(verb)
            except Exception as error:
                self._desk.logger.error("a pause could not be kept in the store", exc_info=error)

        task = asyncio.create_task(write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def restore(self) -> None:
        """Take up what was shut before a restart; what the configuration has mended since is let go.

        Raises:
            StoreError: the store cannot tell.
        """
        now, rules = self._desk.clock(), self._desk.rules()
        for control in await self._desk.store.controls():
            if control.kind != "pause":
                continue
            self._kept.add(control.subject)
            block = _block_of(control, self._fingerprint(), now)
            if block is None:
                self._unkeep(control.subject)
                continue
            lane = self._lanes.lane(control.subject, control.subject, rules.router.limits, now)
            self._lanes.restore(lane, block, now)
            self._tell(lane, None, now)

    def reloaded(self) -> None:
        """The configuration was loaded anew. If it is another, its limits count, and what it may mend is tried again.

        The same file saved once more mends nothing.
        """
        router, now = self._desk.rules().router, self._desk.clock()
        if router.private_hash == self._config:
            return
        self._config = router.private_hash
        for lane in tuple(self._lanes):
            if lane.name in self._removed:
                self._bring_back(lane)
                continue
            lane.change(self._lanes.limits(lane.destination, router.limits), now)
            self._go_on(lane)
            if lane.last_block is not None and lane.last_block.kind in ("refused", "gone"):
                self._reset(lane)

    def _bring_back(self, lane: Lane) -> None:
        """If a removed route is there again, its deliveries wait no longer."""
        if self._desk.rules().router.find(*self._removed[lane.name]) is not None:
            self._lanes.forget(lane)
            del self._removed[lane.name]

    def resume(self, name: str) -> bool:
        """Let everything go to a destination again. Whether anything was in its way."""
        lane = self._lanes.get(name)
        if lane is None or lane.state(self._desk.clock()) == "well":
            return False
        self._reset(lane)
        return True

    def _reset(self, lane: Lane) -> None:
        self._lanes.reset(lane, self._desk.clock())
        self._reopened(lane)
        self._go_on(lane)
        self._woken()

    def waits(self) -> Mapping[str, int]:
        """How many wait in memory, by the names of their lanes."""
        return {name: len(queue) for name, queue in self._queues.items()}

    def lanes(self) -> Iterable[Lane]:
        """Every lane that is known, for people to look at."""
        return tuple(self._lanes)

    # The end

    def close(self) -> None:
        """Nobody waits in memory any longer: who does goes back to the store. Who comes and finds a place has it."""
        self._closing = True
        for lane in tuple(self._lanes):
            self._go_on(lane)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def written(self) -> None:
        """Until what is to outlast a restart is in the store; not for ever, as it may be stuck."""
        if not self._writing:
            return
        _, unwritten = await asyncio.wait(tuple(self._writing), timeout=_WRITTEN_WITHIN)
        for task in unwritten:
            task.cancel()
        await asyncio.gather(*unwritten, return_exceptions=True)


def _block_of(control: Control, config: str, now: float) -> Block | None:
    """The block that a row stands for; None where it is over."""
    state = control.state or {}
    kind = state.get("kind", "paused")
    if not is_kind(kind):
        return None
    if kind in ("refused", "gone") and state.get("config") != config:
        return None
    return Block(kind, control.reason, control.set_at, now if kind == "refused" else control.until_at)


class _Names:
    """What lanes are called: the destination without secrets, on one line, of bounded length."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._masker: Masker | None = None

    def of(self, destination: str, masker: Masker) -> str:
        if masker is not self._masker or len(self._names) >= _MOST_NAMES:
            self._masker, self._names = masker, {}
        name = self._names.get(destination)
        if name is None:
            name = self._names[destination] = _name_of(destination, masker)
        return name


def _name_of(destination: str, masker: Masker) -> str:
    """Two destinations never share a name: where something had to be left out, a digest tells them apart."""
    shown = _CONTROLS.sub(" ", masker.text(destination)).strip()[:_LONGEST_NAME]
    if shown == destination and shown:
        return shown
    digest = hashlib.sha256(destination.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{shown} ({digest})".strip()
