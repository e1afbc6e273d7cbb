"""A plug-in that uses the whole API, for the type checker (tests/action/test_plugin_api.py)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

import engine
from engine.testing.attempts import attempt


class Typed(engine.Action):
    """Use everything."""

    class Params(engine.Params):
        """Its parameters."""

        url: Annotated[str, engine.LiteralHost()]
        text: Annotated[str, engine.EscapePayload()] = ""
        level: Literal["low", "high"] = "low"

    main = "url"
    needs = frozenset({"inputs", "feedback"})
    libraries = ("json",)
    keeps_progress = True

    def defaults(self, params: Mapping[str, Any], words: Collection[str]) -> Mapping[str, Any]:
        """Parameters that are not written."""
        return {} if "text" in params else {"text": ", ".join(words)}

    def requires(self, params: Mapping[str, Any]) -> frozenset[engine.Service]:
        """LangSmith."""
        return frozenset({"langsmith"})

    def lacks(self) -> str:
        """Nothing."""
        return ""

    def warnings(self, params: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
        """One."""
        yield "text", "it is short", "write more"

    def destination(self, params: Params) -> str:
        """One for each level."""
        return f"typed {params.level}"

    def scope(self, params: Params) -> engine.Scope:
        """The URL."""
        return engine.Scope(url=params.url, credential="token", service="typed")

    def outline(self, params: Params, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is sent."""
        return {**super().outline(params, payload), "runs": len(payload["runs"])}

    async def run(self, params: Params, context: engine.ActionContext) -> dict[str, object]:
        """All of it."""
        if context.replayed or context.run is None or context.attempt > 3:
            raise engine.Discard("no run")
        context.progress[context.fingerprint(params.url)] = context.delivery_id.upper()
        async with context.http.post(params.url, json=context.payload) as answer:
            engine.check_response(answer.status, answer.headers, await engine.read_text(answer, longest=10, patience=1))
        async with context.http.get(params.url) as answer:
            data = await engine.read_response(answer)
        try:
            row = await context.langsmith.read_feedback(str(data))
        except engine.LangSmithFailure as failure:
            if failure.status == 404:
                raise engine.Retry("not yet", after=1.5) from failure
            raise
        await context.log_line(logging.INFO, "done", {"key": row["key"]})
        context.logger.info("%s", context.received_at.isoformat(), extra={"token": bool(context.slack.token)})
        first = await context.threads.first("#c", "key")
        return {
            "first": first,
            "key": len(engine.webhook_key("whsec_MDEyMw==")),
            "many": [] if context.payloads is None else list(context.payloads),
            "names": f"{context.route}/{context.action} {context.event_kind} {context.event_id} {context.rule_id}",
            "seconds": context.timeout,
            "digest": context.digest,
            "exact": context.exact,
            "document": context.document["event"],
        }


async def tried(langsmith: engine.LangSmith) -> Mapping[str, Any] | None:
    """Once."""
    after: float | None = engine.Retry("x", after=1).after
    return await attempt(Typed(), {"url": "http://127.0.0.1:9"}, langsmith=langsmith.settings.endpoint, timeout=after)
