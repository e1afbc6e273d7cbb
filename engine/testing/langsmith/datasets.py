"""LangSmith's endpoints for datasets and their examples."""

from __future__ import annotations

import json
from typing import Any

from engine.testing.langsmith.endpoints import Call, Endpoint, unprocessable
from engine.testing.langsmith.rows import (
    Row,
    checked_text,
    checked_uuid,
    dataset_row,
    example_row,
    now,
    optional_uuid,
)
from engine.testing.langsmith.state import State, found
from engine.testing.server import Answer, Refused


class Datasets:
    """Datasets by name and id; examples one by one, in bulk and as multipart."""

    def __init__(self, state: State) -> None:
        self._state = state

    def endpoints(self) -> list[Endpoint]:
        """The table's rows."""
        return [
            ("GET", "/datasets", self._list),
            ("POST", "/datasets", self._create),
            ("GET", "/datasets/{id}", self._read),
            ("DELETE", "/datasets/{id}", self._delete),
            ("GET", "/examples", self._list_examples),
            ("POST", "/examples", self._create_example),
            ("POST", "/examples/bulk", self._create_examples),
            ("GET", "/examples/{id}", self._read_example),
            ("PATCH", "/examples/{id}", self._update_example),
            ("DELETE", "/examples/{id}", self._delete_example),
            ("POST", "/platform/datasets/{id}/examples", self._upload_examples),
            ("PATCH", "/platform/datasets/{id}/examples", self._upload_updates),
        ]

    def _list(self, call: Call) -> Answer:
        name, part, ids = call.one("name"), call.one("name_contains"), call.many("id")
        if name and self._state.creates_missing and not any(row["name"] == name for row in self._rows()):
            self._add(dataset_row(name), call)
        rows = [
            row
            for row in self._rows()
            if (not name or row["name"] == name)
            and part.lower() in row["name"].lower()
            and (not ids or row["id"] in ids)
        ]
        return Answer(call.page([self._counted(row) for row in rows]))

    def _create(self, call: Call) -> Answer:
        body = call.body
        name = checked_text(body, "name")
        if any(row["name"] == name for row in self._rows()):
            raise Refused(409, {"detail": "Dataset with this name already exists."})
        known = {"description", "data_type", "inputs_schema_definition", "outputs_schema_definition", "transformations"}
        fields = {key: value for key, value in body.items() if key in known and value is not None}
        row = dataset_row(name, row_id=optional_uuid(body, "id"), **fields)
        self._add(row, call)
        return Answer(row)

    def _add(self, row: Row, call: Call) -> None:
        self._state.datasets[row["id"]] = row
        call.note(f"dataset {row['name']!r} created")

    def _rows(self) -> list[Row]:
        return list(self._state.datasets.values())

    def _read(self, call: Call) -> Answer:
        return Answer(self._counted(self._dataset(call.args["id"])))

    def _delete(self, call: Call) -> Answer:
        row = self._dataset(call.args["id"])
        del self._state.datasets[row["id"]]
        for example in [row_ for row_ in self._state.examples.values() if row_["dataset_id"] == row["id"]]:
            del self._state.examples[example["id"]]
        return Answer({})

    def _list_examples(self, call: Call) -> Answer:
        if call.one("filter"):
            raise Refused(400, {"detail": "the stand-in does not evaluate example filters"})
        dataset, ids, splits = call.one("dataset"), call.many("id"), set(call.many("splits"))
        wanted = _parse_metadata(call.one("metadata"))
        rows = [
            row
            for row in self._state.examples.values()
            if (not dataset or row["dataset_id"] == dataset)
            and (not ids or row["id"] in ids)
            and (not splits or splits & set(row["metadata"]["dataset_split"]))
            and wanted.items() <= row["metadata"].items()
        ]
        return Answer(call.page(rows))

    def _create_example(self, call: Call) -> Answer:
        row = self._new_example(call.body)
        self._keep(row, call)
        return Answer(row)

    def _create_examples(self, call: Call) -> Answer:
        rows = [self._new_example(item) for item in call.rows]
        for row in rows:
            self._keep(row, call)
        return Answer(rows)

    def _read_example(self, call: Call) -> Answer:
        return Answer(self._example(call))

    def _update_example(self, call: Call) -> Answer:
        _change(self._example(call), call.body)
        call.note("example updated")
        return Answer({"message": "Example updated"})

    def _delete_example(self, call: Call) -> Answer:
        del self._state.examples[self._example(call)["id"]]
        return Answer({"message": "Example deleted"})

    def _upload_examples(self, call: Call) -> Answer:
        dataset = self._dataset(call.args["id"])["id"]
        rows = [self._new_example(body) for body in _parts_to_bodies(call, dataset, complete=True)]
        for row in rows:
            self._keep(row, call)
        ids = [row["id"] for row in rows]
        return Answer({"count": len(ids), "example_ids": ids, "as_of": now()}, 201)

    def _upload_updates(self, call: Call) -> Answer:
        dataset = self._dataset(call.args["id"])["id"]
        bodies = _parts_to_bodies(call, dataset, complete=False)
        rows = [found(self._state.examples, checked_uuid(body["id"], "example_id"), "Example") for body in bodies]
        for row, body in zip(rows, bodies, strict=True):
            _change(row, body)
        call.note(f"{len(rows)} examples updated")
        return Answer({"count": len(rows), "example_ids": [row["id"] for row in rows]}, 201)

    def _new_example(self, body: Any) -> Row:
        if not isinstance(body, dict):
            raise unprocessable("body", "Input should be a valid dictionary")
        dataset = self._dataset(checked_uuid(body.get("dataset_id"), "dataset_id"))["id"]
        body = self._with_source_io(body)
        if not isinstance(body.get("inputs"), dict):
            raise unprocessable("inputs", "Input should be a valid dictionary")
        row = example_row(dataset, body)
        if row["id"] in self._state.examples:
            raise Refused(409, {"detail": f"Example with id {row['id']} already exists"})
        return row

    def _with_source_io(self, body: dict[str, Any]) -> dict[str, Any]:
        """Inputs and outputs of the source run, if the request asks for them."""
        if not body.get("use_source_run_io"):
            return body
        run = found(self._state.runs, checked_uuid(body.get("source_run_id"), "source_run_id"), "Run")
        return body | {"inputs": run["inputs"] or {}, "outputs": run["outputs"]}

    def _keep(self, row: Row, call: Call) -> None:
        self._state.examples[row["id"]] = row
        call.note(f"example added to {self._state.datasets[row['dataset_id']]['name']!r}")

    def _dataset(self, key: str) -> Row:
        row_id = checked_uuid(key, "dataset_id")
        if self._state.creates_missing:
            self._state.datasets.setdefault(row_id, dataset_row(f"dataset {row_id[:8]}", row_id=row_id))
        return found(self._state.datasets, row_id, "Dataset")

    def _example(self, call: Call) -> Row:
        return found(self._state.examples, checked_uuid(call.args["id"], "example_id"), "Example")

    def _counted(self, row: Row) -> Row:
        count = sum(example["dataset_id"] == row["id"] for example in self._state.examples.values())
        return row | {"example_count": count}


