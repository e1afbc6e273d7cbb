"""LangSmith's endpoints for annotation queues, and their items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.testing.langsmith.endpoints import Call, Endpoint, unprocessable
from engine.testing.langsmith.rows import Row, checked_text, checked_uuid, optional_uuid, queue_item_row, queue_row
from engine.testing.langsmith.state import State, found
from engine.testing.server import Answer, Refused

#: The most items one call may add.
MOST_ITEMS = 100


class Queues:
    """Annotation queues: created, listed, and filled by the three endpoints that versions of the SDK use."""

    def __init__(self, state: State) -> None:
        self._state = state

    def endpoints(self) -> list[Endpoint]:
        """The table's rows."""
        return [
            ("GET", "/annotation-queues", self._list),
            ("POST", "/annotation-queues", self._create),
            ("GET", "/annotation-queues/{id}", self._read),
            ("DELETE", "/annotation-queues/{id}", self._delete),
            ("POST", "/annotation-queues/{id}/runs", self._add_runs),
            ("POST", "/annotation-queues/{id}/runs/by-key", self._add_runs_by_key),
            ("POST", "/platform/annotation-queues/{id}/items", self._add_items),
            ("GET", "/platform/annotation-queues/{id}/items", self._list_items),
        ]

    def _list(self, call: Call) -> Answer:
        name, part, ids = call.one("name"), call.one("name_contains"), call.many("ids")
        queues = self._state.queues
        if name and self._state.creates_missing and not any(row["name"] == name for row in queues.values()):
            row = queue_row(name)
            queues[row["id"]] = row
            call.note(f"queue {name!r} created")
        rows = [
            _plain(row) | {"total_runs": len(self._items(row["id"]))}
            for row in queues.values()
            if (not name or row["name"] == name)
            and part.lower() in row["name"].lower()
            and (not ids or row["id"] in ids)
        ]
        return Answer(call.page(rows))

    def _create(self, call: Call) -> Answer:
        body = call.body
        known = ("description", "rubric_instructions", "rubric_items", "default_dataset", "metadata")
        fields = {key: body[key] for key in known if body.get(key) is not None}
        row = queue_row(checked_text(body, "name"), row_id=optional_uuid(body, "id"), **fields)
        if row["id"] in self._state.queues:
            raise Refused(409, {"detail": "Annotation queue already exists"})
        self._state.queues[row["id"]] = row
        call.note(f"queue {row['name']!r} created")
        return Answer(_plain(row))

    def _read(self, call: Call) -> Answer:
        return Answer(self._queue(call))

    def _delete(self, call: Call) -> Answer:
        row = self._queue(call)
        del self._state.queues[row["id"]]
        for key in [key for key in self._state.queue_items if key[0] == row["id"]]:
            del self._state.queue_items[key]
        return Answer({"message": "Queue deleted"})

    def _add_runs(self, call: Call) -> Answer:
        items = [item if isinstance(item, dict) else {"run_id": item} for item in call.rows]
        return Answer([_as_run(row) for row in self._add(call, items)])

    def _add_runs_by_key(self, call: Call) -> Answer:
        for item in call.rows:
            if not isinstance(item, dict) or not {"run_id", "session_id", "start_time"} <= item.keys():
                raise unprocessable("runs", "run_id, session_id and start_time are required")
        return Answer([_as_run(row) for row in self._add(call, call.rows)])

    def _add_items(self, call: Call) -> Answer:
        items = call.body.get("items")
        if not isinstance(items, list) or not items:
            raise Refused(400, {"error": "items is required"})
        return Answer({"items": self._add(call, items)}, 201)

    def _list_items(self, call: Call) -> Answer:
        """The stand-in reviews nothing, so all items are still to be reviewed."""
        if not call.one("status"):
            raise Refused(422, {"error": "status is required"})
        items = self._items(self._queue(call)["id"]) if call.one("status") == "needs_my_review" else []
        kind = call.one("item_type")
        page = call.cursor_page([item for item in items if not kind or item["item_type"] == kind], "page_size")
        return Answer({"items": page[0], "next_cursor": page[1]})

    def _add(self, call: Call, items: list[Any]) -> list[Row]:
        queue = self._queue(call)
        if len(items) > MOST_ITEMS:
            raise Refused(400, {"error": f"at most {MOST_ITEMS} items can be added at once"})
        rows = [self._one(queue["id"], item) for item in items]
        self._state.queue_items |= {_key(row): row for row in rows}
        call.note(f"{len(rows)} added to queue {queue['name']!r}")
        return rows

    def _one(self, queue_id: str, item: Mapping[str, Any]) -> Row:
        """The queue's row for an item: a new one, or the existing one."""
        row = queue_item_row(queue_id, _checked_item(item))
        self._state.need_run(row["run_id"])
        there = self._state.queue_items.get(_key(row))
        if there is not None and self._state.queue_conflict:
            raise Refused(409, {"detail": "Run already in annotation queue"})
        return there or row

    def _queue(self, call: Call) -> Row:
        row_id = checked_uuid(call.args["id"], "queue_id")
        if self._state.creates_missing:
            self._state.queues.setdefault(row_id, queue_row(f"queue {row_id[:8]}", row_id=row_id))
        return found(self._state.queues, row_id, "Annotation queue")

    def _items(self, queue_id: str) -> list[Row]:
        return [item for item in self._state.queue_items.values() if item["queue_id"] == queue_id]


def _key(row: Row) -> tuple[str, ...]:
    """The identity of an item: a run or thread is in a queue once."""
    return tuple(str(row[name]) for name in ("queue_id", "item_type", "run_id", "thread_id"))


def _checked_item(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise unprocessable("items", "Input should be a valid dictionary")
    kind = item.get("item_type", "RUN")
    project = item.get("project_id") or item.get("session_id")
    if kind == "RUN" and not item.get("run_id"):
        raise unprocessable("run_id", "Field required")
    if kind == "THREAD" and not (item.get("thread_id") and project):
        raise unprocessable("thread_id", "THREAD items require thread_id and project_id")
    if kind not in ("RUN", "THREAD"):
        raise unprocessable("item_type", "Input should be 'RUN' or 'THREAD'")
    return item


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if not key.startswith("rubric_")}


def _as_run(row: Row) -> Row:
    keys = ("id", "queue_id", "run_id", "last_reviewed_time", "added_at", "source_proposed_example_id")
    return {key: row[key] for key in keys}
