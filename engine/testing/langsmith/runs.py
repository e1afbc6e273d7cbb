"""LangSmith's endpoints for runs and for rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from engine.testing.langsmith.endpoints import Call, Endpoint, cut_page
from engine.testing.langsmith.rows import PROJECT_ID, Row, checked_uuid, parse_time, project_row
from engine.testing.langsmith.state import State, found
from engine.testing.server import Answer, Refused

#: Columns of a run that are always returned.
_ALWAYS = frozenset(
    {"id", "name", "run_type", "start_time", "trace_id", "dotted_order", "status", "session_id", "app_path"}
)
#: Version 2's names of columns that version 1 names differently.
_V2_NAMES = {"project_id": "session_id", "is_in_dataset": "in_dataset"}
_V2_NUMBERS = frozenset({"total_cost", "prompt_cost", "completion_cost"})


class Runs:
    """Runs by id and by query, in both versions of the API; sharing; the list of rules."""

    def __init__(self, state: State) -> None:
        self._state = state

    def endpoints(self) -> list[Endpoint]:
        """The table's rows."""
        return [
            ("GET", "/runs/rules", self._list_rules),
            ("GET", "/v2/runs/rules", self._list_rules_v2),
            ("POST", "/runs/query", self._query),
            ("POST", "/v2/runs/query", self._query_v2),
            ("GET", "/runs/{id}", self._read),
            ("GET", "/v2/runs/{id}", self._read_v2),
            ("PUT", "/runs/{id}/share", self._share),
            ("POST", "/v2/runs/{id}/share", self._share_v2),
            ("GET", "/sessions", self._list_projects),
        ]

    def _list_rules(self, call: Call) -> Answer:
        session, ids, part = call.one("session_id"), call.many("id"), call.one("name_contains").lower()
        return Answer(
            [
                row
                for row in self._state.rules.values()
                if (not session or row["session_id"] == session)
                and (not ids or row["id"] in ids)
                and part in row["display_name"].lower()
            ]
        )

    def _list_rules_v2(self, call: Call) -> Answer:
        project = call.one("project_id")
        rows = [row for row in self._state.rules.values() if not project or row["session_id"] == project]
        return Answer({"items": rows, "next_cursor": None})

    def _list_projects(self, call: Call) -> Answer:
        """The projects that runs belong to. The sync SDK learns the workspace's id from here."""
        ids = {row["session_id"] for row in self._rows()} or {PROJECT_ID}
        return Answer(call.page([project_row(project_id) for project_id in sorted(ids)]))

    def _query(self, call: Call) -> Answer:
        body = call.body
        _refuse_filters(body, ("filter", "trace_filter", "tree_filter", "query", "search_filter"))
        if not any(body.get(key) for key in ("session", "id", "parent_run", "trace", "reference_example")):
            words = "At least one of 'session', 'id', 'parent_run', 'trace' or 'reference_example' must be specified"
            raise Refused(400, {"detail": words})
        fitting = _newest_first([row for row in self._rows() if _fits(row, body)])
        rows, after = cut_page(fitting, body.get("cursor") or 0, body.get("limit") or 100)
        select = body.get("select")
        runs = [_selected(row, select) for row in rows]
        return Answer({"runs": runs, "cursors": {"next": after, "prev": None}, "parsed_query": None})

    def _query_v2(self, call: Call) -> Answer:
        body = call.body
        _refuse_filters(body, ("filter", "trace_filter", "tree_filter", "ai_query"))
        if bool(body.get("project_ids")) == bool(body.get("reference_dataset_id")):
            raise problem(400, "set exactly one of project_ids and reference_dataset_id")
        fitting = _newest_first([row for row in self._rows() if _fits_v2(row, body)])
        rows, after = cut_page(fitting, body.get("cursor") or 0, body.get("page_size") or 100, most=1000)
        items = [_v2_run(row, body.get("selects") or ["ID"]) for row in rows]
        return Answer({"items": items, "has_more": after is not None} | ({"next_cursor": after} if after else {}))

    def _read(self, call: Call) -> Answer:
        return Answer(self._run(call))

    def _read_v2(self, call: Call) -> Answer:
        for name in ("project_id", "start_time"):
            if not call.one(name):
                raise problem(422, f"{name} is required")
        row = self._state.runs.get(checked_uuid(call.args["id"], "run_id"))
        if row is None or row["session_id"] != call.one("project_id"):
            raise problem(404, "run not found")
        return Answer(_v2_run(row, call.many("selects") or ["ID"]))

    def _share(self, call: Call) -> Answer:
        run_id = self._run(call)["id"]
        return Answer({"run_id": run_id, "share_token": self._token(run_id)})

    def _share_v2(self, call: Call) -> Answer:
        run_id = self._run(call)["id"]
        token = self._token(run_id)
        return Answer({"run_id": run_id, "share_token": token, "url": f"/public/{token}/r"})

    def _token(self, run_id: str) -> str:
        return self._state.shares.setdefault(run_id, str(uuid4()))

    def _run(self, call: Call) -> Row:
        return found(self._state.runs, checked_uuid(call.args["id"], "run_id"), "Run")

    def _rows(self) -> list[Row]:
        return list(self._state.runs.values())


