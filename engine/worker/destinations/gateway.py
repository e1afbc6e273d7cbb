"""The way to the destinations: a delivery enters its lane, waits a moment in memory, or goes back to the store."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from engine.action.failures import Failure, Says, Scope, classify
from engine.core.errors import NotNow
from engine.store.records import ClaimResult
from engine.worker.context import Desk
from engine.worker.destinations import Admitted, Ask, Block, Lane, Lanes, Shut
from engine.worker.destinations.destination import PATIENCE
from engine.worker.destinations.messages import waiting
from engine.worker.destinations.names import Names, name_of
from engine.worker.destinations.pauses import Pauses, block_of
from engine.worker.destinations.stops import Stops


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """One delivery that waits in memory, with its events' sizes, and what it is told in the end."""

    answer: asyncio.Future[Admitted | Shut]
    events: Mapping[str, int]


class Gate:
    """Holds the lanes of one process, which have at most ``total`` attempts under way together.

    ``woken`` is called when more could be taken out of the store. A lane that holds ``most_held`` bytes takes no more,
    and all deliveries that wait in memory have ``most_waiting`` bytes. ``opened`` is called with the name of a lane
    that people, or a changed configuration, open.
    """

    def __init__(
        self,
        desk: Desk,
        total: int,
        woken: Callable[[], None],
        most_held: float = math.inf,
        most_waiting: float = math.inf,
        opened: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._desk, self._woken, self._opened = desk, woken, opened
        self._lanes = Lanes(desk.rng, total, self._forget, most_held, most_waiting)
        self._stops = Stops(self._lanes, desk.store.fingerprint)
        self._pauses = Pauses(desk, self._stops, self._forget, self._go_on)
        self._queues: dict[str, deque[_Place]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._names = Names()
        #: Routes that are gone with an action, by the lanes in which their deliveries wait.
        self._removed: dict[str, tuple[str, str]] = {}
        self._closing = False
        #: The configuration whose word counts.
        self._config = desk.rules().router.private_hash
        #: How many deliveries wait in memory.
        self.waiting = 0

    # Entering and leaving

    async def enter(
        self, destination: str, queue: str = "", events: Mapping[str, int] | None = None, scope: Scope | None = None
    ) -> Admitted | Shut:
        """A place in the destination's lane, at once or after a moment; or why there is none.

        ``queue`` is the lane it was taken out of the store for. Others don't pass those that wait there. ``events`` are
        those that the delivery keeps in memory until it leaves again, with their sizes in bytes. ``scope`` is what
        answers will be about.
        """
        lane, now, scope, events = self._lane(destination), self._desk.clock(), scope or Scope(), events or {}
        if self._stops.any and isinstance(shut := self._stops.find(self._stop_names(lane, scope), now), Shut):
            return shut
        if lane.is_heavy or (lane.stored and queue != lane.name):
            return Shut(lane, lane.block(now))
        lane.held.take(events)
        answer: Admitted | Shut | None = None
        try:
            answer = await self._enter(lane, now, events)
        finally:
            if not isinstance(answer, Admitted):
                lane.held.drop(events)
        if isinstance(answer, Shut):
            return answer
        return self._with_stops(replace(answer, events=events, scope=scope))

    def _stop_names(self, lane: Lane, scope: Scope) -> tuple[str, str]:
        return self._stops.names(lane, scope, self._desk.rules().masker)

    def _with_stops(self, admitted: Admitted) -> Admitted | Shut:
        """It may have waited meanwhile: what it leads to may be stopped now, or is found out about by it."""
        if not self._stops.any:
            return admitted
        stops = self._stops.find(self._stop_names(admitted.lane, admitted.scope), self._desk.clock())
        if isinstance(stops, Shut):
            self.give_up(admitted)
            return stops
        for stop in stops:
            stop.under_way += 1
        return replace(admitted, stops=stops)

    async def _enter(self, lane: Lane, now: float, events: Mapping[str, int]) -> Admitted | Shut:
        if not lane.waiting:
            answer = self._lanes.enter(lane, now)
            if isinstance(answer, Admitted) or (answer.block is not None and not lane.is_brief(now)):
                return answer
        if self._closing or not lane.may_wait(now, events):
            return Shut(lane, lane.block(now))
        return await self._wait(lane, events)

    @asynccontextmanager
    async def turn(self, destination: str) -> AsyncIterator[None]:
        """One request to a destination that is no delivery: it waits for its turn and counts like one.

        What is raised inside says how it went. It passes the deliveries that wait in the store: these may wait for it.

        Raises:
            NotNow: nothing may go there at the moment.
        """
        lane, config = self._lane(destination), self._desk.rules().router.private_hash
        entered = await self._enter(lane, self._desk.clock(), {})
        if isinstance(entered, Shut):
            block = entered.block
            raise NotNow(waiting(entered), until=None if block is None else block.until, blocked=block is not None)
        try:
            yield
        except Exception as error:
            self.leave(entered, classify(error), config)
            raise
        except BaseException:
            self.give_up(entered)
            raise
        self.leave(entered, None, config)

    def turned_away(self, destination: str) -> Shut | None:
        """Whether a delivery to a destination would not even wait here if it came now, and why."""
        lane, now = self._lane(destination), self._desk.clock()
        open_ = not lane.is_heavy and not lane.stored
        if open_ and ((not lane.waiting and lane.free(now) > 0) or (lane.may_wait(now) and not self._closing)):
            return None
        return Shut(lane, lane.block(now))

    def leave(self, admitted: Admitted, failure: Failure | None, config: str = "") -> Lane:
        """The attempt is over; None is success. ``config``: the private hash of the rules it followed, if
        known.

        That a key is refused or a URL gone says nothing of other rules, which may have mended it. Returns the lane that
        another attempt of it is to wait in.
        """
        lane, now, rules = admitted.lane, self._desk.clock(), self._desk.rules()
        before, waits_in = lane.last_block, lane
        lane.held.drop(admitted.events)
        if failure is not None:
            old = config not in ("", rules.router.private_hash) and failure.says in ("refused", "gone")
            reason = " ".join(rules.masker.text(failure.reason).split())[:300]
            failure = replace(failure, reason=reason, cause="action" if old else failure.cause)
        self._found_out(admitted, "healthy" if failure is None else failure.says)
        name = self._stopped_by(admitted, failure)
        if failure is not None and name:
            waits_in, failure = self._stop(name, failure.says, failure.reason, now), None
        self._lanes.left(admitted, failure, now)
        self._pauses.tell(lane, before, now)
        self._go_on(lane)
        self._share()
        return waits_in

    def _stop(self, name: str, says: Says, reason: str, now: float) -> Lane:
        before = None if (known := self._lanes.get(name)) is None else known.last_block
        stop = self._stops.stop(name, says, reason, self._desk.rules().router.limits, now)
        self._pauses.tell(stop, before, now)
        return stop

    def _stopped_by(self, admitted: Admitted, failure: Failure | None) -> str:
        """The URL or credential that a failure stops; empty where that is the whole destination, or nothing."""
        if failure is None or failure.says not in ("gone", "refused"):
            return ""
        gone, refused = self._stop_names(admitted.lane, admitted.scope)
        name = gone if failure.says == "gone" else refused
        return "" if name == admitted.lane.name else name

    def _found_out(self, admitted: Admitted, says: Says) -> None:
        """An attempt is over: what stopped its URL or its credential is over if that was taken.

        A credential that is taken is also no longer refused where others were under way when one was.
        """
        for stop in admitted.stops:
            stop.under_way -= 1
        if not self._stops.any:
            return
        _, name = self._stop_names(admitted.lane, admitted.scope)
        refused = self._lanes.get(name)
        for stop in {*admitted.stops, *((refused,) if refused is not None and self._stops.knows(refused) else ())}:
            if says == "healthy" and self._lanes.get(stop.name) is stop:
                self._pauses.reopened(stop)
                self._stops.forget(stop.name)
                self._lanes.forget(stop)
                self._woken()

    def give_up(self, admitted: Admitted) -> None:
        """The attempt was broken off by this process, which says nothing of the destination."""
        self._found_out(admitted, "nothing")
        admitted.lane.given_up(self._desk.clock())
        admitted.lane.held.drop(admitted.events)
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
        name = name_of(f"removed route {route}, action {action}", rules.masker)
        if rules.router.find(route, action) is None:
            lane = self._lanes.lane(name, name, rules.router.limits, now)
            reason = f"route {route!r} with action {action!r} is not in the configuration"
            self._lanes.restore(lane, Block("gone", reason, now, None), now)
            self._removed[name] = route, action
        return name

    # Waiting in memory

    async def _wait(self, lane: Lane, events: Mapping[str, int]) -> Admitted | Shut:
        place = _Place(asyncio.get_running_loop().create_future(), events)
        queue = self._queues.setdefault(lane.name, deque())
        queue.append(place)
        lane.wait(events)
        self.waiting += 1
        if lane.waiting == 1:
            lane.surplus()
            asyncio.get_running_loop().call_later(PATIENCE, self._look_at_pace, lane, queue)
        self._arm(lane)
        try:
            return await asyncio.shield(place.answer)
        except asyncio.CancelledError:
            if place.answer.done() and isinstance(admitted := place.answer.result(), Admitted):
                self.give_up(admitted)
            raise
        finally:
            if not place.answer.done():
                place.answer.cancel()
                queue.remove(place)
                self._no_longer_waits(lane, place)

    def _no_longer_waits(self, lane: Lane, place: _Place) -> None:
        lane.wait_no_longer(place.events)
        self.waiting -= 1
        if not lane.waiting:
            del self._queues[lane.name]

    def _look_at_pace(self, lane: Lane, queue: deque[_Place]) -> None:
        """Those whose turn would not come in time go back to the store, the last ones first."""
        if self._queues.get(lane.name) is not queue:
            return
        for _ in range(lane.surplus()):
            self._answer(lane, queue.pop(), Shut(lane, None))
        if queue:
            asyncio.get_running_loop().call_later(PATIENCE, self._look_at_pace, lane, queue)

    def _answer(self, lane: Lane, place: _Place, answer: Admitted | Shut) -> None:
        place.answer.set_result(answer)
        self._no_longer_waits(lane, place)

    def _go_on(self, lane: Lane) -> None:
        """Let in those who wait, as far as there is room; send all away where the lane is shut for longer."""
        now = self._desk.clock()
        block = None if lane.is_brief(now) else lane.block(now)
        away = self._closing or block is not None
        while lane.waiting:
            answer = Shut(lane, block) if away else self._lanes.enter(lane, now)
            if isinstance(answer, Shut) and not away:
                break
            self._answer(lane, self._queues[lane.name].popleft(), answer)
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
        return self._lanes.ask(self._desk.clock())

    def without_room(self) -> Collection[str]:
        """The lanes of which nothing can be taken now."""
        now = self._desk.clock()
        rooms = self._lanes.rooms(now)
        return {*self._lanes.shut(now), *(name for name, room in rooms.items() if not room)}

    def opens_at(self) -> float | None:
        """When the next lane opens by itself for which something waits in the store."""
        return self._lanes.opens_at(self._desk.clock())

    def taken(self, ask: Ask, found: ClaimResult) -> None:
        """A claim took what it could."""
        self._lanes.taken(ask, found.remaining, found.skipped, found.emptied)

    # Blocks

    def _forget(self, name: str) -> None:
        """It takes deliveries again, or nothing is known of it any more."""
        self._removed.pop(name, None)
        if self._lanes.get(name) is None:
            self._stops.forget(name)
        self._pauses.forget(name)

    async def restore(self) -> None:
        """Take up what was shut before a restart; what the configuration has mended since is let go.

        Raises:
            StoreError: the store cannot tell.
        """
        now, rules = self._desk.clock(), self._desk.rules()
        for control in await self._desk.store.controls():
            if control.kind != "pause":
                continue
            self._pauses.kept(control.subject)
            block = block_of(control, self._pauses.fingerprint(), now)
            if block is None:
                self._pauses.unkeep(control.subject)
                continue
            lane = self._lanes.lane(control.subject, control.subject, rules.router.limits, now)
            self._lanes.restore(lane, block, now)
            if (control.state or {}).get("scope"):
                self._stops.add(lane.name)
            self._pauses.tell(lane, None, now)

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
        if lane is None or lane.state(self._desk.clock()) == "healthy":
            return False
        self._reset(lane)
        return True

    def _reset(self, lane: Lane) -> None:
        if self._stops.knows(lane):
            self._lanes.probe(lane, self._desk.clock())
        else:
            self._lanes.reset(lane, self._desk.clock())
        self._pauses.reopened(lane)
        self._go_on(lane)
        self._woken()
        self._opened(lane.name)

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
        await self._pauses.written()
