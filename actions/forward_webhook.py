"""Send the event, or anything else, to an HTTP endpoint."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import orjson
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from actions._addresses import absolute_url
from actions._json_text import (
    MAKE_A_LIST,
    as_parameter,
    breaks_as_json,
    is_json_type,
    looks_like_json,
    loops_for_objects,
)
from engine import Action, ActionContext, Discard, Scope, check_response, read_text, webhook_key
from engine import Params as BaseParams

#: The maximum bytes of a response that are read and stored.
_EXCERPT = 2048
#: Seconds to wait for them after the status, which alone decides.
_PATIENCE = 1.0
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Names of headers and query parameters that contain credentials.
_CREDENTIAL = re.compile(r"auth|key|token|secret|cookie|password|credential|signature", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
#: Headers that the engine or HTTP sets.
_RESERVED = frozenset(
    {"webhook-id", "webhook-timestamp", "webhook-signature", "content-length", "transfer-encoding", "connection"}
)

Scalar = str | int | float | bool


def _absolute(url: str) -> str:
    return absolute_url(url, "url", "https://example.com/hook")


def _safe_headers(headers: dict[str, Scalar]) -> dict[str, Scalar]:
    names = [name.lower() for name in headers]
    for name, value in headers.items():
        if names.count(name.lower()) > 1:
            raise ValueError(f"the header {name!r} is given more than once: names differ only in case")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _RESERVED:
            raise ValueError(f"the header {name!r} is set by the engine; leave it out")
        if _FORBIDDEN_IN_VALUES.search(str(value)):
            raise ValueError(
                f"the header {name!r} contains a line break or another control character: event data needs"
                " | urlencode there"
            )
    return headers


def _keys(secrets: str | list[str]) -> str | list[str]:
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        _key(secret)
    return secrets


def _key(secret: str) -> bytes:
    """The key bytes of ``whsec_…`` (Standard Webhooks 1.0, "Signature scheme": base64, prefix optional)."""
    try:
        return webhook_key(secret)
    except ValueError:
        raise ValueError("sign_with must be a Standard Webhooks secret: whsec_ followed by base64") from None


class ForwardWebhook(Action):
    """Send the event to an HTTP endpoint, optionally signed."""

    main = "url"

    class Params(BaseParams):
        """The target and the content. ``sign_with`` may be a list while secrets are rotated."""

        url: Annotated[str, AfterValidator(_absolute)] = Field(
            description="where to send it", examples=["https://example.com/hook"]
        )
        method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = Field("POST", description="the HTTP method")
        headers: Annotated[dict[str, Scalar], AfterValidator(_safe_headers)] = Field(
            default_factory=dict, description="additional headers"
        )
        query: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict, description="added to the URL")
        body: Any = Field(
            None,
            description="a text, or anything as JSON (a mapping as a form where Content-Type says so);"
            " left out: the webhook as received, with this run "
            "(of a digest: {items, digest}, with the webhooks of all)",
        )
        sign_with: Annotated[str | list[str], AfterValidator(_keys)] | None = Field(
            None, description="whsec_…: sign as in Standard Webhooks"
        )

        @field_validator("body", mode="after")
        @classmethod
        def _is_what_its_type_says(cls, body: Any, info: ValidationInfo) -> Any:
            """A text with a JSON content type must be JSON."""
            content_type = _content_type(info.data.get("headers", {}))
            if not (isinstance(body, str) and is_json_type(content_type)):
                return body
            try:
                json.loads(body, parse_constant=_no_json)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"body is not JSON, although its content type is {content_type}: {error}; write the body as a"
                    " mapping or list in YAML, or put | tojson after each value, without quotes around it"
                ) from None
            return body

    def scope(self, params: Params) -> Scope:
        """A 410 stops only the URL; a 401 stops the credential, if there is one."""
        return Scope(params.url, _credential(params))

    def warnings(self, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Warn about a body that is JSON written as a text."""
        body, headers = params.get("body"), params.get("headers")
        if not isinstance(body, str):
            return
        given = _content_type(headers) if isinstance(headers, Mapping) else ""
        if not given and loops_for_objects(body):
            message = "this loop makes a text, which is sent as text/plain, not a list"
            yield "body", message, MAKE_A_LIST
        elif not given and looks_like_json(body):
            yield "body", "this body is a text: it is sent as text/plain, not as JSON", as_parameter(body)
        elif is_json_type(given) and (expression := breaks_as_json(body)):
            message = f"a quote or a line break in {expression} makes this body invalid JSON, which is not sent"
            yield "body", message, as_parameter(body)

    def outline(self, params: Params, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters, with the default body if none is written."""
        return {**super().outline(params, payload), **({"body": payload} if _sends_all(params) else {})}

    async def run(self, params: Params, context: ActionContext) -> dict[str, Any]:
        """Make one request. Its ``webhook-id`` is the delivery's id, equal in every attempt.

        Raises:
            HttpFailure: the status is not 2xx; redirects are not followed.
            Discard: the headers require a form, and the body cannot be sent as one.
        """
        body, content_type = _body(params, context)
        headers = {name: _text(value) for name, value in params.headers.items()}
        if content_type and not _content_type(headers):
            headers["Content-Type"] = content_type
        headers |= _identity(params, context, body)
        async with context.http.request(
            params.method,
            params.url,
            params=_query(params.query),
            data=body,
            headers=headers,
            allow_redirects=False,
            # The shorter limit distinguishes a connection timeout from a late response.
            timeout=aiohttp.ClientTimeout(total=context.timeout, connect=0.9 * context.timeout),
        ) as response:
            excerpt = await read_text(response, longest=_EXCERPT, patience=_PATIENCE)
            if not 200 <= response.status < 300:
                check_response(response.status, response.headers, excerpt)
            return {"status": response.status, "response": excerpt}


def _credential(params: ForwardWebhook.Params) -> str:
    """The credentials in a request: headers and query parameters with such names, userinfo, and signing secrets."""
    parts = urlsplit(params.url)
    known = [*params.headers.items(), *params.query.items(), *parse_qsl(parts.query)]
    named = sorted((name.lower(), str(value)) for name, value in known if _CREDENTIAL.search(name))
    user = parts.netloc.rpartition("@")[0]
    return repr((named, user, params.sign_with)) if named or user or params.sign_with else ""


def _body(params: ForwardWebhook.Params, context: ActionContext) -> tuple[bytes | None, str | None]:
    """The body and its content type. By default the payload; for GET and DELETE nothing."""
    if _sends_all(params):
        return _json(_whole(context)), "application/json"
    if params.body is None:
        return None, None
    if isinstance(params.body, Mapping) and _content_type(params.headers).lower().startswith(_FORM):
        return urlencode(_form(params.body)).encode(), _FORM
    if isinstance(params.body, str):
        return params.body.encode("utf-8", "replace"), "text/plain; charset=utf-8"
    return _json(params.body), "application/json"


def _content_type(headers: Mapping[str, Any]) -> str:
    """The content type in the headers, whatever the case of its name; empty if there is none."""
    return next((str(value) for name, value in headers.items() if str(name).lower() == "content-type"), "")


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _form(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields of a form: a list becomes a repeated field, null is omitted."""
    for name, value in body.items():
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, (str, int, float)) for item in items):
            raise Discard(
                f"the form's field {name!r} is neither a text, a number nor a list of them: put | tojson after it"
            )
    return _query({name: value for name, value in body.items() if value is not None})


