"""The keys of a configuration file, level by level, and other words for them."""

from __future__ import annotations

import re
from typing import Final

#: Keys at the top level.
FILE_KEYS: Final = frozenset(
    {
        "secrets",
        "signing_secrets",
        "langsmith",
        "slack",
        "network",
        "defaults",
        "limits",
        "retention",
        "plugins",
        "vars",
        "rules",
        "routes",
    }
)
#: What people write for them.
FILE_WORDS: Final = {
    "secret": "secrets",
    "webhook_secret": "secrets",
    "signing_secret": "signing_secrets",
    "hmac_secret": "signing_secrets",
    "variables": "vars",
    "env": "vars",
    "plugin": "plugins",
    "default": "defaults",
    "settings": "defaults",
    "limit": "limits",
    "rate_limits": "limits",
    "destinations": "limits",
    "route": "routes",
    "rule": "rules",
    "automations": "rules",
    "retain": "retention",
    "keep": "retention",
    "prune": "retention",
    "egress": "network",
    "allow": "network",
    "allowed_hosts": "network",
}

#: Route keys that are words of the engine: every run, those that no route matched, and the kinds of events.
KEY_WORDS: Final = frozenset({"*", "unmatched", "alert", "prompt", "issue", "context_hub"})
#: A rule's id in LangSmith.
UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

#: Keys of a route.
ROUTE_KEYS: Final = frozenset(
    {"name", "filters", "actions", "for_each", "stop", "sample", "enabled", "active", "wait_for", "on_dead"}
)
#: What people write for them.
ROUTE_WORDS: Final = {
    "when": "filters",
    "if": "filters",
    "match": "filters",
    "matches": "filters",
    "conditions": "filters",
    "then": "actions",
    "do": "actions",
    "steps": "actions",
    "disabled": "enabled",
    "sampling_rate": "sample",
    "foreach": "for_each",
    "final": "stop",
    "last": "stop",
    "wait": "wait_for",
    "schedule": "active",
    "active_hours": "active",
    "on_error": "on_dead",
    "on_failure": "on_dead",
    "dead_letter": "on_dead",
}

_CONDITION: Final = "a condition is an item of 'filters', such as - {path: \"$.runs[*].status\", eq: error}"
_ACTION: Final = "it holds for one action: write it beside the action's block, in its item of 'actions'"
#: Keys of an action, and what is no key at all, that people look for on a route.
ROUTE_ELSEWHERE: Final = {
    **dict.fromkeys(("throttle", "digest"), _ACTION),
    **dict.fromkeys(("retry", "timeout"), f"{_ACTION}; for all actions, under 'defaults'"),
    "mute": "a route is muted from outside: engine mute ROUTE --for 2h; to switch it off write enabled: false",
    **dict.fromkeys(("path", "expr", "any", "all", "none", "not"), _CONDITION),
    **{key: f"it holds for the whole file: write {key} at the top level" for key in FILE_KEYS},
    "limits": "they hold for a destination, whichever route sends to it: write limits at the top level",
}
