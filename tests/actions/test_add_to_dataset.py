"""add_to_dataset against LangSmith's stand-in, through the real SDK."""

from __future__ import annotations

import asyncio

import pytest
from action_samples import RUN, RUN_ID

from actions.add_to_dataset import AddToDataset
from engine import Discard, LangSmithFailure, Retry
from engine.action.failures import classify
from engine.action.params import validate_rendered
from engine.core.errors import TemplateError

PARAMS = {"dataset": "issues", "inputs": {"question": "why?"}, "outputs": {"output": "therefore"}}


async def test_adds_an_example_with_the_runs_id_as_source(attempt, langsmith):
    dataset = langsmith.add_dataset("issues")
    result = await attempt(AddToDataset(), PARAMS | {"metadata": {"by": "engine"}, "split": ["train", "hard"]})
    (example,) = langsmith.examples.values()
    assert example["id"] == result["example_id"]
    assert (example["dataset_id"], example["source_run_id"]) == (dataset, RUN_ID)
    assert (example["inputs"], example["outputs"]) == ({"question": "why?"}, {"output": "therefore"})
    assert example["metadata"] == {"by": "engine", "dataset_split": ["train", "hard"]}
    assert result["outcome"] == "added"


async def test_a_second_attempt_finds_the_first_ones_example(attempt, langsmith):
    langsmith.add_dataset("issues")
    langsmith.faults.add(status=502, path="/examples", method="POST", applied=True)
    with pytest.raises(LangSmithFailure) as caught:
        await attempt(AddToDataset(), PARAMS)
    assert classify(caught.value).retry
    result = await attempt(AddToDataset(), PARAMS, attempt=2)
    assert result["outcome"] == "was there"
    assert len(langsmith.examples) == 1


async def test_another_event_with_the_same_run_adds_nothing(attempt, langsmith):
    langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS)
    await attempt(AddToDataset(), PARAMS, delivery_id="other", event_id="other")
    assert len(langsmith.examples) == 1


@pytest.mark.parametrize("other", [{"route": "another"}, {"action": "another"}, {"run": RUN | {"id": "another"}}])
async def test_another_route_action_or_run_adds_its_own_example(attempt, langsmith, other):
    langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS)
    await attempt(AddToDataset(), PARAMS, **other)
    assert len(langsmith.examples) == 2


async def test_an_example_that_differs_is_dead_and_says_in_what(attempt, langsmith):
    langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS)
    with pytest.raises(Discard, match=r"differs in outputs, split; replay this delivery to overwrite it"):
        await attempt(AddToDataset(), PARAMS | {"outputs": {"output": "else"}, "split": "test"})
    (example,) = langsmith.examples.values()
    assert example["outputs"] == {"output": "therefore"}


async def test_a_replay_updates_an_example_that_differs(attempt, langsmith):
    langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS)
    changed = PARAMS | {"outputs": {"output": "else"}, "metadata": {"n": 1}, "split": "test"}
    result = await attempt(AddToDataset(), changed, replayed=True)
    (example,) = langsmith.examples.values()
    assert result["outcome"] == "updated"
    assert example["outputs"] == {"output": "else"}
    assert example["metadata"] == {"n": 1, "dataset_split": ["test"]}


async def test_metadata_that_others_added_is_no_difference(attempt, langsmith):
    langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS | {"metadata": {"by": "engine"}})
    next(iter(langsmith.examples.values()))["metadata"]["reviewed"] = True
    assert (await attempt(AddToDataset(), PARAMS | {"metadata": {"by": "engine"}}))["outcome"] == "was there"


async def test_a_missing_dataset_is_dead_with_advice(attempt, langsmith):
    with pytest.raises(Discard, match=r"no dataset 'issues': make it in LangSmith, or set create: true"):
        await attempt(AddToDataset(), PARAMS)
    langsmith.add_dataset("issues")
    assert await attempt(AddToDataset(), PARAMS), "that it was missing is not remembered"


async def test_create_makes_a_missing_dataset_once(attempt, langsmith):
    params = PARAMS | {"create": True, "description": "made here"}
    await attempt(AddToDataset(), params)
    await attempt(AddToDataset(), params, run=RUN | {"id": "7ab80f10-d79c-4fa2-b441-922ed6feb630"})
    (dataset,) = langsmith.datasets.values()
    assert (dataset["name"], dataset["description"], dataset["data_type"]) == ("issues", "made here", "kv")
    assert len(langsmith.examples) == 2


async def test_many_that_create_one_dataset_at_once_share_it(attempt, langsmith):
    action = AddToDataset()
    runs = [RUN | {"id": f"{n:08d}-d79c-4fa2-b441-922ed6feb630"} for n in range(8)]
    await asyncio.gather(*(attempt(action, PARAMS | {"create": True}, run=run) for run in runs))
    assert len(langsmith.datasets) == 1
    assert len(langsmith.examples) == 8


async def test_a_dataset_made_anew_under_its_name_is_found_again(attempt, langsmith):
    old = langsmith.add_dataset("issues")
    await attempt(AddToDataset(), PARAMS)
    del langsmith.datasets[old]
    new = langsmith.add_dataset("issues")
    assert (await attempt(AddToDataset(), PARAMS))["dataset_id"] == new


async def test_a_dataset_may_be_named_by_its_id(attempt, langsmith):
    dataset = langsmith.add_dataset("issues")
    assert (await attempt(AddToDataset(), PARAMS | {"dataset": dataset}))["dataset_id"] == dataset
    assert not [request for request in langsmith.requests if request.method == "GET"]


async def test_an_unknown_dataset_id_is_dead(attempt):
    with pytest.raises(Discard, match="does not find the dataset"):
        await attempt(AddToDataset(), PARAMS | {"dataset": RUN_ID})


@pytest.mark.parametrize("run", [None, {"name": "a run without an id"}])
async def test_without_a_runs_id_every_delivery_has_an_example_of_its_own(attempt, langsmith, run):
    langsmith.add_dataset("issues")
    first = await attempt(AddToDataset(), PARAMS, run=run)
    again = await attempt(AddToDataset(), PARAMS, run=run, attempt=2)
    other = await attempt(AddToDataset(), PARAMS, run=run, delivery_id="another")
    assert first["example_id"] == again["example_id"] != other["example_id"]
    assert {example["source_run_id"] for example in langsmith.examples.values()} == {None}


@pytest.mark.parametrize("name", ["inputs", "outputs", "metadata"])
def test_what_is_not_a_mapping_is_refused_with_the_line_as_it_should_read(name):
    """LangSmith's examples hold objects."""
    with pytest.raises(TemplateError, match="must be a mapping, not a text") as caught:
        validate_rendered(AddToDataset.Params, PARAMS | {name: "text"})
    assert (caught.value.where, caught.value.hint) == ((name,), f"give it a name: {name}: {{NAME: …}}")


def test_it_requires_langsmith():
    assert AddToDataset().requires({}) == {"langsmith"}


async def test_no_api_key_is_tried_again_with_advice(make_context):
    """A key that is written into the configuration heals what waits."""
    from engine.clients.langsmith import LangSmith, LangSmithSettings

    context = make_context(langsmith=LangSmith(LangSmithSettings(api_key=None)))
    with pytest.raises(Retry, match=r"set langsmith\.api_key"):
        await AddToDataset().run(AddToDataset.Params.model_validate(PARAMS), context)
