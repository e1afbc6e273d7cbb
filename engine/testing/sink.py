"""A receiver of webhooks that records requests and responds as configured."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Callable

from engine.core.signatures import webhook_key
from engine.testing.server import Answer, Recorded, Refused, StandIn

#: The maximum deviation of a signed timestamp, in seconds (Standard Webhooks).
TOLERANCE = 300.0


class WebhookSink(StandIn):
    """Responds to any request with 200, or with the next of ``answers``.

    With ``verify_with`` (a Standard Webhooks secret, ``whsec_…``) a request without a valid
    signature is a 401.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        verify_with: str | None = None,
        on_request: Callable[[Recorded], None] | None = None,
    ) -> None:
        super().__init__(host=host, port=port, on_request=on_request)
        self.verify_with = verify_with
        #: Responses before the usual 200, first in, first out.
        self.answers: deque[Answer] = deque()

    @property
    def url(self) -> str:
        """A URL to send to; every other path works, too."""
        return f"{self.origin}/hook"

    @property
    def received(self) -> list[Recorded]:
        """All requests, oldest first."""
        return self.requests

    def answer_with(self, *statuses: int, body: str = "") -> None:
        """Respond to the next requests with these statuses."""
        self.answers += [Answer(body or None, status) for status in statuses]

    async def answer(self, recorded: Recorded) -> Answer:
        """Verify the signature if configured, then return the next response."""
        if self.verify_with is not None and (fault := signature_fault(recorded, self.verify_with)):
            raise Refused(401, fault)
        return self.answers.popleft() if self.answers else Answer("ok")


def signature_fault(recorded: Recorded, secret: str) -> str:
    """Why a signature is not valid by Standard Webhooks; empty if it is."""
    message_id, stamp = recorded.headers.get("webhook-id"), recorded.headers.get("webhook-timestamp")
    if not message_id or not stamp or not stamp.isdigit():
        return "webhook-id or webhook-timestamp is missing"
    if abs(recorded.at - int(stamp)) > TOLERANCE:
        return "webhook-timestamp is too far off"
    signed = f"{message_id}.{stamp}.".encode() + recorded.raw
    key = webhook_key(secret)
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = recorded.headers.get("webhook-signature", "").split()
    matches = any(hmac.compare_digest(one.encode(), expected.encode()) for one in given)
    return "" if matches else "webhook-signature does not match"