def _parse_metadata(text: str) -> dict[str, Any]:
    try:
        wanted = json.loads(text) if text else {}
    except ValueError:
        raise unprocessable("metadata", "Invalid JSON") from None
    return wanted if isinstance(wanted, dict) else {}


def _change(row: Row, body: dict[str, Any]) -> None:
    """Apply an update: absent or null fields are unchanged; metadata is replaced except for the split."""
    row.update({key: body[key] for key in ("inputs", "outputs") if body.get(key) is not None})
    if body.get("metadata") is not None:
        row["metadata"] = {"dataset_split": row["metadata"]["dataset_split"], **body["metadata"]}
    if (split := body.get("split")) is not None:
        row["metadata"]["dataset_split"] = [split] if isinstance(split, str) else split
    row["modified_at"] = now()


def _parts_to_bodies(call: Call, dataset: str, *, complete: bool) -> list[dict[str, Any]]:
    """Multipart: ``{id}`` is the example's information, ``{id}.inputs`` and ``{id}.outputs`` its data."""
    if not isinstance(call.recorded.body, dict):
        raise Refused(400, {"error": "invalid multipart body"})
    parts = call.body
    bodies = []
    for name, information in parts.items():
        if "." in name:
            continue
        if not isinstance(information, dict):
            raise Refused(422, {"error": "invalid part", "details": f"{name} is not a JSON object"})
        if complete and f"{name}.inputs" not in parts and not information.get("use_source_run_io"):
            raise Refused(400, {"error": "missing part", "details": f"{name}.inputs is required"})
        data = {key: parts.get(f"{name}.{key}") for key in ("inputs", "outputs")}
        bodies.append({"id": name, "dataset_id": dataset, **information, **data})
    return bodies