def problem(status: int, detail: str) -> Refused:
    """An error response of version 2 (RFC 9457)."""
    return Refused(status, {"type": "about:blank", "title": "Request refused", "status": status, "detail": detail})


def _refuse_filters(body: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if body.get(name):
            raise Refused(400, {"detail": f"the stand-in does not evaluate {name!r}; ask by id, session or trace"})


def _fits(row: Row, body: dict[str, Any]) -> bool:
    trace, parent = body.get("trace"), body.get("parent_run")
    return (
        _is_among(row["id"], body.get("id"))
        and _is_among(row["session_id"], body.get("session"))
        and _is_among(row["reference_example_id"], body.get("reference_example"))
        and (not trace or row["trace_id"] == trace)
        and (not parent or row["parent_run_id"] == parent)
        and body.get("run_type") in (None, row["run_type"])
        and body.get("is_root") in (None, row["is_root"])
        and body.get("error") in (None, row["error"] is not None)
        and _is_between(row, body.get("start_time"), None)
    )


def _fits_v2(row: Row, body: dict[str, Any]) -> bool:
    """Without ``min_start_time`` only the last day is searched: the default of version 2."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    earliest = body.get("min_start_time") or (yesterday if body.get("project_ids") else None)
    trace = body.get("trace_id")
    return (
        _is_among(row["id"], body.get("ids"))
        and _is_among(row["session_id"], body.get("project_ids"))
        and _is_among(row["reference_example_id"], body.get("reference_examples"))
        and (not trace or row["trace_id"] == trace)
        and body.get("run_type") in (None, row["run_type"].upper())
        and body.get("is_root") in (None, row["is_root"])
        and body.get("has_error") in (None, row["error"] is not None)
        and _is_between(row, earliest, body.get("max_start_time"))
    )


def _is_among(value: Any, wanted: list[str] | None) -> bool:
    return not wanted or value in wanted


def _is_between(row: Row, earliest: str | None, latest: str | None) -> bool:
    start = parse_time(row["start_time"])
    return (not earliest or start >= parse_time(earliest)) and (not latest or start <= parse_time(latest))


def _newest_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: parse_time(row["start_time"]), reverse=True)


def _selected(row: Row, select: list[str] | None) -> Row:
    if not select:
        return row
    return {key: value for key, value in row.items() if key in select or key in _ALWAYS}


def _v2_run(row: Row, selects: list[str]) -> Row:
    """The selected columns, without null ones; numbers as numbers, names in capitals."""
    run: Row = {}
    for name in (select.lower() for select in selects):
        value = _v2_value(row, name)
        if value is not None:
            run[name] = value
    return run


def _v2_value(row: Row, name: str) -> Any:
    value = row.get(_V2_NAMES.get(name, name))
    if value is None:
        return (row.get("extra") or {}).get("metadata") if name == "metadata" else None
    if name in ("run_type", "status"):
        return value.upper()
    if name.endswith("_time"):
        return parse_time(value).isoformat()
    return float(value) if name in _V2_NUMBERS else value
