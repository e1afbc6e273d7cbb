"""Give a run feedback, put it into an annotation queue, or both; a digest or a whole webhook is queued run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine import Action, ActionContext, Discard, LangSmithFailure, Retry, Service
from engine import Params as BaseParams

#: LangSmith's limit on a feedback key (API: FeedbackCreateSchema).
_LONGEST_KEY = 180
#: LangSmith keeps scores to so many decimals.
_SCORE_DECIMALS = 4

Number = Annotated[float, Field(allow_inf_nan=False)]


class Feedback(BaseModel):
    """One row of feedback, as LangSmith takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, Field(min_length=1, max_length=_LONGEST_KEY, description="what is judged")]
    score: bool | int | Number | None = Field(None, description="a number, or true or false")
    value: bool | int | Number | str | dict[str, Any] | None = Field(None, description="a category")
    comment: str | None = Field(None, description="in words")
    correction: dict[str, Any] | str | None = Field(None, description="what would have been right")


class Annotate(Action):
    """Give the run feedback and/or put it into an annotation queue."""

    main = "queue"

    class Params(BaseParams):
        """At least one of ``queue`` and ``feedback``."""

        queue: Annotated[str, Field(min_length=1)] | None = Field(
            None, description="an annotation queue's name or id", examples=["needs-review"]
        )
        feedback: Feedback | None = Field(None, description="feedback to give the run")
        extend_trace_retention: bool = Field(
            default=False, description="keep the trace longer, at LangSmith's higher price"
        )

        @model_validator(mode="after")
        def _does_something(self) -> Self:
            if self.queue is None and self.feedback is None:
                raise ValueError(
                    "annotate needs queue or feedback: queue: needs-review, or feedback: {key: …, score: …}"
                )
            return self

    def requires(self, params: Mapping[str, Any]) -> frozenset[Service]:
        """LangSmith's API, whatever it is to do."""
        del params
        return frozenset({"langsmith"})

    def destination(self, params: Params) -> str:
        """One for all that goes to LangSmith: its limits count by API key."""
        del params
        return "langsmith"

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Do both parts, so that neither waits for the other's repair; what was done is harmless to repeat.

        Raises:
            Discard: the event has no run, no such queue exists (after the feedback was given), or the feedback does
                not fit its key's configuration (after the run was queued).
        """
        runs = _runs(context)
        if not runs:
            raise Discard("annotate needs a run, and this event has none")
        result: dict[str, Any] = {"run_id": runs[0]["id"]} if len(runs) == 1 else {"runs": len(runs)}
        failures: list[Exception] = []
        if params.feedback is not None:
            try:
                result["feedback_id"] = await _give_feedback(params.feedback, params, context)
            except (LangSmithFailure, Discard, Retry) as error:
                failures.append(error)
        if params.queue is not None:
            try:
                result["queue_id"] = await _enqueue(params.queue, params, context, runs)
            except (LangSmithFailure, Discard, Retry) as error:
                failures.append(error)
        if failures:
            # What can never succeed must not end a delivery whose other part only has to wait.
            raise next((one for one in failures if not isinstance(one, Discard)), failures[0])
        return result


def _runs(context: ActionContext) -> list[Mapping[str, Any]]:
    """The runs that a delivery is about, each once: its own, those of a digest's items, or all of a webhook's."""
    if context.run is not None and not context.digest:
        return [context.run] if context.run.get("id") else []
    runs: dict[str, Mapping[str, Any]] = {}
    for document in context.document["items"] if context.digest else [context.document]:
        own = document.get("run")
        for run in document["payload"].get("runs") or () if own is None else [own]:
            if isinstance(run, Mapping) and run.get("id"):
                runs.setdefault(str(run["id"]), run)
    return list(runs.values())


async def _give_feedback(feedback: Feedback, params: Annotate.Params, context: ActionContext) -> str:
    run = context.run
    if run is None or not run.get("id"):
        raise Discard("feedback is for one run: write for_each: run, or only queue")
    feedback_id = str(uuid5(NAMESPACE_URL, f"langsmith-rules-engine:{context.delivery_id}/{run['id']}/{feedback.key}"))
    if context.replayed and await _reconciled(feedback, feedback_id, context):
        return feedback_id
    try:
        await context.langsmith.create_feedback(
            run,
            feedback_id=feedback_id,
            key=feedback.key,
            score=feedback.score,
            value=feedback.value,
            comment=feedback.comment,
            correction=feedback.correction,
            extend_trace_retention=params.extend_trace_retention,
            source={"route": context.route, "delivery_id": context.delivery_id},
        )
    except LangSmithFailure as failure:
        if failure.status == 404:
            raise Retry(f"LangSmith does not have the run yet: {failure}") from failure
        if failure.status != 409:
            raise
        # An earlier attempt arrived, and only its answer was lost.
        await context.langsmith.check_feedback(feedback_id)
    return feedback_id


async def _reconciled(feedback: Feedback, feedback_id: str, context: ActionContext) -> bool:
    """Make a feedback that an earlier attempt gave say what this one would; false where there is none."""
    try:
        there = await context.langsmith.read_feedback(feedback_id)
    except LangSmithFailure as failure:
        if failure.status != 404:
            raise
        return False
    wanted = feedback.model_dump(exclude={"key"})
    score = wanted["score"]
    wanted["score"] = round(score, _SCORE_DECIMALS) if isinstance(score, float) else score
    changes = {name: value for name, value in wanted.items() if there["error"] or there.get(name) != value}
    if changes:
        await context.langsmith.update_feedback(feedback_id, changes)
    return True


async def _enqueue(
    queue: str, params: Annotate.Params, context: ActionContext, runs: Sequence[Mapping[str, Any]]
) -> str:
    queue_id = await context.langsmith.queue_id(queue)
    if queue_id is None:
        raise Discard(f"there is no annotation queue {queue!r}: make it in LangSmith, then replay this delivery")
    try:
        await context.langsmith.add_to_queue(queue_id, *runs, extend_trace_retention=params.extend_trace_retention)
    except LangSmithFailure as failure:
        if failure.status == 404:
            context.langsmith.forget_queue(queue)
            raise Retry(f"LangSmith does not have the queue or a run (yet): {failure}") from failure
        if failure.status != 409:  # the run is in the queue
            raise
    return queue_id
