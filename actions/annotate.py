"""Give a run feedback, put it into an annotation queue, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine import Action, ActionContext, Discard, LangSmithFailure, Retry, Service
from engine import Params as BaseParams

#: LangSmith's limit on a feedback key (API: FeedbackCreateSchema).
_LONGEST_KEY = 180

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
            Discard: the event has no run, or no such queue exists (after the feedback was given).
        """
        if context.run is None or not context.run.get("id"):
            raise Discard("annotate needs a run, and this event has none")
        result: dict[str, Any] = {"run_id": context.run["id"]}
        failure: Exception | None = None
        if params.feedback is not None:
            try:
                result["feedback_id"] = await _give_feedback(params.feedback, params, context, context.run)
            except (LangSmithFailure, Retry) as error:
                failure = error
        if params.queue is not None:
            # Where both fail, the feedback's failure is told: a queue that does not exist must not
            # end a delivery whose feedback only has to wait.
            try:
                result["queue_id"] = await _enqueue(params.queue, params, context, context.run)
            except (LangSmithFailure, Discard, Retry) as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return result


async def _give_feedback(
    feedback: Feedback, params: Annotate.Params, context: ActionContext, run: Mapping[str, Any]
) -> str:
    feedback_id = str(uuid5(NAMESPACE_URL, f"langsmith-rules-engine:{context.delivery_id}/{run['id']}/{feedback.key}"))
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
        if failure.status != 409:  # 409: an earlier attempt arrived, and only its answer was lost
            raise
    return feedback_id


async def _enqueue(queue: str, params: Annotate.Params, context: ActionContext, run: Mapping[str, Any]) -> str:
    queue_id = await context.langsmith.queue_id(queue)
    if queue_id is None:
        raise Discard(f"there is no annotation queue {queue!r}: make it in LangSmith, then replay this delivery")
    try:
        await context.langsmith.add_to_queue(queue_id, run, extend_trace_retention=params.extend_trace_retention)
    except LangSmithFailure as failure:
        if failure.status == 404:
            context.langsmith.forget_queue(queue)
            raise Retry(f"LangSmith does not have the queue or the run (yet): {failure}") from failure
        if failure.status != 409:  # 409: the run is in the queue
            raise
    return queue_id
