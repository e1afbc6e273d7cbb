"""What a change of the configuration hurries, and which destinations it opens."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from engine.action.registry import load_installed
from engine.config import parse_config
from engine.core.errors import StoreBusy
from engine.rules.compile import compile_router
from engine.worker.changed_targets import ChangedTargets
from engine.worker.hydrate import READ_FROM


class World:
    """A store that answers what it is told to, and the destinations that were opened."""

    def __init__(self) -> None:
        self.asked: list[Mapping[tuple[str, str], str]] = []
        self.found: Mapping[str, int] = {}
        self.error: Exception | None = None
        self.opened: list[set[str]] = []
        self.context: Any = SimpleNamespace(store=self, clock=lambda: 5.0, logger=logging.getLogger("engine"))
        self.load()
        self.targets = ChangedTargets(self.context, self.open)

    def load(self, url: str = "https://a.example", key: str = "k") -> None:
        text = f"""
secrets: none
langsmith: {{api_key: {key}}}
routes: {{alert: {{actions: [{{forward_webhook: {{url: "{url}"}}}}]}}}}
"""
        self.context.rules = SimpleNamespace(router=compile_router(parse_config(text, environ={}), load_installed()))

    def open(self, names: Collection[str]) -> None:
        self.opened.append(set(names))

    async def make_due(self, _start: str, *, now: float) -> int:
        assert now == 5.0
        return 0

    async def make_changed_due(self, targets: Mapping[tuple[str, str], str], *, now: float) -> Mapping[str, int]:
        assert now == 5.0
        if self.error is not None:
            raise self.error
        self.asked.append(targets)
        return self.found


async def test_at_the_start_the_store_is_asked_and_nothing_is_opened() -> None:
    world = World()
    await world.targets.step()
    assert [set(asked) for asked in world.asked] == [{("alert", "forward_webhook"), ("", "")}]
    assert world.opened == [set()]


async def test_what_it_finds_is_logged_and_its_destination_opened(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    await world.targets.step()
    assert caplog.records == []
    world.found = {"https://a.example": 2, "": 3}
    world.load("https://b.example")
    world.targets.reloaded()
    await world.targets.step()
    assert world.opened[-1] == {"https://a.example"}
    (record,) = caplog.records
    assert vars(record)["work"] == 5


@pytest.mark.parametrize(("key", "opened"), [("k", set()), ("another", {READ_FROM})])
async def test_a_new_key_opens_the_reading_from_langsmith(key: str, opened: set[str]) -> None:
    world = World()
    await world.targets.step()
    world.load("https://b.example", key)
    world.targets.reloaded()
    await world.targets.step()
    assert world.opened[-1] == opened


async def test_only_a_changed_target_or_work_of_replaced_rules_is_looked_for() -> None:
    world = World()
    await world.targets.step()
    world.targets.reloaded()
    world.targets.stored(world.context.rules.router)
    assert not world.targets._asked.is_set()
    old = world.context.rules.router
    world.load("https://b.example")
    world.targets.stored(old)
    assert world.targets._asked.is_set()


async def test_what_the_store_could_not_do_is_done_by_the_next_step() -> None:
    world = World()
    world.error = StoreBusy("disk")
    with pytest.raises(StoreBusy):
        await world.targets.step()
    world.error = None
    await world.targets.step()
    assert len(world.asked) == 1
