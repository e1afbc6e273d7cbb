"""Exceptions of anybody's are shown without harm."""

from __future__ import annotations

import pytest

from engine.action.failures import classify
from engine.core.error_text import LONGEST, error_text, named_error, traceback_text


def exception(says: object, base: type[BaseException] = Exception) -> BaseException:
    """One whose ``__str__`` returns, or raises, what is given."""

    def show(_self: object) -> object:
        if isinstance(says, BaseException):
            raise says
        return says

    return type("E", (base,), {"__str__": show, "__repr__": show})()


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        ("words", "words"),
        (ValueError("inner"), "(its text cannot be shown: __str__ raised ValueError)"),
        (SystemExit(0), "(its text cannot be shown: __str__ raised SystemExit)"),
        (exception(SystemExit(0), BaseException), "(its text cannot be shown: __str__ raised E)"),
        (7, "(its text cannot be shown: __str__ raised TypeError)"),
        (None, "(its text cannot be shown: __str__ raised TypeError)"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), "x" * (LONGEST - 1) + "…"),
    ],
)
@pytest.mark.parametrize("base", [Exception, BaseException, TimeoutError, OSError, KeyError])
def test_whatever_it_does_there_is_a_text(says: object, shown: str, base: type[BaseException]) -> None:
    error = exception(says, base)
    assert error_text(error) == shown
    assert named_error(error) == f"E: {shown}"
    assert "E: " in traceback_text(error)
    assert len(traceback_text(error)) <= LONGEST
    reason = classify(error).reason
    assert shown in reason
    assert len(reason) < LONGEST + 50


def test_a_text_of_a_class_of_its_own_becomes_plain() -> None:
    class Text(str):
        def __format__(self, _spec: str) -> str:
            raise SystemExit(0)

        __len__ = __getitem__ = None  # type: ignore[assignment]

    assert type(error_text(exception(Text("words")))) is str
    assert named_error(exception(Text("words"))) == "E: words"


def test_without_a_description_only_the_name_is_shown() -> None:
    assert named_error(ValueError()) == "ValueError"
    assert named_error(ValueError(" ")) == "ValueError"


def test_a_traceback_has_every_text_cut_and_all_that_led_to_it() -> None:
    try:
        try:
            raise KeyError("a" * 50_000)
        except KeyError as cause:
            raise exception(SystemExit(0), ValueError) from cause
    except ValueError as error:
        shown = traceback_text(error)
    assert "a" * 8000 in shown
    assert "a" * LONGEST not in shown
    assert "The above exception was the direct cause" in shown
    assert shown.splitlines()[-1].endswith("E: <exception str() failed>")
    assert len(shown) < LONGEST + 2000


def test_a_traceback_that_cannot_be_made_leaves_the_text() -> None:
    class OddError(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise SystemExit(0)

    assert "OddError: words" in traceback_text(OddError("words"))
