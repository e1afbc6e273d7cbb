"""The YAML mistakes people really make, and the line as it should read.

A fixed line is never guessed: each candidate is put into the file, and offered only if
the file can then be read past that line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from yaml.error import MarkedYAMLError

from engine.config.indentation import indent_of, indented, likely_indents, nearest_indents
from engine.core.positions import Source, Where

_SHOULD_READ: Final = "the line should read:"

#: Reading a file again costs time; beyond this many characters no fix is looked for.
_MAX_TRIED_TEXT: Final = 200_000
_MAX_CANDIDATES: Final = 12
_PATIENCE_SECONDS: Final = 3.0

_VALUE_START: Final = re.compile(r"^\s*(?:-\s+)+(?=\S)|:\s+(?=\S)|(?<=[\[,{])\s*(?=\$|\*|\{\{)")
_SUSPICIOUS_START: Final = (*"$*&@%!|>#`[?", "{{")
_KEY: Final = re.compile(r"[\w.\-]+:(?:\s|$)")
_QUOTES: Final = ('"', "'")
_PAIRS: Final = {"[": "]", "(": ")", "{": "}"}
_ESCAPE: Final = re.compile(r"""\\[^0abt\tnvfre "/\\N_LPxuU\n]""")
_MAX_LINE: Final = 2000
#: What PyYAML says of a line that is not indented as the lines around it.
_MISPLACED: Final = ("mapping values are not allowed", "<block end>", "expected '<document start>'", "could not find")


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a text is not YAML, in words, where (from 1), and how to go on."""

    line: int
    column: int
    message: str
    hint: str = ""


def diagnose(text: str, error: MarkedYAMLError, failing_line: Callable[[str], int | None]) -> Mistake:
    """Explain a syntax error. ``failing_line`` tells at which line (from 1) a text fails, None if it does not."""
    message, advice = _in_words(error)
    mark = error.problem_mark or error.context_mark
    if "quoted scalar" in (error.context or "") and "unexpected" in (error.problem or ""):
        mark = (
            error.context_mark
        )  # a text that is never closed fails at the end of the file, and is wrong where it begins
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    trial = _Trial(text.splitlines(), line, failing_line, time.monotonic() + _PATIENCE_SECONDS)
    suspects = _suspects(error, line, len(trial.lines))
    for number in suspects:
        if (fixed := trial.first(number, _candidates(trial.lines, number))) is not None:
            return _rewritten(trial.lines[number - 1], number, fixed, message)
    if any(part in (error.problem or "") for part in _MISPLACED):
        for number in _oddest_first(trial.lines, suspects):
            places = nearest_indents(trial.lines, number)
            if (fixed := trial.first(number, (indented(trial.lines[number - 1], each) for each in places))) is not None:
                return _reindented(trial.lines[number - 1], number, fixed)
    return Mistake(line, column, message, _with_beginning(advice, error, line))


def _rewritten(written: str, number: int, fixed: str, message: str) -> Mistake:
    is_indent = "\t" in written[: indent_of(written)]
    hint = should_read(fixed, aligned=is_indent)
    return Mistake(number, _difference(written, fixed), _cause(written) or message, hint)


def _reindented(written: str, number: int, fixed: str) -> Mistake:
    has, expected = indent_of(written), indent_of(fixed)
    spaces = f"{has} space{'s' * (has != 1)}"
    message = f"the indentation does not fit in with the lines around it: {spaces}, {expected} expected"
    return Mistake(number, has + 1, message, should_read(fixed, aligned=True))


def should_read(line: str, *, aligned: bool = False) -> str:
    """A hint that shows a corrected line; ``aligned`` right below the wrong one, where its indentation is the point."""
    return f"{_SHOULD_READ}\n    {line.rstrip()}" if aligned else f"{_SHOULD_READ} {line.strip()}"


def quoted(text: str) -> str:
    """A text in the quotes that leave it as it is."""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def comment_hint(source: Source, where: Where) -> str:
    """What to write where a value was meant that begins with #, as a channel's name does; empty where none was."""
    mark, lines = source.marks.get(where), source.lines
    if mark is None or not 0 < mark.key_line <= len(lines):
        return ""
    line = lines[mark.key_line - 1]
    before, hash_sign, comment = line[mark.key_column - 1 :].partition(" #")
    if not (hash_sign and before.rstrip().endswith(":") and comment[:1].strip()):
        return ""
    fixed = f"{line[: mark.key_column - 1]}{before.rstrip()} {quoted('#' + comment.rstrip())}"
    return f"# begins a comment; {should_read(fixed)}"


