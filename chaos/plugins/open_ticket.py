"""A team's own action. It blocks for a moment, as such code does, and its service takes a key once."""

import time

import engine


class OpenTicket(engine.Action):
    """Open a ticket for a run."""

    class Params(engine.Params):
        """Where, and what about."""

        url: str
        title: str

    async def run(self, params: Params, context: engine.ActionContext) -> None:
        """Block, then post."""
        time.sleep(0.02)
        ticket = {"key": params.title, "id": context.delivery_id}
        async with context.http.post(params.url, json=ticket) as answer:
            await engine.read_response(answer)
