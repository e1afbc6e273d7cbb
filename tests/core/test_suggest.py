"""'Did you mean' names a word that is near, and none that is only as short."""

from __future__ import annotations

import pytest

from engine.core.suggest import nearest

FIELDS = ("id", "name", "status", "error", "total_cost", "extra", "key", "uppercase")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("nme", "name"), ("Status", "status"), ("eror", "error"), ("kee", "key"), ("upercase", "uppercase"),
        ("total", "total_cost"), ("tags", ""), ("x", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_near_word_is_named_and_a_short_one_must_be_nearer(word: str, near: str) -> None:
    assert nearest(word, FIELDS) == near


def test_another_tools_word_is_translated() -> None:
    assert nearest("EQUALS", ["eq", "ne"], synonyms={"equals": "eq"}) == "eq"
