"""A stand-in for the object store behind LangSmith's presigned URLs."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import orjson

from engine.testing.server import Answer, Recorded, Refused, StandIn

_KEY = b"the sandbox signs with this"


class ObjectStore(StandIn):
    """Serves objects for unexpired URLs, with S3's errors for others.

    ``clock`` is in Unix seconds.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.time,
        on_request: Callable[[Recorded], None] | None = None,
    ) -> None:
        super().__init__(host=host, port=port, on_request=on_request)
        self.objects: dict[str, bytes] = {}
        self._clock = clock

    def put(self, key: str, content: object, *, expires_in: float = 3600.0) -> str:
        """Store ``content`` (bytes, or any value as JSON) and presign a URL for that many seconds."""
        self.objects[key] = content if isinstance(content, bytes) else orjson.dumps(content)
        return self.presign(key, expires_in=expires_in)

    def presign(self, key: str, *, expires_in: float = 3600.0) -> str:
        """A URL that reads the object until it expires. With a negative time it has expired already."""
        expires = int(self._clock() + expires_in)
        return f"{self.origin}/objects/{quote(key)}?Expires={expires}&Signature={_sign(key, expires)}"

    async def answer(self, recorded: Recorded) -> Answer:
        """Check the signature, then the time, then the key."""
        if recorded.method not in ("GET", "HEAD"):
            raise _error(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        key = unquote(recorded.path.removeprefix("/objects/"))
        expires = recorded.query.get("Expires", "")
        if not expires.isdecimal():
            raise _error(403, "AccessDenied", "Access Denied")
        if not hmac.compare_digest(recorded.query.get("Signature", "").encode(), _sign(key, int(expires)).encode()):
            raise _error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        if self._clock() >= int(expires):
            ended = datetime.fromtimestamp(int(expires), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise _error(403, "AccessDenied", "Request has expired", f"<Expires>{ended}</Expires>")
        if key not in self.objects:
            raise _error(404, "NoSuchKey", "The specified key does not exist.", f"<Key>{escape(key)}</Key>")
        recorded.note = f"{len(self.objects[key])} bytes"
        return Answer(self.objects[key], headers={"Content-Type": "application/json"})


def _sign(key: str, expires: int) -> str:
    return hmac.new(_KEY, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()


def _error(status: int, code: str, message: str, more: str = "") -> Refused:
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'
    )
    return Refused(status, xml.encode(), {"Content-Type": "application/xml"})
