"""Content codings (gzip, deflate, zstd), undone within a bound: a bomb is stopped, not unpacked."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Protocol

from engine.core.errors import EngineError

#: What ``decode`` understands, as an Accept-Encoding header says it (RFC 9110, 12.5.3).
ACCEPTED = "gzip, deflate, zstd"
#: What else is registered with IANA as a content coding.
_OTHERS = frozenset({"aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress"})
#: The most codings that one body may be wrapped in. Nobody means more than one.
_MOST_CODINGS = 2
#: The most memory that a zstd frame may ask for, in bytes (RFC 8878 advises to allow 8 MiB at least).
_ZSTD_WINDOW = 1 << 25
_PIECE = 1 << 18
#: How many bytes zlib is given at once: it copies what it does not use.
_FED = 1 << 14
#: The most members that a gzip stream may have. Each costs some microseconds, however empty it is; programs that write
#: many (bgzip) put 64 KiB into each.
_MOST_MEMBERS = 20_000


class TooLarge(EngineError):  # noqa: N818 - reads as the answer it causes
    """A body is larger than allowed, or would be if it were decompressed."""


class UnknownCoding(EngineError):  # noqa: N818 - reads as the answer it causes
    """A body is encoded in a way that is not understood here."""


class BrokenCoding(EngineError):  # noqa: N818 - reads as the answer it causes
    """A body is not what its Content-Encoding says."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def decode(raw: bytes, content_encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding header's codings, never making more than ``limit`` bytes.

    Raises:
        TooLarge: there is more than ``limit`` bytes in it.
        UnknownCoding: a coding is not one of ``ACCEPTED``, or there are too many.
        BrokenCoding: the body is truncated, or something else.
    """
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(codings) > _MOST_CODINGS:
        raise UnknownCoding(f"{len(codings)} codings on top of each other")
    for coding in reversed(codings):
        raw = _decode_one(raw, coding, limit)
    return raw


def decoded_pieces(raw: bytes, coding: str) -> Iterator[bytes]:
    """What one coding holds, a piece after the other, none of more than 256 KiB.

    Raises:
        UnknownCoding: the coding is not one of ``ACCEPTED``.
        BrokenCoding: the body is truncated, or something else.
    """
    try:
        stream = _open(raw, coding)
        while piece := stream.read(_PIECE):
            yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenCoding(f"the body is not {coding}, or is cut off: {error}") from error


def _decode_one(raw: bytes, coding: str, limit: int) -> bytes:
    pieces, size = [], 0
    for piece in decoded_pieces(raw, coding):
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body is more than {limit} bytes decompressed")
        pieces.append(piece)
    return b"".join(pieces)


def _open(raw: bytes, coding: str) -> _Readable:
    match coding:
        case "gzip" | "x-gzip":
            return _Inflated(raw, zlib.MAX_WBITS | 16, _MOST_MEMBERS) if raw else io.BytesIO()
        case "deflate":
            # With zlib's header, as RFC 9110 has it, or without, as some send it.
            has_header = bool(raw) and raw[0] & 0xF == 8
            return _Inflated(raw, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, 1)
        case "zstd":
            return _open_zstd(raw)
    # Other words are not repeated: a sender may have mixed up its headers, and shown us a secret.
    raise UnknownCoding(f"the coding {coding!r}" if coding in _OTHERS else "the body's Content-Encoding")


class _Inflated:
    """What zlib made: one stream, or several behind each other (gzip's members), with zero bytes behind each.

    ``wbits`` says which header there is, as for ``zlib.decompressobj``.
    """

    def __init__(self, raw: bytes, wbits: int, most_members: int) -> None:
        self._raw, self._at = raw, 0
        self._wbits, self._most = wbits, most_members
        self._stream = zlib.decompressobj(wbits)
        self._members = 1

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end.

        Raises:
            EOFError: the stream is cut off.
            OSError: it has too many members.
            zlib.error: it is something else.
        """
        while not self._stream.eof or self._next_member():
            fed = self._stream.unconsumed_tail or self._take()
            piece = self._stream.decompress(fed, size)
            self._at -= len(self._stream.unused_data)
            if piece:
                return piece
            if not fed and not self._stream.eof:
                raise EOFError("the stream has no end")
        return b""

    def _take(self) -> bytes:
        fed = self._raw[self._at : self._at + _FED]
        self._at += len(fed)
        return fed

    def _next_member(self) -> bool:
        """Go to the next member, if there is one."""
        if self._most == 1:
            return False
        while fed := self._take():
            if member := fed.lstrip(b"\0"):
                self._at -= len(member)
                self._members += 1
                if self._members > self._most:
                    raise OSError(f"it has more than {self._most:,} members")
                self._stream = zlib.decompressobj(self._wbits)
                return True
        return False


def _open_zstd(raw: bytes) -> _Readable:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(raw, read_across_frames=True)
    return _Zstd(reader)


class _Zstd:
    """A zstd reader whose errors are ``OSError``, so that this module imports the library only where it is used."""

    def __init__(self, reader: _Readable) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        import zstandard

        try:
            return self._reader.read(size)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
