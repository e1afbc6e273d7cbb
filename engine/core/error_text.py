"""Exceptions as text: bounded, never raising, and failures of the network in plain words."""

from __future__ import annotations

import os
import re
import socket
import ssl
import traceback
from typing import Final

from engine.core.masking import shortened

#: How much of one exception's text is kept, in characters.
LONGEST = 8 * 1024
#: asyncio tries every address of a name; where they fail in different ways, this is all that is left of it.
_SEVERAL: Final = re.compile(r"\[Errno (\d+)\]")


def error_text(error: BaseException) -> str:
    """``str(error)``, cut to 8,192 characters; where the exception cannot be converted, a text that says so."""
    try:
        return shortened(str.__str__(str(error)), LONGEST)
    except BaseException as second:  # noqa: BLE001 - foreign code, which may raise even SystemExit here
        return f"(its text cannot be shown: __str__ raised {_name(second)})"


def named_error(error: BaseException) -> str:
    """``ValueError: the text``; the name alone where there is no text."""
    text = error_text(error)
    return f"{_name(error)}: {text}" if text.strip() else _name(error)


def traceback_text(error: BaseException, start: object = None) -> str:
    """The traceback as Python prints it, from ``start`` on where it is given, each exception's text cut.

    ``start`` is a traceback object of this exception.
    """
    try:
        made = traceback.TracebackException(type(error), error, start or error.__traceback__)  # type: ignore[arg-type]
        return "\n".join(shortened(part.rstrip("\n"), LONGEST) for part in made.format())
    except BaseException as second:  # noqa: BLE001 - it looks into foreign objects
        return f"{named_error(error)}\n(its traceback cannot be shown: {_name(second)})"


def _name(error: BaseException) -> str:
    name: str = type.__getattribute__(type(error), "__name__")
    return name


def cannot_connect(error: BaseException) -> str:
    """``cannot connect to host:port: why``, of an exception that knows where (aiohttp's do); empty of others."""
    host, port, cause = (getattr(error, name, None) for name in ("host", "port", "os_error"))
    if not isinstance(host, str) or not isinstance(cause, OSError):
        return ""
    where = f"[{host}]" if ":" in host else host
    return f"cannot connect to {where}:{port}: {network_words(cause)}"


def network_words(error: BaseException) -> str:
    """What a fault of the network comes to, without numbers, classes and lines of C; others' own words."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({_verdict(error)})"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return "it does not speak TLS there"
        case ssl.SSLError(reason=str(reason)):
            return f"TLS failed ({reason.replace('_', ' ').lower()})"
        case ssl.SSLError():  # its numbers are OpenSSL's own
            return words_of(error)
        case socket.gaierror(strerror=str(text)):
            return _in_a_sentence(text)
        case OSError(errno=int(number)):
            return _in_a_sentence(os.strerror(number))
        case OSError() if found := dict.fromkeys(_SEVERAL.findall(error_text(error))):
            return " and ".join(_in_a_sentence(os.strerror(int(number))) for number in found)
    if type(error).__name__ == "ServerDisconnectedError":
        return "it closed the connection without an answer"
    return words_of(error)


def words_of(error: BaseException) -> str:
    """An exception's message. A single word, such as a KeyError's key, or none says little without its class."""
    message = error_text(error).strip()
    if len(message.split()) > 1 and not isinstance(error, KeyError):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's, which only what it raised itself has."""
    return str(getattr(error, "verify_message", "")).rstrip(".") or words_of(error)


def _in_a_sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
