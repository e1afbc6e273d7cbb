"""Why no route matched where one is undecided: one line for the log."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.core.payload_schema import RUN_FIELDS
from engine.core.suggest import nearest
from engine.core.truth import Truth
from engine.rules.decision import Decision

#: The longest reason, in characters.
_LONGEST = 300
#: What is absent, where it is a field of the run: ``run.latncy``, ``$.runs[*].latncy``.
_RUN_FIELD = re.compile(r"(?:run|\$\.runs\[(?:\*|0)\])\.([A-Za-z_]{1,60})")
#: Fields that the engine adds to a run.
_OWN_FIELDS = ("url", "latency", "cost")


def why_undecided(decisions: Iterable[Decision]) -> str:
    """The reason of the first route that is undecided; empty where none is."""
    decision = next((one for one in decisions if one.truth is Truth.UNDECIDED), None)
    if decision is None:
        return ""
    field = _RUN_FIELD.fullmatch(decision.absent)
    near = nearest(field[1], (*RUN_FIELDS, *_OWN_FIELDS)) if field and field[1] not in RUN_FIELDS else ""
    reason = " ".join(f"{decision.route}: {decision.reason}".split())
    hint = f"; did you mean {near!r}?" if near else ""
    return (reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…") + hint
