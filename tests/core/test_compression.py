"""Content codings: what they cost whatever is in them, and what is no stream of theirs."""

from __future__ import annotations

import gzip
import time
import zlib

import pytest

import engine.core.compression
from engine.core.compression import BrokenCoding, decode

LIMIT = 64 * 1024 * 1024
#: Does not become smaller when it is compressed at level 0.
TEXT = b"text" * 500_000


@pytest.mark.parametrize(
    ("raw", "coding"), [(gzip.compress(TEXT, 0), "gzip"), (zlib.compress(TEXT, 0), "deflate")], ids=["gzip", "deflate"]
)
def test_zlib_is_given_a_little_at_once_since_it_copies_what_it_does_not_use(monkeypatch, raw, coding):
    fed = []
    real = zlib.decompressobj

    class Recorded:
        def __init__(self, wbits):
            self._real = real(wbits)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def decompress(self, data, size):
            fed.append(len(data))
            return self._real.decompress(data, size)

    monkeypatch.setattr(engine.core.compression.zlib, "decompressobj", Recorded)
    assert decode(raw, coding, LIMIT) == TEXT
    assert max(fed) == 16 * 1024
    assert sum(fed) < 2 * len(raw)


@pytest.mark.parametrize("padding", [0, 1, 16 * 1024 - 1, 16 * 1024, 100_000])
def test_members_follow_each_other_with_zero_bytes_between_and_behind(padding):
    raw = (gzip.compress(b"one, ") + bytes(padding)) * 3 + gzip.compress(TEXT) + bytes(padding)
    assert decode(raw, "gzip", LIMIT) == b"one, " * 3 + TEXT


def test_as_many_members_as_the_limit_are_read_and_not_one_more():
    member = gzip.compress(b"x")
    assert decode(member * 20_000, "gzip", LIMIT) == b"x" * 20_000
    with pytest.raises(BrokenCoding, match=r"^the body is not gzip, or is cut off: it has more than 20,000 members$"):
        decode(member * 20_001, "gzip", LIMIT)


def test_millions_of_empty_members_and_of_zero_bytes_cost_little():
    began = time.process_time()
    with pytest.raises(BrokenCoding, match="more than 20,000 members"):
        decode(gzip.compress(b"") * 1_000_000, "gzip", LIMIT)
    assert decode(gzip.compress(b"{}") + bytes(32_000_000), "gzip", LIMIT) == b"{}"
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize(
    ("raw", "coding", "words"),
    [
        (gzip.compress(TEXT)[:-1], "gzip", "the stream has no end"),
        (gzip.compress(b"x") + gzip.compress(b"y")[:-9], "gzip", "the stream has no end"),
        (gzip.compress(b"x") + b"more", "gzip", "incorrect header check"),
        (b"\0" + gzip.compress(b"x"), "gzip", "incorrect header check"),
        (gzip.compress(b"x")[:-5] + b"00000", "gzip", "incorrect data check"),
        (zlib.compress(TEXT)[:-1], "deflate", "the stream has no end"),
        (b"", "deflate", "the stream has no end"),
    ],
    ids=["cut off", "second cut off", "text behind", "zero in front", "another sum", "deflate cut off", "nothing"],
)
def test_what_is_cut_off_or_something_else_is_refused(raw, coding, words):
    with pytest.raises(BrokenCoding, match=words):
        decode(raw, coding, LIMIT)


def test_nothing_is_a_gzip_stream_of_no_members():
    assert decode(b"", "gzip", LIMIT) == b""


def test_what_follows_a_deflate_stream_counts_for_nothing():
    assert decode(zlib.compress(b"x") + zlib.compress(b"y"), "deflate", LIMIT) == b"x"
