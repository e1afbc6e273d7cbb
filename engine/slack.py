"""What the engine knows about its Slack workspace."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Slack's Web API.
DEFAULT_ENDPOINT = "https://slack.com/api/"


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """The ``slack:`` block. ``token`` is a bot token (``xoxb-…``); ``endpoint`` the Web API's base."""

    token: str | None = field(default=None, repr=False)
    endpoint: str = DEFAULT_ENDPOINT
