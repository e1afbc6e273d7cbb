"""Add a run to a LangSmith dataset, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import Field

from engine import Action, ActionContext, Discard, LangSmithFailure, Service
from engine import Params as BaseParams

#: LangSmith's examples contain objects. Other values need a name from the author.
Object = dict[str, Any]


class AddToDataset(Action):
    """Add an example made from the run to a dataset. The same run is added once."""

    class Params(BaseParams):
        """The content of the example, and its dataset."""

        dataset: Annotated[str, Field(min_length=1, description="the dataset's name or id", examples=["my-dataset"])]
        inputs: Object = Field(description="the example's inputs", examples=["{{ run.inputs }}"])
        outputs: Object | None = Field(None, description="the expected outputs", examples=["{{ run.outputs }}"])
        metadata: Object | None = Field(None, description="facts about the example")
        split: str | list[str] | None = Field(None, description="the split, or splits, it belongs to")
        create: bool = Field(default=False, description="create the dataset if it does not exist")
        description: str | None = Field(None, description="the dataset's description, when it is created")

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """LangSmith's API, for every use."""
        del params
        return frozenset({"langsmith"})

    def destination(self, params: Params) -> str:
        """One destination for all of LangSmith: its limits are by API key."""
        del params
        return "langsmith"

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Add the example with an id that is equal in every attempt, event and restart."""
        dataset_id = await _dataset_id(params, context)
        try:
            return await self._add(params, context, dataset_id)
        except LangSmithFailure as failure:
            if failure.status != 404:
                raise
            # The dataset may have been deleted and created again since its id was looked up.
            context.langsmith.forget_dataset(params.dataset)
            new_id = await _dataset_id(params, context)
            if new_id == dataset_id:
                raise Discard(f"LangSmith does not find the dataset {params.dataset!r}: {failure}") from failure
        return await self._add(params, context, new_id)

    async def _add(self, params: Params, context: ActionContext, dataset_id: str) -> dict[str, Any]:
        example_id = _example_id(dataset_id, context)
        result = {"dataset_id": dataset_id, "example_id": example_id}
        try:
            await context.langsmith.add_example(
                example_id=example_id,
                dataset_id=dataset_id,
                inputs=params.inputs,
                outputs=params.outputs,
                metadata=params.metadata,
                split=params.split,
                source_run_id=context.run.get("id") if context.run is not None else None,
            )
        except LangSmithFailure as failure:
            if failure.status != 409:
                raise
            return {**result, "outcome": await self._reconcile(params, context, example_id)}
        return {**result, "outcome": "added"}

    async def _reconcile(self, params: Params, context: ActionContext, example_id: str) -> str:
        """The id exists already: from an attempt whose response was lost, or as a different example."""
        existing = await context.langsmith.read_example(example_id)
        different = list(_differences(params, existing))
        if not different:
            return "was there"
        if not context.replayed:
            raise Discard(
                f"the example {example_id} exists already and differs in {', '.join(different)};"
                " replay this delivery to overwrite it"
            )
        await context.langsmith.update_example(
            example_id, inputs=params.inputs, outputs=params.outputs, metadata=params.metadata, split=params.split
        )
        return "updated"


async def _dataset_id(params: AddToDataset.Params, context: ActionContext) -> str:
    found = await context.langsmith.dataset_id(params.dataset)
    if found is not None:
        return found
    if not params.create:
        raise Discard(f"there is no dataset {params.dataset!r}: make it in LangSmith, or set create: true, then replay")
    try:
        return await context.langsmith.create_dataset(params.dataset, description=params.description)
    except LangSmithFailure as failure:
        if failure.status != 409:
            raise
    # It was created in the meantime.
    found = await context.langsmith.dataset_id(params.dataset)
    if found is None:
        raise LangSmithFailure(
            f"LangSmith says that the dataset {params.dataset!r} exists, but does not find it", status=503
        )
    return found


def _example_id(dataset_id: str, context: ActionContext) -> str:
    """A name-based id, which LangSmith accepts once. For a run without an id the delivery's id is used."""
    run_id = context.run.get("id") if context.run is not None else None
    subject = run_id or context.delivery_id
    return str(uuid5(UUID(dataset_id), json.dumps([context.route, context.action, subject])))


def _differences(params: AddToDataset.Params, existing: Mapping[str, Any]) -> list[str]:
    """The fields of the example that differ. Metadata added by LangSmith or people is ignored."""
    metadata = existing.get("metadata") or {}
    wanted_split = [params.split] if isinstance(params.split, str) else params.split
    same = {
        "inputs": _json(existing.get("inputs") or {}) == _json(params.inputs),
        "outputs": _json(existing.get("outputs") or {}) == _json(params.outputs or {}),
        "metadata": _json({key: metadata.get(key) for key in params.metadata or {}}) == _json(params.metadata or {}),
        "split": wanted_split is None or sorted(metadata.get("dataset_split") or []) == sorted(wanted_split),
    }
    return [name for name, equal in same.items() if not equal]


def _json(value: Any) -> Any:
    """The value after encoding and decoding as JSON: times as text, tuples as lists."""
    return json.loads(json.dumps(value, default=str))
