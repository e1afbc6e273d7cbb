"""Decodes content codings (gzip, deflate, zstd) up to a size limit, so that a decompression bomb is refused."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

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
        yield from _pieces(raw, coding)
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


def _pieces(raw: bytes, coding: str) -> Iterator[bytes]:
    match coding:
        case "gzip" | "x-gzip":
            return _inflated(raw, zlib.MAX_WBITS | 16, _MOST_MEMBERS) if raw else iter(())
        case "deflate":
            # RFC 9110 requires zlib's header; some senders leave it out.
            has_header = bool(raw) and raw[0] & 0xF == 8
            return _inflated(raw, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, 1)
        case "zstd":
            return _from_zstd(raw)
    # Other values are not quoted: a sender that mixed up its headers may have put a secret there.
    raise UnknownCoding(f"the coding {coding!r}" if coding in _OTHERS else "the body's Content-Encoding")


def _inflated(raw: bytes, wbits: int, most_members: int) -> Iterator[bytes]:
    """Decode a zlib stream, or several in a row (gzip members), each padded with zero bytes.

    ``wbits`` selects the header, as for ``zlib.decompressobj``.

    Raises:
        EOFError: the stream is truncated.
        OSError: it has too many members.
        zlib.error: it has another format.
    """
    at = 0
    for _ in range(most_members):
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            fed = stream.unconsumed_tail
            if not fed:
                fed = raw[at : at + _FED]
                at += len(fed)
            piece = stream.decompress(fed, _PIECE)
            if piece:
                yield piece
            elif not fed and not stream.eof:
                raise EOFError("the stream has no end")
        at = _next_member(raw, at - len(stream.unused_data))
        if at == len(raw) or most_members == 1:
            return
    raise OSError(f"it has more than {most_members:,} members")


def _next_member(raw: bytes, at: int) -> int:
    """The index of the first byte that is not zero, from ``at`` on."""
    while (zeros := raw[at : at + _FED]) and not zeros.strip(b"\0"):
        at += len(zeros)
    return at + len(zeros) - len(zeros.lstrip(b"\0"))


def _from_zstd(raw: bytes) -> Iterator[bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(raw, read_across_frames=True)
    try:
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error
