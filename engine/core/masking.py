"""Replaces secret values in everything that is logged, shown or stored."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import re2

#: The replacement for a secret.
MASK = "***"
#: Shorter values are masked only if they are the whole text: inside other text they would match ordinary words.
SHORTEST_WITHIN_TEXT = 5
#: The end of a shortened text. Code that shortens a text before it is masked must use it: partial secrets are only
#: found before this character.
CUT = "…"
#: The maximum number of values kept over reloads. Past it the oldest are dropped: nothing uses them any more.
MOST_REMEMBERED = 500
#: The characters that URL libraries do not encode beyond letters, digits and ``_.-~``: none; in a path; in a query
#: (RFC 3986, 3.4).
_SAFE = ("", "/", "/:@!$'()*,;?")
_PERCENT = re.compile("%[0-9A-F]{2}")


def shortened(text: str, most: int) -> str:
    """A text cut to ``most`` characters. If it is cut it ends with ``CUT``, so that it can still be masked."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


class Masker:
    """Replaces every known secret value in text and in JSON-like trees, in all its encodings.

    Encodings: the value itself, percent-encoded (all variants of URL libraries), escaped for JSON, Python or HTML, with
    white space collapsed, and in base64 with anything before and after it, as in Basic authentication. Before ``CUT``
    the first 5 characters of a secret are enough. A value shorter than 5 characters is masked only if it is the whole
    text.
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
        secrets = []
        while found is not None:
            secrets.append((found.start(), found.end()))
            found = self._pattern.search(data, found.end())
        return _masked(data, secrets)

    def tree(self, value: Any) -> Any:
        """A copy of a JSON-like value, of any depth, with every secret in its texts and keys replaced."""
        holder = [value]
        pending: list[Any] = [holder]
        while pending:
            copy = pending.pop()
            for place, item in copy.items() if isinstance(copy, dict) else enumerate(copy):
                if isinstance(item, str):
                    copy[place] = self.text(item)
                elif isinstance(item, (dict, list, tuple, Mapping)):
                    copy[place] = self._shallow(item)
                    pending.append(copy[place])
        return holder[0]

    def _shallow(self, value: Any) -> Any:
        """A list or dict of the same items, the keys masked."""
        if not isinstance(value, Mapping):
            return list(value)
        return {self.text(key) if isinstance(key, str) else key: item for key, item in value.items()}

    def __or__(self, other: Masker) -> Masker:
        """A masker for the values of both. ``other`` has the newer values.

        Past ``MOST_REMEMBERED`` the oldest values are dropped, but none of ``other``.
        """
        if other._values.keys() <= self._values.keys() and len(self._values) <= MOST_REMEMBERED:
            return self
        merged = [*(value for value in self._values if value not in other._values), *other._values]
        return Masker(merged[-max(MOST_REMEMBERED, len(other._values)) :])


class _CutSecrets:
    """Finds secrets that were cut off, in one pass over the text."""

    def __init__(self, forms: Iterable[str]) -> None:
        self._by_head: dict[bytes, list[bytes]] = {}
        for form in forms:
            data = form.encode("utf-8", "surrogatepass")
            self._by_head.setdefault(data[:SHORTEST_WITHIN_TEXT], []).append(data)
        self._heads = _pattern(self._by_head) if self._by_head else None
        self._longest = max((len(form) for forms in self._by_head.values() for form in forms), default=0)

    def masked(self, text: str) -> str:
        """The text with every partial secret before a ``CUT`` replaced."""
        if self._heads is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return _masked(data, self._partial_secrets(data))

    def _partial_secrets(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of every partial secret."""
        sign, cut, start = CUT.encode(), -1, 0
        while self._heads is not None and (found := self._heads.search(data, start)) is not None:
            begin, start = found.start(), found.start() + 1  # they may overlap
            if cut < start and (cut := data.find(sign, start)) < 0:
                return
            if cut - begin > self._longest:
                start = cut - self._longest
            elif any(form.startswith(data[begin:cut]) for form in self._by_head[found[0]]):
                yield begin, cut


def _masked(data: bytes, secrets: Iterable[tuple[int, int]]) -> str:
    """The text with the pieces between start and end masked. Of overlapping pieces the first counts."""
    parts, masked_to = [], 0
    for start, end in secrets:
        if start >= masked_to:
            parts += [data[masked_to:start], MASK.encode()]
            masked_to = end
    return b"".join([*parts, data[masked_to:]]).decode("utf-8", "surrogatepass")


def _pattern(forms: Iterable[str | bytes]) -> Any:
    """A pattern for the longest of several texts, in UTF-8. RE2 finds hundreds in the time ``re`` needs for one.

    It uses Latin-1, so that it matches bytes: secrets from the environment may have any encoding.
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
    """The forms of a value in URLs, headers, JSON, HTML and tracebacks."""
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
    """The base64 characters that depend on the value alone, for each of its three alignments in groups of 3 bytes."""
    for offset in range(3):
        padded = bytes(offset) + raw
        first, last = -(-offset * 8 // 6), len(padded) * 8 // 6
        yield base64.b64encode(padded).decode()[first:last]
        yield base64.urlsafe_b64encode(padded).decode()[first:last]


def _raw(value: str) -> bytes:
    """The bytes of a value. For values from the environment the original bytes (PEP 383)."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