def _sends_all(params: ForwardWebhook.Params) -> bool:
    """Whether the payload is the body."""
    return "body" not in params.model_fields_set and params.method in ("POST", "PUT", "PATCH")


def _whole(context: ActionContext) -> Mapping[str, Any]:
    """The payload as received; for a digest ``items`` with all payloads, and ``digest``."""
    if context.payloads is None:
        return context.payload
    return {"items": context.payloads, "digest": context.document["digest"]}


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=_plain)
    except TypeError:  # an integer beyond 64 bits, which a template can return
        return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _identity(params: ForwardWebhook.Params, context: ActionContext, body: bytes | None) -> dict[str, str]:
    """The headers of Standard Webhooks: always an id; time and signatures if there is a secret."""
    headers = {"webhook-id": context.delivery_id}
    if params.sign_with is not None:
        timestamp = str(int(time.time()))
        signed = f"{context.delivery_id}.{timestamp}.".encode() + (body or b"")
        secrets = [params.sign_with] if isinstance(params.sign_with, str) else params.sign_with
        signatures = (base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode() for secret in secrets)
        headers["webhook-timestamp"] = timestamp
        headers["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
    return headers


def _query(query: Mapping[str, Scalar | list[Scalar]]) -> list[tuple[str, str]]:
    return [
        (name, _text(value))
        for name, values in query.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
