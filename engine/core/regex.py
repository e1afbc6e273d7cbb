"""Regular expressions, always with RE2: linear time for every pattern and text."""

from __future__ import annotations

import re
from collections.abc import Callable

import re2

from engine.core.offload import check
from engine.core.variables import Filled

#: Features that RE2 does not have, by their syntax in RE2's error messages.
_ABSENT = {
    "(?=": "lookahead",
    "(?!": "negative lookahead",
    "(?<": "lookbehind",
    "(?>": "atomic groups",
    "*+": "possessive quantifiers",
    "++": "possessive quantifiers",
    "?+": "possessive quantifiers",
}

#: Hints by the kind of RE2's message.
_HINTS = {
    "invalid escape sequence": r"RE2 does not know this escape; the end of the text is \z, a literal backslash is \\",
    "invalid repetition size": "RE2 repeats at most 1000 times",
} | dict.fromkeys(("missing )", "unexpected )", "missing ]"), "to match the bracket itself put a backslash before it")

#: A pattern without operators, optionally anchored at the start or end.
_LITERAL = re.compile(r"(\^?)([A-Za-z0-9 _:;,@#%&=<>/!~-]+)(\$?)", re.ASCII)


#: Parts of a pattern where literal text is not possible: quoted parts, escapes, group heads and counts; and the start
#: and end of classes. ``{words}`` are the placeholders of variables.
_TOKENS = r"\\Q.*?(?:\\E|\Z)|\\(?:{words}|.)|\[:\^?\w*:\]|\[\^?\]?|\]|\(\?(?:P?<[^>]*|[\w-]*)|\{{[^}}]*|{words}"


class RegexError(ValueError):
    """A pattern is not valid RE2. ``hint`` says what to write instead, if known."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def compile_search(pattern: str) -> Callable[[str], bool]:
    """A function that returns whether the pattern matches anywhere in a text.

    Raises:
        RegexError: the pattern is not valid RE2.
    """
    search = _compile(pattern, never_capture=True).search
    if (plain := _LITERAL.fullmatch(pattern)) is not None:
        return _literal_search(plain[2], start=bool(plain[1]), end=bool(plain[3]))

    def found(text: str) -> bool:
        # Bytes, because re2 converts every span in a text to character positions, which are not needed here.
        return search(text.encode()) is not None

    return found


def literal_pattern(pattern: str) -> str:
    """A pattern with the values of variables inserted as literal text.

    Raises:
        RegexError: a variable is the whole pattern, or is used where literal text is not possible.
    """
    if not isinstance(pattern, Filled):
        return pattern
    words = "|".join(pattern.variables)
    made, end, within = [], 0, False
    for found in re.finditer(_TOKENS.format(words=words), pattern.source, re.DOTALL):
        made.append(pattern.source[end : found.start()])
        end = found.end()
        variable = pattern.variables.get(found[0])
        if variable is not None and found[0] != pattern.source and not (within and _in_range(pattern.source, found)):
            made.append(re2.escape(variable.value) if within else f"(?:{re2.escape(variable.value)})")
        elif pattern.holds(found[0]):
            word = next(word for word in pattern.variables if word in found[0])
            reference = pattern.variables[word].reference
            raise RegexError(
                f"{reference} would be a pattern or part of its syntax: a variable is a literal value",
                "write the pattern itself; to compare with a text use eq, contains, starts_with or ends_with",
            )
        else:
            opens, closes = found[0] in ("[", "[^", "[]", "[^]"), found[0] == "]"
            within = (within or opens) and not (within and closes)
            made.append(found[0])
    return "".join([*made, pattern.source[end:]])


def _in_range(source: str, found: re.Match[str]) -> bool:
    """Whether a match within a class is the end of a range, as in ``[a-z]``."""
    return "-" in (source[found.start() - 1 : found.start()], source[found.end() : found.end() + 1])


def _literal_search(text: str, *, start: bool, end: bool) -> Callable[[str], bool]:
    """The result of RE2 for a pattern without operators. Calling RE2 costs ten times as much."""
    if start and end:
        return lambda value: value == text
    if start:
        return lambda value: value.startswith(text)
    if end:
        return lambda value: value.endswith(text)
    return lambda value: text in value


def compile_sub(pattern: str, replacement: str) -> Callable[[str], str]:
    r"""A function that replaces every match; ``\1`` and ``\g<name>`` in the replacement are groups.

    Raises:
        RegexError: the pattern is not valid RE2.
    """
    sub = _compile(pattern, never_capture=False, text=True).sub

    def expand(match: re2._Match) -> str:
        check()  # re2 calls this for every match
        result: str = match.expand(replacement)
        return result

    def replaced(text: str) -> str:
        result: str = sub(expand, text)
        return result

    return replaced


def _compile(pattern: str, *, never_capture: bool, text: bool = False) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = never_capture
    try:
        return re2.compile(pattern if text else pattern.encode(), options)
    except UnicodeEncodeError:
        raise RegexError("the pattern contains a lone surrogate, which is not valid text") from None
    except re2.error as error:
        raw = error.args[0] if error.args else b""
        message = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        raise RegexError(f"not a valid RE2 pattern: {message}", _hint(message)) from None


def _hint(message: str) -> str:
    """A hint for RE2's message."""
    kind, _, part = message.partition(": ")
    if kind in ("invalid perl operator", "bad repetition operator", "invalid named capture group"):
        name = next((name for start, name in _ABSENT.items() if start in part), "")
        if name:
            return (
                f"RE2 has no {name}: it guarantees linear time; use a second operator or `not` instead "
                "(syntax: https://github.com/google/re2/wiki/Syntax)"
            )
    if kind == "invalid escape sequence" and part[1:].isdigit():
        return "RE2 has no backreferences: it guarantees linear time"
    return _HINTS.get(kind, "see https://github.com/google/re2/wiki/Syntax")
