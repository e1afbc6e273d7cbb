"""Common mistakes in paths, each with the corrected path."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from engine.core.errors import PathError
from engine.core.payload_schema import TEXT_FIELDS, kind_at
from engine.core.variables import Filled
from engine.core.vocabulary import Vocabulary
from engine.rules.dialects import in_yaml, scalar, translate_path
from engine.rules.jsonpath.code_generator import Step
from engine.rules.jsonpath.filter_tests import OPERATORS, filter_tests
from engine.rules.jsonpath.path import Path, Paths, compile_path
from engine.rules.jsonpath.variables import with_values, with_words
from engine.rules.jsonpath.write import quoted, write_steps

_LENGTH_CALL = re.compile(r"\.(length|size|count|len)\(\)")
_COMPARISON = re.compile(r"^(\$.*?)\s*(==|!=|<=|>=|=~|<|>|=)\s*(.+)$", re.DOTALL)
_MATCH = re.compile(r"=~\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|/((?:[^/\\]|\\.)*)/([a-z]*))", re.DOTALL)
_FROM_THE_END = re.compile(r"\[\(@\.length\s*-\s*(\d+)\)\]")
#: Text after a dot outside brackets, and the names that need no quotes there.
_DOTTED = re.compile(r"(\.\.?)([^.\[\]()'\"`*|&?,]+)")
_SHORTHAND = re.compile(r"[A-Za-z_\u0080-\U0010ffff][\w-]*")
#: Quoted text and filters of a path, and what follows a dot in other notations.
_HIDDEN: Final = re.compile(r"""\[\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]|`[^`]*`|\[\?.*?\)\]""", re.DOTALL)
_DOTTED_INDEX: Final = re.compile(r"\.(\d+|#)(?=[.\[]|$)")
_EMPTY_BRACKETS: Final = re.compile(r"\[\]")
_LONE_BACKSLASH = re.compile(r"(?<!\\)(?:\\\\)*\\[\w.^$|()\[\]{}*+?]")

_SIZES = ("length", "size", "count", "len")


def compile_checked(text: str, vocabulary: Vocabulary | None = None, paths: Paths | None = None) -> Path:
    """Compile a path of a configuration, and check it for known mistakes and unknown fields.

    Raises:
        PathError: it cannot be compiled, or is certainly a mistake; the hint has the corrected path.
    """
    if isinstance(text, Filled):
        return _compile_filled(text, vocabulary, paths)
    if (before := _before_parsing(text)) is not None:
        raise before
    _check_notation(text)
    try:
        path = paths.compile(text) if paths is not None else compile_path(text)
    except PathError as error:
        raise _after_failing(text, error) from None
    return _checked(path, text, vocabulary)


def _checked(path: Path, text: str, vocabulary: Vocabulary | None) -> Path:
    """A compiled path, checked against the known schema of documents."""
    for steps in [path.steps] if path.steps is not None else _tested(text):
        try:
            _check_arrays(steps)
            _check_texts(steps)
            _check_words(steps, vocabulary or Vocabulary())
        except PathError as error:
            raise error if path.steps is not None else _in_filter(error, text) from None
    return path


def _compile_filled(text: Filled, vocabulary: Vocabulary | None, paths: Paths | None) -> Path:
    """A path with variables. Messages show the path as written, without the values."""
    try:
        compile_checked(with_words(text), None, paths)
    except PathError as error:
        raise PathError(
            text.with_references(str(error)), column=error.column, hint=text.with_references(error.hint)
        ) from None
    values = with_values(text)
    path = _checked(paths.compile(values) if paths is not None else compile_path(values), values, vocabulary)
    return replace(path, written=text.written)


def _tested(text: str) -> list[tuple[Step, ...]]:
    """The tests in a path's filters; none if they are nested too deeply."""
    try:
        return [each.steps for each in filter_tests(text)]
    except RecursionError:
        return []


def _in_filter(error: PathError, text: str) -> PathError:
    """A mistake in a filter: the column of a path from the root does not apply there."""
    return PathError(str(error), column=text.find("[?") + 1 or 1, hint=error.hint)


def as_condition(text: str) -> dict[str, Any] | None:
    """The condition for a comparison written as a path; None if it is not one."""
    if not (comparison := _COMPARISON.match(text)) or not _compiles(comparison[1].strip()):
        return None
    value = comparison[3].strip()
    quoted_text = len(value) > 1 and value[0] == value[-1] and value[0] in "'\"/"
    return {"path": comparison[1].strip(), OPERATORS[comparison[2]]: value[1:-1] if quoted_text else scalar(value)}


def _check_notation(text: str) -> None:
    """Refuse a path that is not JSONPath, even if it would parse as something else.

    Raises:
        PathError: with the corrected path.
    """
    bare = text.strip()
    if bare and not bare.lstrip(" (").startswith("$"):
        path = translate_path(bare) or _with_root(bare)
        hint = f"write {path}" if _compiles(path) else ""
        raise PathError("a path starts at the document, with $", hint=hint)
    if (found := _DOTTED_INDEX.search(_without_quotes(text))) is not None:
        key = found[1]
        message = f"a dot is followed by a name, and {key!r} is not one: write an array index in brackets"
        raise PathError(message, column=found.start() + 2, hint=f"write {_bracketed(text)}{_or_key(key)}")


def _or_key(key: str) -> str:
    return "" if key == "#" else f"; for a key that is called {key!r} write ['{key}']"


def _without_quotes(text: str) -> str:
    """The path with quoted text and filters replaced by filler of the same length."""
    return _HIDDEN.sub(lambda found: " " * len(found[0]), text)


def _bracketed(text: str) -> str:
    """``$.runs.0.status`` → ``$.runs[0].status``; ``#`` stands for every element."""
    spans = list(_DOTTED_INDEX.finditer(_without_quotes(text)))
    for found in reversed(spans):
        index = "*" if found[1] == "#" else str(int(found[1]))
        text = f"{text[: found.start()]}[{index}]{text[found.end() :]}"
    return text


def _with_root(text: str) -> str:
    """A path to a field that is not known, from the root."""
    rest = _EMPTY_BRACKETS.sub("[*]", text.lstrip("@").removeprefix("#"))
    if rest.startswith("/"):
        rest = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest.strip("/").split("/"))
    elif not rest.startswith((".", "[")):
        rest = f".{rest}"
    return _bracketed(f"${rest}")


def _before_parsing(text: str) -> PathError | None:
    """Mistakes that would parse as something else, or whose error would mislead."""
    if "{{" in text or "{%" in text:
        inner = text.replace("{{", "").replace("}}", "").strip()
        return PathError("a path is JSONPath, not a template", hint=f"write expr: {inner!r}")
    if call := _LENGTH_CALL.search(text):
        fixed = _LENGTH_CALL.sub(".`len`", text)
        message = f"jsonpath-ng has no function {call[0][1:]}"
        return PathError(message, column=call.start() + 2, hint=f"write {fixed}, or use the operator `length`")
    for match in _MATCH.finditer(text):
        if (problem := _pattern_mistake(text, match)) is not None:
            return problem
    return None


def _pattern_mistake(text: str, match: re.Match[str]) -> PathError | None:
    """Patterns in slashes, and patterns whose backslashes jsonpath-ng would drop."""
    pattern = next(group for group in match.groups() if group is not None)
    flags = f"(?{match[4]})" if match[4] else ""
    doubled = _LONE_BACKSLASH.sub(lambda lone: "\\" + lone[0], pattern)
    if match[3] is None and doubled == pattern:
        return None
    fixed = f"{text[: match.start()]}=~ '{flags}{doubled}'{text[match.end() :]}"
    message = "jsonpath-ng drops a single backslash inside quotes" if match[3] is None else "a pattern needs quotes"
    return PathError(message, column=match.start() + 1, hint=f"write {fixed}")


def _after_failing(text: str, error: PathError) -> PathError:
    """A better message for a path that jsonpath-ng cannot parse."""
    if error.hint:
        return error
    fixed = _FROM_THE_END.sub(r"[-\1]", _EMPTY_BRACKETS.sub("[*]", text))
    if re.match(r"\$[A-Za-z_]", text):
        fixed = "$." + fixed[1:]
    for attempt in (fixed, _with_quotes(fixed), _with_signs(fixed), *_finished(fixed)):
        if attempt != text and _compiles(attempt):
            return PathError(str(error), column=error.column, hint=f"write {attempt}")
    if (comparison := _COMPARISON.match(text)) and (condition := as_condition(text)) is not None:
        message = "a path only selects values; the comparison is an operator beside it"
        return PathError(message, column=comparison.start(2) + 1, hint=f"write {in_yaml(condition)}")
    if re.search(r"\[\?.*\b(in|contains|not)\b", text):
        hint = "inside [?…] there are == != < <= > >= =~ && || !, length, count, value, match and search; "
        return PathError(str(error), column=error.column, hint=f"{hint}or use an operator beside the path")
    if "too early" in str(error):
        return error
    hint = "a key with spaces, quotes, a colon or a digit in front needs brackets and quotes: ['my key']"
    return PathError(str(error), column=error.column, hint=hint)


def _finished(text: str) -> tuple[str, ...]:
    """A path that ends too early, completed in the most likely way."""
    if text.endswith(".") and not text.endswith(".."):
        return (text[:-1],)
    return (f"{text}*", f"{text}]", f"{_with_signs(text)}]")


#: What other languages write inside a filter → the JSONPath syntax.
_SIGNS: Final = (
    (re.compile(r"\s+and\s+", re.IGNORECASE), " && "),
    (re.compile(r"\s+or\s+", re.IGNORECASE), " || "),
    (re.compile(r"(?<=[?(&|])(\s*)not\s+(@[^&|)\]]*(?:\[[^\]]*\])*)", re.IGNORECASE), r"\1!\2"),
    (re.compile(r"==="), "=="),
    (re.compile(r"!==|<>"), "!="),
)
_QUOTED: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_ONE_OF: Final = re.compile(r"(@[\w.\[\]*]*)\s+in\s+\[([^\[\]]+)\]", re.IGNORECASE)


def _with_signs(text: str) -> str:
    """The path with JSONPath signs in place of words of other languages: ``and``, ``or``, ``not``, ``in``, ``<>``."""
    if "[?" not in text:
        return text
    spelled = _ONE_OF.sub(lambda found: _one_of(found[1], found[2]), text)
    pieces = _QUOTED.split(spelled)
    for place in range(0, len(pieces), 2):
        for pattern, sign in _SIGNS:
            pieces[place] = pattern.sub(sign, pieces[place])
    return "".join(pieces)


def _one_of(look: str, values: str) -> str:
    tests = [f"{look} == {value.strip()}" for value in values.split(",")]
    return tests[0] if len(tests) == 1 else f"({' || '.join(tests)})"


def _with_quotes(text: str) -> str:
    """The path with quotes around names that cannot follow a dot: with spaces, a colon, a digit in front."""

    def in_quotes(match: re.Match[str]) -> str:
        dots, name = match.groups()
        if _SHORTHAND.fullmatch(name) or name.lstrip("-").isdigit():
            return match[0]
        return f"{'..' if dots == '..' else ''}[{quoted(name.rstrip())}]"

    head, bracket, rest = text.partition("[?")
    return _DOTTED.sub(in_quotes, head) + bracket + rest


def _compiles(text: str) -> bool:
    try:
        compile_path(text)
    except PathError:
        return False
    return True


def _check_arrays(steps: tuple[Step, ...]) -> None:
    """Refuse a field of a value that LangSmith documents as an array: such a path never finds anything."""
    for place, step in enumerate(steps):
        if not isinstance(step, str) or step.isdigit() or kind_at(steps[:place]) != "list":
            continue
        array, rest = write_steps(steps[:place]), write_steps(steps[place:])[1:]
        fixed = f"{array}.`len`" if step in _SIZES else f"{array}[*]{rest}"
        if array.endswith("tags") and step not in _SIZES:
            fixed = f'{array}[*] with eq: "{step}"'
        column = len(array) + 1
        raise PathError(f"{array} is an array, which has no field {step!r}", column=column, hint=f"write {fixed}")


def _check_texts(steps: tuple[Step, ...]) -> None:
    """Refuse a path that reads the length of a text as its field."""
    match steps[1:] if steps[:1] == ("payload",) else steps:
        case ("run", str() as name, str() as step, *rest) | ("runs", int() | None, str() as name, str() as step, *rest):
            if name in TEXT_FIELDS and step in _SIZES:
                text = write_steps(steps[: len(steps) - len(rest) - 1])
                message = f"{text} is a text, which has no {step!r}"
                raise PathError(message, column=len(text) + 1, hint="use the operator length")


def _check_words(steps: tuple[Step, ...], vocabulary: Vocabulary) -> None:
    """Refuse a field that is known not to exist."""
    if (slip := vocabulary.slip(steps, path=True)) is not None:
        raise PathError(slip.message, column=len(write_steps(steps[: slip.step])) + 2, hint=slip.hint)
