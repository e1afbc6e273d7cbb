"""Keeps secret values out of everything that people or files get to see."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import re2

#: What stands where a secret stood.
MASK = "***"
#: Shorter values are masked only where they stand alone: inside other text they would hit innocent words.
SHORTEST_WITHIN_TEXT = 5
#: What stands where a text was cut. Whoever cuts a text before it is masked ends it so: the beginning of a secret
#: that was cut is found in front of it only.
CUT = "…"
#: The most values that are remembered over reloads. Past it those that were in use the longest time ago are forgotten:
#: whatever spoke of them has ended long since.
MOST_REMEMBERED = 500
#: What URL libraries leave as it is, beyond letters, digits and ``_.-~``: nothing; a path; a query (RFC 3986, 3.4).
_SAFE = ("", "/", "/:@!$'()*,;?")
_PERCENT = re.compile("%[0-9A-F]{2}")


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text, marked with ``CUT`` where some are left out, so that it can be masked."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


class Masker:
    """Replaces every known secret value in text and in JSON-like trees, however it was written down.

    Known are the value itself, percent-encoded (all ways that URL libraries have), escaped for
    JSON, Python or HTML, with its white space as single spaces, and in base64 with anything
    before and behind it, as in Basic authentication. In front of ``CUT`` the first 5 characters
    of one are enough. A value of fewer than 5 characters is masked only where it stands alone.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = dict.fromkeys(value for value in values if value)
        forms = {form for value in self._values for form in _forms(value)}
        within = {form for form in forms if len(form) >= SHORTEST_WITHIN_TEXT}
        self._least = min(map(len, within | self._values.keys()), default=0)
        self._pattern = _pattern(within) if within else None
        self._cut = _CutSecrets(within)

    def text(self, text: str) -> str:
        """The text with every secret in it replaced."""
        was_cut = CUT in text
        if not self._values or (len(text) < self._least and not was_cut):
            return text
        if text in self._values:
            return MASK
        masked = self._within(text)
        return self._cut.masked(masked) if was_cut else masked

    def _within(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        if self._pattern is None or (found := self._pattern.search(data)) is None:
            return text
        parts, end = [], 0
        while found is not None:
            parts += [data[end : found.start()], MASK.encode()]
            end = found.end()
            found = self._pattern.search(data, end)
        return b"".join([*parts, data[end:]]).decode("utf-8", "surrogatepass")

    def tree(self, value: Any) -> Any:
        """A copy of a JSON-like value, of any depth, with every secret in its texts and keys replaced."""
        holder = [value]
        open_: list[Any] = [holder]
        while open_:
            copy = open_.pop()
            for place, item in copy.items() if isinstance(copy, dict) else enumerate(copy):
                if isinstance(item, str):
                    copy[place] = self.text(item)
                elif isinstance(item, (dict, list, tuple, Mapping)):
                    copy[place] = self._shallow(item)
                    open_.append(copy[place])
        return holder[0]

    def _shallow(self, value: Any) -> Any:
        """A list or dict of the same items, the keys masked."""
        if not isinstance(value, Mapping):
            return list(value)
        return {self.text(key) if isinstance(key, str) else key: item for key, item in value.items()}

    def __or__(self, other: Masker) -> Masker:
        """One that masks what either masks, ``other``'s values being the newer ones.

        Past ``MOST_REMEMBERED`` the oldest are forgotten, never one of ``other``'s.
        """
        if other._values.keys() <= self._values.keys() and len(self._values) <= MOST_REMEMBERED:
            return self
        merged = [*(value for value in self._values if value not in other._values), *other._values]
        return Masker(merged[-max(MOST_REMEMBERED, len(other._values)) :])


class _CutSecrets:
    """Finds what a cut has left of secrets, in one pass however long the text is and however often it was cut."""

    def __init__(self, forms: Iterable[str]) -> None:
        self._by_head: dict[bytes, list[bytes]] = {}
        for form in forms:
            data = form.encode("utf-8", "surrogatepass")
            self._by_head.setdefault(data[:SHORTEST_WITHIN_TEXT], []).append(data)
        self._heads = _pattern(self._by_head) if self._by_head else None
        self._longest = max((len(form) for forms in self._by_head.values() for form in forms), default=0)

    def masked(self, text: str) -> str:
        """The text with every beginning of a secret in front of a ``CUT`` replaced."""
        if self._heads is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        parts, end = [], 0
        for start, cut in self._left_of(data):
            if start >= end:
                parts += [data[end:start], MASK.encode()]
                end = cut
        return b"".join([*parts, data[end:]]).decode("utf-8", "surrogatepass")

    def _left_of(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets begin that a cut ends, and where that is."""
        sign, cut, start = CUT.encode(), -1, 0
        while self._heads is not None and (found := self._heads.search(data, start)) is not None:
            begin, start = found.start(), found.start() + 1  # they may overlap
            if cut < start and (cut := data.find(sign, start)) < 0:
                return
            if cut - begin > self._longest:
                start = cut - self._longest
            elif any(form.startswith(data[begin:cut]) for form in self._by_head[found[0]]):
                yield begin, cut


def _pattern(forms: Iterable[str | bytes]) -> Any:
    """Finds the longest of some texts, in UTF-8. RE2 looks for hundreds in the time that Python's ``re`` takes for one.

    It works on Latin-1, which is to say on bytes, because secrets out of the environment may be any.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.longest_match = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = 64 << 20
    raw = (form if isinstance(form, bytes) else form.encode("utf-8", "surrogatepass") for form in forms)
    return re2.compile(b"|".join(map(re2.escape, raw)), options)


def _forms(value: str) -> Iterator[str]:
    """How a value may look once it went through a URL, a header, a JSON text, a page or a traceback."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield html.escape(value)
    yield " ".join(value.split())
    raw = _raw(value)
    for safe in _SAFE:
        for quoted in (quote(raw, safe=safe), quote_plus(raw, safe=safe)):
            yield quoted
            yield _PERCENT.sub(lambda match: match[0].lower(), quoted)
    if len(value) >= SHORTEST_WITHIN_TEXT:
        yield from _in_base64(raw)


def _in_base64(raw: bytes) -> Iterator[str]:
    """The characters that the value alone determines, for each of the three ways it may lie in groups of 3 bytes."""
    for offset in range(3):
        padded = bytes(offset) + raw
        first, last = -(-offset * 8 // 6), len(padded) * 8 // 6
        yield base64.b64encode(padded).decode()[first:last]
        yield base64.urlsafe_b64encode(padded).decode()[first:last]


def _raw(value: str) -> bytes:
    """The bytes of a value; of one from the environment those that stood there (PEP 383)."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
