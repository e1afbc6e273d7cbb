"""Decodes content codings (gzip, deflate, zstd) up to a size limit, so that a decompression bomb is refused."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Protocol

from engine.core.errors import EngineError

#: The codings that ``decode`` supports, as an Accept-Encoding header (RFC 9110, 12.5.3).
ACCEPTED = "gzip, deflate, zstd"
#: The other content codings registered with IANA.
_OTHERS = frozenset({"aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress"})
#: The maximum number of codings applied to one body. Senders use one.
_MOST_CODINGS = 2
#: The maximum window of a zstd frame, in bytes (RFC 8878 recommends to support 8 MiB at least).
_ZSTD_WINDOW = 1 << 25
_PIECE = 1 << 18
#: Bytes passed to zlib at once: it copies the input that it does not consume.
_FED = 1 << 14
#: The maximum number of members in a gzip stream. Even an empty one costs some microseconds. Programs that write many
#: (bgzip) put 64 KiB into each.
_MOST_MEMBERS = 20_000


class TooLarge(EngineError):  # noqa: N818 - named after the response
    """A body is larger than the limit, before or after it is decompressed."""


class UnknownCoding(EngineError):  # noqa: N818 - named after the response
    """A body uses a content coding that is not supported."""


class BrokenCoding(EngineError):  # noqa: N818 - named after the response
    """A body does not match its Content-Encoding."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def decode(raw: bytes, content_encoding: str, limit: int) -> bytes:
    """Decode a body by its Content-Encoding header into at most ``limit`` bytes.

    Raises:
        TooLarge: the decoded body is larger than ``limit`` bytes.
        UnknownCoding: a coding is not in ``ACCEPTED``, or there are too many.
        BrokenCoding: the body is truncated or has another format.
    """
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(codings) > _MOST_CODINGS:
        raise UnknownCoding(f"{len(codings)} codings on top of each other")
    for coding in reversed(codings):
        raw = _decode_one(raw, coding, limit)
    return raw


def decoded_pieces(raw: bytes, coding: str) -> Iterator[bytes]:
    """Decode one coding, in pieces of at most 256 KiB.

    Raises:
        UnknownCoding: the coding is not in ``ACCEPTED``.
        BrokenCoding: the body is truncated or has another format.
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
            # RFC 9110 requires zlib's header; some senders leave it out.
            has_header = bool(raw) and raw[0] & 0xF == 8
            return _Inflated(raw, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, 1)
        case "zstd":
            return _open_zstd(raw)
    # Other values are not quoted: a sender that mixed up its headers may have put a secret there.
    raise UnknownCoding(f"the coding {coding!r}" if coding in _OTHERS else "the body's Content-Encoding")


class _Inflated:
    """Reads a zlib stream, or several in a row (gzip members), each padded with zero bytes.

    ``wbits`` selects the header, as for ``zlib.decompressobj``.
    """

    def __init__(self, raw: bytes, wbits: int, most_members: int) -> None:
        self._raw, self._at = raw, 0
        self._wbits, self._most = wbits, most_members
        self._stream = zlib.decompressobj(wbits)
        self._members = 1

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty at the end.

        Raises:
            EOFError: the stream is truncated.
            OSError: it has too many members.
            zlib.error: it has another format.
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
    """A zstd reader that raises ``OSError``, so that the library is imported only when it is used."""

    def __init__(self, reader: _Readable) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        import zstandard

        try:
            return self._reader.read(size)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
