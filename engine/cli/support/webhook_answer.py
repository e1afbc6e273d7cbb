"""What a webhook's receiver answered: an engine's answer in words, anybody's else as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from rich.text import Text

from engine.cli.support.langsmith_sender import SendAttempt
from engine.cli.support.output import short_event
from engine.core.event import Kind

#: How much of an answer that is not an engine's is shown.
_SHOWN = 300
#: What makes a rule's webhook a duplicate (``engine.core.event``), for those who changed something else in it.
_SAME_RULE = "same rule, time window and runs; changed contents make no new event"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's body: JSON where it is that, else text; None where there is none."""

    content: Any

    @classmethod
    def of(cls, attempt: SendAttempt) -> Answer:
        """The answer to one attempt."""
        try:
            return cls(orjson.loads(attempt.answer))
        except orjson.JSONDecodeError:
            return cls(attempt.answer or None)

    def _word(self, name: str) -> str:
        value = self.content.get(name) if isinstance(self.content, dict) else None
        return value if isinstance(value, str) else ""

    @property
    def event(self) -> str | None:
        """The id of the event that the webhook became, or already was."""
        return self._word("event") or None

    @property
    def duplicate(self) -> bool:
        """Whether it had come before."""
        return isinstance(self.content, dict) and self.content.get("duplicate") is True

    @property
    def error(self) -> str:
        """What was wrong, where an engine says so."""
        return self._word("error")

    def lines(self, *, failed: bool, kind: Kind = Kind.UNKNOWN) -> Iterator[Text]:
        """For people; ``kind`` is that of the webhook it answers."""
        if self.event and self.duplicate:
            because = f" ({_SAME_RULE})" if kind is Kind.RULE else ""
            words = f"duplicate of event {short_event(self.event)}: nothing fires{because}; --fresh makes it new"
            yield Text(f"{words}, engine replay {short_event(self.event)} fires that one again", style="yellow")
        elif self.event:
            yield Text.assemble(("event ", "dim"), short_event(self.event))
            yield Text(f"engine events {short_event(self.event)} shows what became of it", style="dim")
        elif self.error:
            yield Text(f"  {_printable(self.error)}", style="red" if failed else "")
            if hint := self._word("hint"):
                yield Text(f"  {_printable(hint)}", style="cyan")
        elif self.content is not None:
            yield Text(f"  {_short(self.content)}", style="dim")


def _short(content: Any) -> str:
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    words = _printable(" ".join(text.split()))
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)
