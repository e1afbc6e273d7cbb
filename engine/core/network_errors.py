"""Why a connection failed, in words for people: clients quote Python, and each quotes it another way."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Final

from engine.core.error_text import error_text

#: asyncio tries every address of a name; where they fail in different ways, this is all that is left of it.
_SEVERAL: Final = re.compile(r"\[Errno (\d+)\]")


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
