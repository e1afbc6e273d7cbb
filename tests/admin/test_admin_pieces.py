"""Large JSON in pieces is the same JSON; and no piece is much larger than it should be."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.admin import pieces
from engine.admin.pieces import PIECE, dump_in_pieces, load_in_pieces

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12) | st.sampled_from('"\\[]{}:,')
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=6),
    max_leaves=40,
)


@given(VALUES, st.integers(1, 40), st.sampled_from([None, 1]))
def test_what_is_read_in_pieces_is_what_is_read_at_once(value: Any, piece: int, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    assert load_in_pieces(text, piece) == orjson.loads(text)


@given(VALUES)
def test_what_is_written_in_pieces_is_what_is_written_at_once(value: Any) -> None:
    assert b"".join(dump_in_pieces(value)) == orjson.dumps(value)


@given(st.binary(max_size=40) | st.text('[]{}",:1\\ n', max_size=40).map(str.encode), st.integers(1, 8))
def test_what_is_not_json_is_refused_in_pieces_too(text: bytes, piece: int) -> None:
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        with pytest.raises(ValueError):  # noqa: PT011 - any
            load_in_pieces(text, piece)
    else:
        assert load_in_pieces(text, piece) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": [1, 2, [3]], "a": [4, [5]], "b": {}}',
        b'{"x": {"k": 1, "k": [[1], [2]], "l": 0, "k": [[3], [4]]}, "y": [[[]], {}]}',
        b'[{"' + b"\\" * 130 + b'": [[1], [2]]}, [["\\\\\\"]"]]]',
        b"  [ [1] , [2] ]  ",
    ],
)
@pytest.mark.parametrize("piece", [1, 4, 9])
def test_keys_that_stand_twice_and_backslashes_before_quotes(text: bytes, piece: int) -> None:
    assert load_in_pieces(text, piece) == orjson.loads(text)


def test_no_call_of_orjson_gets_or_makes_much_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [{"role": "user", "content": f'{number} "quoted" {"x" * 700}'} for number in range(60)]
    runs = [{"id": number, "inputs": {"messages": messages}, "outputs": {"m": messages}} for number in range(50)]
    value = {"payload": {"rule_id": "r", "runs": runs}, "one": {"long": ["y" * 3 * PIECE]}}
    text = orjson.dumps(value)
    read: list[int] = []
    monkeypatch.setattr(pieces.orjson, "loads", _counted(pieces.orjson.loads, read))
    assert load_in_pieces(text) == value
    longest = 3 * PIECE
    assert sum(read) < len(text) * 1.1
    assert sorted(read)[-2] < PIECE + 200_000, "only the one long text is one piece"
    assert max(read) < longest + PIECE + 200_000
    parts = dump_in_pieces(value)
    assert b"".join(parts) == text
    assert sorted(map(len, parts))[-2] < PIECE + 200_000


def _counted(load: Any, sizes: list[int]) -> Any:
    def loads(text: bytes) -> Any:
        sizes.append(len(text))
        return load(text)

    return loads


def test_what_json_has_no_words_for_is_written_as_text() -> None:
    value = {1: {"at": [json.JSONDecoder, None]}, None: 2}
    assert b"".join(dump_in_pieces(value)) == orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
