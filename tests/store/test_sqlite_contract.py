"""The contract suite on SQLite."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from contract import StoreContract, store
from contract_discarding import Discarding
from contract_holding import Holding
from contract_keeping import Pruning
from contract_repeating import Repeating
from store_cases import Backend, Clock

from engine.store import open_store
from engine.store.protocol import Store

__all__ = ["store"]


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "data" / "engine.db"
        self.url = f"sqlite:///{self.path}"
        self.clock = Clock()

    def store(self, owner: str | None = None) -> Store:
        return open_store(self.url, owner=owner, clock=self.clock)

    async def vanish(self, store: Any) -> None:
        await asyncio.to_thread(store._close)

    async def lose_body(self, store: Any, event_id: str) -> None:
        await store._do(partial(_lose, event_id=event_id))


def _lose(db: Any, *, event_id: str) -> None:
    db.execute("DELETE FROM event_body WHERE event_id = ?", (event_id,))


class TestSqlite(StoreContract, Discarding, Holding, Pruning, Repeating):
    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        return SqliteBackend(folder)