def requote(line: str) -> Iterator[str]:
    """Candidates for a line with what needs quotes quoted, the likeliest first."""
    if len(line) > _MAX_LINE:
        return
    spans = [span for span in _spans(line) if _suspicious(line, *span)]
    yield _quote_all(line, spans)
    for start, _ in spans:
        for end in _ends(line, start):
            yield line[:start] + _quote_span(line[start:end]) + line[end:]


# --- finding the fix -------------------------------------------------------------------------------------------------


def _suspects(error: MarkedYAMLError, line: int, count: int) -> list[int]:
    """The lines to try: where it failed, where the thing that failed began, and the one before."""
    context = error.context_mark.line + 1 if error.context_mark else line
    return [number for number in dict.fromkeys((line, context, line - 1)) if 1 <= number <= count]


def _oddest_first(lines: Sequence[str], suspects: Sequence[int]) -> list[int]:
    """The lines with an odd number of spaces before those with an even one."""
    return sorted(suspects, key=lambda number: indent_of(lines[number - 1]) % 2 == 0)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Puts other lines into a text that fails at ``line``, until a moment of the monotonic clock."""

    lines: list[str]
    line: int
    failing_line: Callable[[str], int | None]
    until: float

    def first(self, number: int, candidates: Iterable[str]) -> str | None:
        """The first candidate for a line with which the whole text can be read, or else more of it than now."""
        if sum(map(len, self.lines)) > _MAX_TRIED_TEXT:
            return None
        better = None
        for tried, candidate in enumerate(dict.fromkeys(candidates)):
            if tried == _MAX_CANDIDATES or time.monotonic() > self.until:
                break
            if candidate == self.lines[number - 1]:
                continue
            failed = self._failed(number, candidate)
            if failed is None:
                return candidate
            if better is None and max(number, self.line) < failed <= len(self.lines):
                better = candidate
        return better

    def _failed(self, number: int, candidate: str) -> int | None:
        return self.failing_line("\n".join([*self.lines[: number - 1], candidate, *self.lines[number:]]) + "\n")


def _candidates(lines: Sequence[str], number: int) -> Iterator[str]:
    line = lines[number - 1]
    if len(line) > _MAX_LINE:
        return
    if "\t" in line[: indent_of(line)]:
        yield from (indented(line, each) for each in likely_indents(lines, number))
    elif "\t" in line:
        yield indented(line, indent_of(line))
    yield re.sub(r"^(\s*(?:-\s+)?)(\*)(\s*:)", r'\1"\2"\3', line)
    yield from requote(line)
    yield re.sub(r"^(\s*(?:-\s+)?\w+):(?=[^\s:/])", r"\1: ", line)


def _difference(line: str, fixed: str) -> int:
    """The column, from 1, at which two lines begin to differ."""
    same = next((index for index, (a, b) in enumerate(zip(line, fixed, strict=False)) if a != b), len(fixed))
    return same + 1


def _spans(line: str) -> list[tuple[int, int]]:
    """Start and end of each value on a line, as a person reading it would cut them."""
    spans: list[tuple[int, int]] = []
    for match in _VALUE_START.finditer(line):
        start = match.end()
        if (spans and start < spans[-1][1]) or _opens_collection(line, start):
            continue
        if match[0].strip().endswith("-") and _KEY.match(line, start):
            continue  # a dash before a key: the value is behind the key
        spans.append((start, _value_end(line, start, flow=_in_braces(line, start))))
    return spans


def _opens_collection(line: str, start: int) -> bool:
    """A brace or bracket that is meant as one: its values are looked at one by one."""
    if line.startswith("{{", start):
        return False
    return line[start] == "{" or (line[start] == "[" and "](" not in line[start:])


def _in_braces(line: str, position: int) -> bool:
    before = re.sub(r"\"[^\"]*\"|'[^']*'|\{\{.*?\}\}", "", line[:position])
    return before.count("{") + before.count("[") > before.count("}") + before.count("]")


def _value_end(line: str, start: int, *, flow: bool) -> int:
    """Where a value ends: at a comma or brace of the mapping around it, else before a comment, else with the line."""
    if line[start] in _QUOTES:
        return _quoted_end(line, start)
    if not flow:
        comment = re.search(r"\s+# ", line[start + 1 :])
        return start + 1 + comment.start() if comment else len(line.rstrip())
    stack: list[str] = []
    for index in range(start, len(line)):
        character = line[index]
        if not stack and character in ",}]":
            return len(line[:index].rstrip())
        if character in _PAIRS:
            stack.append(_PAIRS[character])
        elif stack and character == stack[-1]:
            stack.pop()
    return len(line.rstrip())


def _quoted_end(line: str, start: int) -> int:
    """The end of a quoted value as meant: its last quote that a comma, brace or the end follows."""
    quote = re.escape(line[start])
    if match := re.match(rf"{quote}(?:\\.|[^\\{quote}])*{quote}(?=\s*(?:[,}}\]]|\s#|$))", line[start:]):
        return start + match.end()
    ends = _closing_quotes(line, start)
    balanced = (end for end in ends if line.count("{{", start, end) == line.count("}}", start, end))
    return next(balanced, ends[-1] if ends else len(line.rstrip()))


def _closing_quotes(line: str, start: int) -> list[int]:
    """Where a text quoted from ``start`` on may end: after each such quote that a comma, brace or the end follows."""
    quote = re.escape(line[start])
    found = re.finditer(rf"{quote}(?=\s*(?:[,}}\]]|$))", line)
    return [match.end() for match in found if match.start() > start]


def _ends(line: str, start: int) -> Iterator[int]:
    """Other ways to cut a value than the likeliest."""
    if line[start] in _QUOTES:
        yield from _closing_quotes(line, start)
        return
    for flow in (True, False):
        yield _value_end(line, start, flow=flow)
    yield len(line.rstrip())


def _suspicious(line: str, start: int, end: int) -> bool:
    value = line[start:end]
    if value.startswith(_QUOTES):
        return _badly_quoted(value)
    return value.startswith(_SUSPICIOUS_START) or "{{" in value or "${" in value or bool(re.search(r":(\s|$)", value))


def _badly_quoted(value: str) -> bool:
    inner = value[1:-1]
    if value[0] == "'":
        return "'" in inner.replace("''", "")
    return bool(_ESCAPE.search(inner)) or '"' in re.sub(r"\\.", "", inner)


def _quote_all(line: str, spans: list[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        line = line[:start] + _quote_span(line[start:end]) + line[end:]
    return line


def _quote_span(value: str) -> str:
    quote = value[:1]
    if quote not in _QUOTES or len(value) < 2:
        return quoted(value)
    inner = value[1:-1]
    if quote == "'" and "\\" not in inner and '"' not in inner:
        return f'"{inner}"'
    return "'" + inner.replace("''", "'").replace("'", "''") + "'"


# --- words -----------------------------------------------------------------------------------------------------------


def _cause(line: str) -> str:
    """What was wrong with a line whose fix is known, in the words of its writer."""
    if "\t" in line[: indent_of(line)]:
        return "a tab is used for indentation; YAML takes spaces only"
    if re.match(r"\s*(?:-\s+)?\*\s*:", line):
        return "the key * must be quoted: to YAML, an unquoted * refers to an anchor"
    spans = ((start, end) for start, end in _spans(line) if _suspicious(line, start, end))
    causes = (_cause_of_value(line[start:end], in_braces=_in_braces(line, start)) for start, end in spans)
    return next(filter(None, causes), "")


def _cause_of_value(value: str, *, in_braces: bool) -> str:
    if value.startswith(_QUOTES):
        if value[0] == '"' and (match := _ESCAPE.search(value)):
            return f"{match[0]} is no escape that double quotes know; single quotes leave backslashes as they are"
        return f"the text ends at the second {value[0]} already: inside {value[0]} stand quotes of the other kind"
    if "{{" in value:
        return "text with a template must be quoted: to YAML, braces are a mapping"
    if value.startswith("${") and in_braces:
        return "a variable in braces must be quoted: to YAML, its own braces are a mapping"
    if value.startswith("$") and in_braces:
        return "a path in braces must be quoted: to YAML, its brackets are a list"
    meaning = {"#": "it is a comment", "*": "it refers to an anchor", "[": "it is a list", "!": "it is a tag"}
    meaning |= {">": "a block of text begins", "|": "a block of text begins", "&": "it is an anchor"}
    if value[0] in meaning:
        return f"text that begins with {value[0]} must be quoted: to YAML, {meaning[value[0]]}"
    return ""


_WORDS: Final = (
    ("found character '\\t'", "a tab stands where only spaces may", "replace it with spaces"),
    ("that cannot start any token", "text cannot begin with this character", "put the whole text in quotes"),
    ("unknown escape character", "double quotes do not know this escape", "use single quotes, or double the backslash"),
    (
        "mapping values are not allowed here",
        "a ':' stands where no key can",
        "text with a colon in it needs quotes; nested keys need lines of their own",
    ),
    (
        "expected <block end>",
        "this does not fit in with the lines above it",
        "check the indentation, and the quotes of what stands before it",
    ),
    ("could not find expected ':'", "a line without its 'key: '", "a colon and a space must follow every key"),
    ("found undefined alias", "* refers to an anchor that is defined nowhere", "text that begins with * needs quotes"),
    ("found duplicate anchor", "an anchor of this name is defined above", "give each anchor (&name) its own name"),
    ("unexpected end of stream", "this quoted text is never closed", "look for the quote that is missing"),
    ("unexpected document separator", "this quoted text is never closed", "look for the quote that is missing"),
    ("expected ',' or '}'", "the braces { } are not written right", "look for a missing comma, quote or }"),
    ("expected ',' or ']'", "the brackets [ ] are not written right", "look for a missing comma, quote or ]"),
    (
        "expected a single document",
        "a second document begins here",
        "one file is one configuration: remove the --- line",
    ),
    (
        "sequence entries are not allowed",
        "a '-' stands where no list can begin",
        "begin a list on a line of its own; a text that is a lone - needs quotes",
    ),
    ("mapping keys are not allowed", "a '?' stands where no key can begin", "text that begins with ? needs quotes"),
    ("hexadecimal numbers", "an escape in double quotes is not finished", "use single quotes, or double the backslash"),
    ("ing a tag", "to YAML, ! begins a tag", "text that begins with ! needs quotes"),
    ("scanning a directive", "to YAML, % at the beginning of a line is a directive", "indent it, or put it in quotes"),
    (
        "expected '<document start>'",
        "what stands here is outside of every block",
        "check the indentation and the braces",
    ),
    ("expected the node content", "a value is missing here", "write it, or quote what stands here"),
    ("while scanning an a", "a name must follow * or &", "text that begins with * or & needs quotes"),
    (
        "expected chomping or indentation",
        "nothing may follow | or > on its line",
        "text that begins with these needs quotes",
    ),
    (
        "expected a comment or a line break",
        "nothing may follow | or > on its line",
        "text that begins with these needs quotes",
    ),
)


def _in_words(error: MarkedYAMLError) -> tuple[str, str]:
    problem = f"{error.context or ''} {error.problem or ''}"
    words = next(((message, hint) for part, message, hint in _WORDS if part in problem), None)
    if words is None:
        return f"this is not valid YAML: {', '.join(filter(None, (error.context, error.problem)))}", ""
    return words


def _with_beginning(advice: str, error: MarkedYAMLError, line: int) -> str:
    """The advice, and where the block began in which something is wrong."""
    began = error.context_mark.line + 1 if error.context_mark else line
    return f"{advice} (the block began on line {began})" if advice and began > 1 and began != line else advice
