"""What a body holds, found from its bytes before it is parsed: how many values, how much memory they take."""

from __future__ import annotations

import json
import sys

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.core.json_text
from engine.core.errors import TooComplex
from engine.core.json_text import MAX_LEVELS, MAX_VALUES, count_values, is_deeper, parsed_size
from engine.testing import payloads

MANY = 40_000


def really(value: object) -> int:
    """How many bytes a parsed value takes: every object once, with what the garbage collector adds."""
    total, seen, queue = 0, set(), [value]
    while queue:
        one = queue.pop()
        if id(one) not in seen:
            seen.add(id(one))
            total += sys.getsizeof(one)
            queue += [*one.keys(), *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return total


@pytest.mark.parametrize(
    "body",
    [
        payloads.to_body(payloads.seed()),
        payloads.to_body(payloads.rule()),
        payloads.to_body(payloads.complete()),
        payloads.to_body(payloads.alert()),
        payloads.to_body(payloads.several(100)),
        payloads.to_body(payloads.several(1000)),
        orjson.dumps({"a": [[]] * MANY}),
        orjson.dumps({"a": [{"a": number} for number in range(MANY)]}),
        orjson.dumps({"a": list(range(MANY))}),
        orjson.dumps({f"k{number}": number for number in range(MANY)}),
        orjson.dumps({"a": "plain text without much in it " * MANY}),
        orjson.dumps({"a": "€" + "mostly ASCII " * MANY}),
        b'{"a": "\\u20ac' + b"mostly ASCII " * MANY + b'"}',
        orjson.dumps({"a": "mostly ASCII " * MANY + "😀"}),
        orjson.dumps({"a": "mostly ASCII " * MANY + "\U0010ffff"}),
        b'{"a": "\\ud83d\\ude00' + b"mostly ASCII " * MANY + b'"}',
        b'{"a": "\\uD83D\\uDE00' + b"mostly ASCII " * MANY + b'"}',
    ],
    ids=[
        *("seed", "rule", "three runs", "alert", "100 runs", "1000 runs"),
        *("empty arrays", "small objects", "numbers", "keys", "text", "wide text", "escaped text"),
        *("widest text", "last character", "surrogates", "surrogates in capitals"),
    ],
)
def test_the_estimate_is_within_a_factor_of_three(body):
    estimate, real = parsed_size(body), really(orjson.loads(body))
    assert real / 3 < estimate < real * 3


@pytest.mark.parametrize("text", ["a, b, c [d] {e} " * MANY, "," * MANY])
def test_commas_in_texts_are_taken_for_values(text):
    assert parsed_size(orjson.dumps({"a": text})) > len(text)


@pytest.mark.parametrize(
    ("last", "width"),
    [
        *((b"x", 1), (b"\\n", 1), (b"\\u0041", 2), (b"\\uABCD", 2), ("é".encode(), 2), ("\uffff".encode(), 2)),
        *((b"\\ud83d\\ude00", 4), (b"\\uD83D\\uDE00", 4)),
        *((chr(plane << 16).encode(), 4) for plane in (1, 4, 8, 12, 16)),
    ],
)
@pytest.mark.parametrize("before", [7, 256 * 1024 - 2, 256 * 1024 - 1, 256 * 1024, 300_000])
def test_the_widest_character_of_a_text_decides_for_all_of_them_wherever_it_stands(monkeypatch, before, last, width):
    monkeypatch.setattr(engine.core.json_text, "_ESCAPES_SOUGHT", 0)
    body = b'{"a":"'.ljust(before, b"x") + last + b"x" * 2000 + b'"}'
    assert parsed_size(body, 1000) == width * len(body) + 2 * 80


@pytest.mark.parametrize(("size", "width"), [(4 * 1024 * 1024, 1), (4 * 1024 * 1024 + 1, 4)])
def test_escapes_are_sought_in_the_whole_of_a_body_of_more_than_4_mib(size, width):
    body = b'{"a":"'.ljust(size - 14, b"x") + b'\\ud83d\\ude00"}'
    assert parsed_size(body, 1000) == width * len(body) + 2 * 80


def test_a_large_body_is_looked_at_whole():
    one = b'{"a":"' + b"x" * (3 * 1024 * 1024) + b'","b":[' + b"0," * 10
    assert parsed_size(one) == len(one) + 14 * 80


def test_of_a_small_body_the_size_is_enough():
    assert parsed_size(b",[]" * 1000) == 4 * 3000


# How many values


def how_many(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(how_many, inner))


TEXTS = st.text(alphabet=',[]{}"\\ :aé\n', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300)
@given(value=VALUES, chunk=st.sampled_from([2, 4, 8, 16, 1024]), indent=st.sampled_from([None, 1]))
def test_values_are_counted_exactly_whatever_texts_hold_and_wherever_they_are_cut(value, chunk, indent):
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.core.json_text, "_CHUNK", chunk)
        assert count_values(body, 1000) == how_many(value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-le"])
def test_values_are_counted_in_other_encodings_too(encoding):
    assert count_values('{"a, [b": [1, "x,y", []]}'.encode(encoding), 1000) == 5


def test_counting_stops_beyond_the_limit():
    body = b"[" + b"0," * 2_000_000 + b"0]"
    assert 1000 < count_values(body, 1000) < 2_000_000


@pytest.mark.parametrize(
    "values",
    [
        b"0," * 997 + b"0",
        b"[]," * 997 + b"{}",
        b'{"a":"x,y"},' * 498 + b"[1]",
        b"[" * 190 + b"0," * 807 + b"0" + b"]" * 190,
    ],
)
def test_as_many_values_as_the_limit_are_parsed_and_not_one_more(values):
    exactly = b'{"a":[' + values + b"]}"
    assert how_many(orjson.loads(exactly)) == 1000
    assert parsed_size(exactly, 1000) > 0
    with pytest.raises(TooComplex, match=r"^the body has more than 999 values, the limit of --max-values$"):
        parsed_size(exactly, 999)


@pytest.mark.parametrize(
    "text", ["Well, here, as in any text, are commas. " * 100_000, ",[{" * 1_500_000, 'a "quoted, word", \\ ' * 200_000]
)
def test_commas_in_texts_do_not_make_too_many_values(text):
    body = orjson.dumps({"runs": [{"inputs": text}]})
    assert count_values(body, MAX_VALUES) == 4
    assert parsed_size(body, 4) == len(body) + 4 * 80


# How deep


def how_deep(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(how_deep, inner), default=0)


@settings(max_examples=300)
@given(value=VALUES, chunk=st.sampled_from([2, 4, 8, 16, 1024]), indent=st.sampled_from([None, 1]))
def test_levels_are_counted_exactly_whatever_texts_hold_and_wherever_they_are_cut(value, chunk, indent):
    body, levels = json.dumps(value, indent=indent, ensure_ascii=False).encode(), how_deep(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.core.json_text, "_CHUNK", chunk)
        assert not is_deeper(body, levels)
        assert levels == 0 or is_deeper(body, levels - 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("texts", ['"}"', '"\\"]"', '"[[", "\\\\", "{{"'])
def test_brackets_in_texts_hide_no_level(texts, encoding):
    inner = f"[{texts}]" if "," in texts else texts
    body = ("[" + f"{inner}, [" * 150 + "]" * 151).encode(encoding)
    assert is_deeper(body, 150)
    assert not is_deeper(body, 152)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_as_many_levels_as_the_limit_are_parsed_and_not_one_more(opening):
    closing = b"]" if opening == b"[" else b"}"
    assert parsed_size(opening * (MAX_LEVELS - 1) + b"{}" + closing * (MAX_LEVELS - 1)) > 0
    with pytest.raises(TooComplex, match=r"^the body is nested deeper than 200 levels$"):
        parsed_size(opening * MAX_LEVELS + b"{}" + closing * MAX_LEVELS)
