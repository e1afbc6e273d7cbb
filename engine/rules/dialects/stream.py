"""A stream of tokens."""

from __future__ import annotations

from engine.rules.dialects.meaning import Unclear
from engine.rules.dialects.tokens import Token, tokenize


class Stream:
    """The tokens of a text with a current position."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._place = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._place]

    def _at(self, ahead: int) -> Token:
        return self._tokens[min(self._place + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._now
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _is(self, *texts: str, ahead: int = 0) -> bool:
        token = self._at(ahead)
        return token.kind in ("sign", "name") and token.text.lower() in texts

    def _take(self, *texts: str) -> bool:
        if self._is(*texts):
            self._next()
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise Unclear(f"expected {text!r}, found {self._now.text!r}")
