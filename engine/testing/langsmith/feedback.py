"""LangSmith's endpoints for feedback."""

from __future__ import annotations

from engine.testing.langsmith.endpoints import Call, Endpoint, unprocessable
from engine.testing.langsmith.rows import Row, checked_uuid, feedback_row, now, parse_time
from engine.testing.langsmith.state import State, found
from engine.testing.server import Answer, Refused


class Feedback:
    """Feedback rows: written once per id, listed by run, key and source."""

    def __init__(self, state: State) -> None:
        self._state = state

    def endpoints(self) -> list[Endpoint]:
        """The table's rows."""
        return [
            ("GET", "/feedback", self._list),
            ("POST", "/feedback", self._create),
            ("GET", "/feedback/{id}", self._read),
            ("PATCH", "/feedback/{id}", self._update),
            ("DELETE", "/feedback/{id}", self._delete),
        ]

    def _list(self, call: Call) -> Answer:
        runs = {checked_uuid(run, "run") for run in call.many("run")}
        rows = [
            row
            for row in self._state.feedback.values()
            if (not runs or row["run_id"] in runs) and _is_wanted(row, call) and _is_in_time(row, call)
        ]
        rows.sort(key=lambda row: parse_time(row["created_at"]), reverse=True)
        return Answer(call.page(rows))

    def _create(self, call: Call) -> Answer:
        row = feedback_row(call.body)
        if self._state.wants_projects and row["session_id"] is None:
            raise unprocessable("session_id", "Field required")
        self._state.need_run(row["run_id"])
        used = row["id"] in self._state.feedback
        if used and self._state.feedback_conflict:
            raise Refused(409, {"detail": f"Feedback with id {row['id']} already exists"})
        self._judge(row)
        if used:
            row["created_at"] = self._state.feedback[row["id"]]["created_at"]
        self._state.feedback[row["id"]] = row
        call.note(f"feedback {row['key']}={_shown(row)}" + (" (again)" if used else ""))
        return Answer(row)

    def _judge(self, row: Row) -> None:
        """Record a row that does not fit its key's configuration as an error. It is still accepted."""
        extra = {name: value for name, value in (row["extra"] or {}).items() if name != "error"}
        if why := _misfit(row, self._state.feedback_configs.get(row["key"], {})):
            extra["error"] = why
        row["extra"] = extra or None

    def _read(self, call: Call) -> Answer:
        return Answer(self._feedback(call))

    def _update(self, call: Call) -> Answer:
        row = self._feedback(call)
        changed: Row = {key: call.body[key] for key in ("score", "value", "comment", "correction") if key in call.body}
        row.update(changed | {"modified_at": now()})
        self._judge(row)
        call.note(f"feedback {row['key']}={_shown(row)} updated")
        return Answer(row)

    def _delete(self, call: Call) -> Answer:
        del self._state.feedback[self._feedback(call)["id"]]
        return Answer({"message": "Feedback deleted"})

    def _feedback(self, call: Call) -> Row:
        return found(self._state.feedback, checked_uuid(call.args["id"], "feedback_id"), "Feedback")


def _misfit(row: Row, config: Row) -> str:
    """Why feedback does not fit its key's configuration; empty if it does."""
    score = row["score"]
    if config.get("type") == "categorical":
        labels = [category["label"] for category in config["categories"]]
        values = [category["value"] for category in config["categories"]]
        fits = row["value"] in labels or score in values
        return "" if fits else f"{_shown(row)!r} is none of the categories {', '.join(labels)}"
    if config.get("type") == "continuous" and isinstance(score, (int, float)):
        low, high = config.get("min"), config.get("max")
        if (low is not None and score < low) or (high is not None and score > high):
            return f"{score} is not between {low} and {high}"
    return ""


def _is_wanted(row: Row, call: Call) -> bool:
    for name, value in (
        ("key", row["key"]),
        ("source", row["feedback_source"]["type"]),
        ("session", row["session_id"]),
    ):
        if call.many(name) and value not in call.many(name):
            return False
    for name, value in (("has_comment", row["comment"]), ("has_score", row["score"])):
        if call.one(name) and (call.one(name).lower() == "true") != (value is not None):
            return False
    return True


def _is_in_time(row: Row, call: Call) -> bool:
    created = parse_time(row["created_at"])
    earliest, latest = call.one("min_created_at"), call.one("max_created_at")
    return (not earliest or created >= parse_time(earliest)) and (not latest or created <= parse_time(latest))


def _shown(row: Row) -> object:
    return row["score"] if row["score"] is not None else row["value"]
