"""Error responses: the status, the message and the advice for each kind of error."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import orjson
from aiohttp import hdrs, web

from engine.core import compression
from engine.core.errors import BadBody, EngineError, StoreBusy, StoreError
from engine.core.signatures import BadSignature

#: Every reason for an error response: labels of a metric, documented.
REFUSALS = (
    "bad_body", "broken_body", "busy", "error", "late", "method", "overloaded", "slow_body", "stopping",
    "store_error", "too_large", "unauthorized", "unknown_coding",
)  # fmt: skip
#: After how many seconds a sender should try again.
_RETRY_AFTER = "1"
_HOW_TO_AUTHENTICATE = (
    "send a secret from `secrets:` in the configuration, once: as ?secret=… in the URL, "
    "as an X-Webhook-Secret header, or as Authorization: Bearer …"
)
_HOW_TO_SIGN = (
    "sign the body exactly as it is sent, with a secret from `signing_secrets:` in the configuration: "
    "X-LangSmith-Signature, X-Hub-Signature-256, or webhook-signature as in Standard Webhooks"
)
_HOW_TO_SEND = "send a JSON object, such as the payload of a LangSmith webhook"

_logger = logging.getLogger(__name__)


class NoCapacity(EngineError):  # noqa: N818 - names the condition
    """There is no capacity for another body, or for more of one."""


@dataclass(eq=False)
class ErrorResponse(Exception):  # noqa: N818 - a response rather than an error
    """A response other than 202. ``reason`` is a label of metrics; ``error`` and ``hint`` are for people.

    With ``close`` the connection is closed after the response.
    """

    status: int
    reason: str
    error: str
    hint: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False

    def response(self) -> web.Response:
        """The JSON response."""
        body = {"error": self.error, "hint": self.hint} if self.hint else {"error": self.error}
        response = web.Response(status=self.status, body=orjson.dumps(body), content_type="application/json")
        response.headers.extend(self.headers)
        if self.close:
            response.force_close()
        return response


def overload(reason: str, error: str, *, close: bool = False) -> ErrorResponse:
    """The response to a failure of the engine: 503, because LangSmith retries only that."""
    headers = ((hdrs.RETRY_AFTER, _RETRY_AFTER),)
    return ErrorResponse(503, reason, error, "nothing was accepted; send it again", headers, close)


def too_large(error: str, limit: int) -> ErrorResponse:
    """The response to a body larger than ``limit`` bytes."""
    hint = f"the limit is {limit} bytes, decompressed; have LangSmith send fewer or smaller runs at once"
    return ErrorResponse(413, "too_large", error, hint)


def unauthorized(error: str, *, may_sign: bool = False, may_use_secret: bool = True) -> ErrorResponse:
    """The response to an unauthenticated sender. ``may_use_secret`` and ``may_sign`` say which ways are configured."""
    ways = filter(None, (_HOW_TO_AUTHENTICATE if may_use_secret else "", _HOW_TO_SIGN if may_sign else ""))
    return ErrorResponse(401, "unauthorized", error, "; or ".join(ways), ((hdrs.WWW_AUTHENTICATE, "Bearer"),))


def broken_body(error: Exception) -> ErrorResponse:
    """The response to a body that was cut off or has invalid chunks."""
    return ErrorResponse(400, "broken_body", f"the request's body is broken: {error}", _HOW_TO_SEND)


def error_response(error: Exception, limit: int) -> ErrorResponse:
    """The response to an error with a body or with storing its event. ``limit`` is the largest body in bytes."""
    match error:
        case StoreBusy():
            return overload("busy", f"the store is busy: {error}")
        case StoreError():
            return overload("store_error", f"the store cannot take events: {error}")
        case NoCapacity():
            return overload("overloaded", str(error))
        case BadSignature():
            return unauthorized(str(error), may_sign=True, may_use_secret=False)
        case BadBody() | compression.BrokenCoding():
            return ErrorResponse(400, "bad_body", str(error), _HOW_TO_SEND)
        case compression.TooLarge():
            return too_large(str(error), limit)
        case compression.UnknownCoding():
            hint = f"send it plain, or in one of {compression.ACCEPTED}"
            accepted = ((hdrs.ACCEPT_ENCODING, compression.ACCEPTED),)
            return ErrorResponse(415, "unknown_coding", f"{error} is not understood", hint, accepted)
    _logger.error("an event could not be stored", exc_info=error)
    return overload("error", "the event could not be stored")
