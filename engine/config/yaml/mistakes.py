"""The YAML mistakes people really make, and the line as it should read.

A fixed line is never guessed: it is put into the file, and offered only if the file can then be read past that line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from yaml.error import MarkedYAMLError

from engine.config.indentation import indent_of, indented, likely_indents, nearest_indents
from engine.core.positions import Source, Where

_SHOULD_READ: Final = "the line should read:"

#: Reading a file again costs time; beyond this many characters no fix is looked for.
_MAX_TRIED_TEXT: Final = 200_000
_PATIENCE_SECONDS: Final = 3.0
_MAX_LINE: Final = 2000

_QUOTES: Final = ('"', "'")
#: Where a value begins: behind a list item's dash, behind a key's colon, or in braces. What opens a collection is not
#: a value, and neither is a key behind a dash.
_VALUE_START: Final = re.compile(
    r"(?:^\s*+(?:-\s++)++(?=\S)(?![\w.\-]+:(?:\s|$))|:\s++(?=\S)|(?<=[\[,{])\s*+(?=\$|\*|\{\{))"
    r"(?!\{(?!\{)|\[(?!.*\]\())"
)
_BRACKETS: Final = r"\{\{.*?\}\}|\[(?:\[[^\]]*\]|[^\[\]])*+\]|\((?:\([^)]*\)|[^()])*+\)|\{(?:\{[^}]*\}|[^{}])*+\}"
#: Where it ends: in quotes at the first that a comma, a brace or the end follows; in braces at the comma or brace of
#: the collection around it; else before a comment, or with the line.
_QUOTED_VALUE: Final = re.compile(r"""(["'])(?:(?>\\.|''|\{\{.*?\}\}|.))*?\1(?=\s*(?:[,}\]]|\s#|$))""")
_VALUE_IN_BRACES: Final = re.compile(rf"(?:{_BRACKETS}|[^,}}\]])*+")
_VALUE: Final = re.compile(r".+?(?=\s+# |\s*$)")

_MUST: Final = "text that begins with {} must be quoted: to YAML, {}"
_ENDS: Final = "the text ends at the second {0} already: inside {0} stand quotes of the other kind"
_TEMPLATE: Final = (r".*\{\{", "text with a template must be quoted: to YAML, braces are a mapping")
#: Why a value in quotes needs other ones.
_FAULTS_IN_QUOTES: Final = (
    (
        r"""(?=")(?:\\[0abt\tnvfre "/\\N_LPxuU\n]|[^\\])*+(\\.)(?=.)""",
        " is no escape that double quotes know; single quotes leave backslashes as they are",
    ),
    (r'"(?:\\.|[^"\\])*+".', _ENDS.format('"')),
    (r"'(?:''|[^'])*+'.", _ENDS.format("'")),
)
#: Why another value needs quotes. Empty: what PyYAML says fits.
_FAULTS: Final = (
    _TEMPLATE,
    ("#", _MUST.format("#", "it is a comment")),
    (r"\*", _MUST.format("*", "it refers to an anchor")),
    (r"\[", _MUST.format("[", "it is a list")),
    ("!", _MUST.format("!", "it is a tag")),
    (">", _MUST.format(">", "a block of text begins")),
    (r"\|", _MUST.format("|", "a block of text begins")),
    ("&", _MUST.format("&", "it is an anchor")),
    (r"[$@%`?]|.*\$\{|.*:(?:\s|$)", ""),
)
_FAULTS_IN_BRACES: Final = (
    _TEMPLATE,
    (r"\$\{", "a variable in braces must be quoted: to YAML, its own braces are a mapping"),
    (r"\$", "a path in braces must be quoted: to YAML, its brackets are a list"),
    *_FAULTS,
    (r".*\?", ""),
)
_STAR: Final = re.compile(r"^(\s*(?:-\s+)?)\*(\s*:)")
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
        mark = error.context_mark  # never closed: it fails at the end of the file, and is wrong where it begins
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    trial = _Trial(text.splitlines(), line, failing_line, time.monotonic() + _PATIENCE_SECONDS)
    suspects = _suspects(error, line, len(trial.lines)) if len(text) <= _MAX_TRIED_TEXT else []
    for number in suspects:
        if fixed := trial.first(number, _candidates(trial.lines, number)):
            return _rewritten(trial.lines[number - 1], number, fixed, message)
    if any(part in (error.problem or "") for part in _MISPLACED):
        # lines with an odd number of spaces first
        for number in sorted(suspects, key=lambda each: indent_of(trial.lines[each - 1]) % 2 == 0):
            places = nearest_indents(trial.lines, number)
            if fixed := trial.first(number, (indented(trial.lines[number - 1], each) for each in places)):
                return _reindented(trial.lines[number - 1], number, fixed)
    return Mistake(line, column, message, _with_beginning(advice, error, line))


def _suspects(error: MarkedYAMLError, line: int, count: int) -> list[int]:
    """The lines to try: where it failed, where the thing that failed began, and the one before."""
    context = error.context_mark.line + 1 if error.context_mark else line
    return [number for number in dict.fromkeys((line, context, line - 1)) if 1 <= number <= count]


@dataclass(frozen=True, slots=True)
class _Trial:
    """Puts other lines into a text that fails at ``line``, until a moment of the monotonic clock."""

    lines: list[str]
    line: int
    failing_line: Callable[[str], int | None]
    until: float

    def first(self, number: int, candidates: Iterable[str]) -> str:
        """The first candidate for a line with which the whole text can be read, or else more of it; else empty."""
        better = ""
        for candidate in dict.fromkeys(candidates):
            if candidate == self.lines[number - 1] or time.monotonic() > self.until:
                continue
            text = "\n".join([*self.lines[: number - 1], candidate, *self.lines[number:]]) + "\n"
            failed = self.failing_line(text)
            if failed is None:
                return candidate
            if not better and max(number, self.line) < failed <= len(self.lines):
                better = candidate
        return better


def _candidates(lines: list[str], number: int) -> Iterator[str]:
    """A line as it may have been meant: each known mistake fixed."""
    line = lines[number - 1]
    if len(line) > _MAX_LINE:
        return
    if "\t" in line[: indent_of(line)]:
        yield from (indented(line, each) for each in likely_indents(lines, number))
    elif "\t" in line:
        yield indented(line, indent_of(line))
    yield _STAR.sub(r'\1"*"\2', line)
    yield requote(line)
    yield re.sub(r"^(\s*(?:-\s+)?\w+):(?=[^\s:/])", r"\1: ", line)


def _rewritten(written: str, number: int, fixed: str, message: str) -> Mistake:
    is_indent = "\t" in written[: indent_of(written)]
    same = next((index for index, (a, b) in enumerate(zip(written, fixed, strict=False)) if a != b), len(fixed))
    return Mistake(number, same + 1, _cause(written) or message, should_read(fixed, aligned=is_indent))


def _reindented(written: str, number: int, fixed: str) -> Mistake:
    has, expected = indent_of(written), indent_of(fixed)
    spaces = f"{has} space{'s' * (has != 1)}"
    message = f"the indentation does not fit in with the lines around it: {spaces}, {expected} expected"
    return Mistake(number, has + 1, message, should_read(fixed, aligned=True))


def _cause(line: str) -> str:
    """What is wrong with a line whose fix is known, for its writer; empty if PyYAML's message fits."""
    if "\t" in line[: indent_of(line)]:
        return "a tab is used for indentation; YAML takes spaces only"
    if _STAR.match(line):
        return "the key * must be quoted: to YAML, an unquoted * refers to an anchor"
    return next((fault for _, _, fault in _faults(line) if fault), "")


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


def requote(line: str) -> str:
    """The line with what needs quotes quoted."""
    for start, end, _ in reversed(list(_faults(line[:_MAX_LINE]))):
        line = line[:start] + _quote(line[start:end]) + line[end:]
    return line


def _faults(line: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and fault of each value on a line that needs quotes, or others, as a person would cut them."""
    end = 0
    for match in _VALUE_START.finditer(line):
        start = match.end()
        if start < end:
            continue
        in_quotes, in_braces = line.startswith(_QUOTES, start), _in_braces(line, start)
        pattern = _QUOTED_VALUE if in_quotes else _VALUE_IN_BRACES if in_braces else _VALUE
        found = pattern.match(line, start) or _VALUE.match(line, start)
        value = found[0].rstrip() if found else ""
        end = start + len(value)
        rules = _FAULTS_IN_QUOTES if in_quotes else _FAULTS_IN_BRACES if in_braces else _FAULTS
        for rule, message in rules:
            if fault := re.match(rule, value):
                yield start, end, "".join(fault.groups()) + message
                break


def _in_braces(line: str, position: int) -> bool:
    before = re.sub(r"\"[^\"]*\"|'[^']*'|\{\{.*?\}\}", "", line[:position])
    return before.count("{") + before.count("[") > before.count("}") + before.count("]")


def _quote(value: str) -> str:
    """A value in quotes, or in other ones, that leave it as it is."""
    if not value.startswith(_QUOTES) or len(value) < 2:
        return quoted(value)
    inner = value[1:-1]
    if value[0] == "'" and "\\" not in inner and '"' not in inner:
        return f'"{inner}"'
    return "'" + inner.replace("''", "'").replace("'", "''") + "'"


# --- messages --------------------------------------------------------------------------------------------------------


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
