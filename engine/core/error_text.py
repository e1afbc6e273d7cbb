"""Exceptions as text: bounded, never raising, and failures of the network in plain words."""

from __future__ import annotations

import os
import re
import socket
import ssl
import traceback
from typing import Final

from engine.core.masking import shortened

#: The maximum length of an exception's text, in characters.
LONGEST = 8 * 1024
#: asyncio tries every address of a name. If they fail in different ways, its message contains only these numbers.
_SEVERAL: Final = re.compile(r"\[Errno (\d+)\]")


def error_text(error: BaseException) -> str:
    """``str(error)``, cut to 8,192 characters; if the conversion raises, a text that says so."""
    try:
        return shortened(str.__str__(str(error)), LONGEST)
    except BaseException as second:  # noqa: BLE001 - __str__ of a plug-in's exception may raise anything, even SystemExit
        return f"(its text cannot be shown: __str__ raised {_name(second)})"


def named_error(error: BaseException) -> str:
    """``ValueError: the text``; only the name if there is no text."""
    text = error_text(error)
    return f"{_name(error)}: {text}" if text.strip() else _name(error)


def traceback_text(error: BaseException, start: object = None) -> str:
    """The traceback as Python prints it, with the text of each exception cut.

    ``start``: the traceback object to begin with, by default the exception's own.
    """
    try:
        made = traceback.TracebackException(type(error), error, start or error.__traceback__)  # type: ignore[arg-type]
        return "\n".join(shortened(part.rstrip("\n"), LONGEST) for part in made.format())
    except BaseException as second:  # noqa: BLE001 - it inspects objects of plug-ins
        return f"{named_error(error)}\n(its traceback cannot be shown: {_name(second)})"


def _name(error: BaseException) -> str:
    name: str = type.__getattribute__(type(error), "__name__")
    return name


def cannot_connect(error: BaseException) -> str:
    """``cannot connect to host:port: why`` for exceptions with a host and port (aiohttp's); empty for others."""
    host, port, cause = (getattr(error, name, None) for name in ("host", "port", "os_error"))
    if not isinstance(host, str) or not isinstance(cause, OSError):
        return ""
    shown_host = f"[{host}]" if ":" in host else host
    return f"cannot connect to {shown_host}:{port}: {network_message(cause)}"


def network_message(error: BaseException) -> str:
    """A network error in plain words, without error numbers and class names. Other exceptions: their message."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({_verdict(error)})"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return "it does not speak TLS there"
        case ssl.SSLError(reason=str(reason)):
            return f"TLS failed ({reason.replace('_', ' ').lower()})"
        case ssl.SSLError():  # its errno is not the system's
            return message_of(error)
        case socket.gaierror(strerror=str(text)):
            return _in_a_sentence(text)
        case OSError(errno=int(number)):
            return _in_a_sentence(os.strerror(number))
        case OSError() if found := dict.fromkeys(_SEVERAL.findall(error_text(error))):
            return " and ".join(_in_a_sentence(os.strerror(int(number))) for number in found)
    if type(error).__name__ == "ServerDisconnectedError":
        return "it closed the connection without an answer"
    return message_of(error)


def message_of(error: BaseException) -> str:
    """An exception's message, preceded by its class if the message is empty or a single word, as a KeyError's."""
    message = error_text(error).strip()
    if len(message.split()) > 1 and not isinstance(error, KeyError):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's reason. Only exceptions that OpenSSL raised have one."""
    return str(getattr(error, "verify_message", "")).rstrip(".") or message_of(error)


def _in_a_sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
