"""What is fuzzed: each entry takes bytes and comes back, or lets an exception out that is a bug.

An entry does what the engine does with what a stranger, or an author in a hurry, gives it. The only
exceptions that are right are the engine's own, with words in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from engine.action.registry import Registry, load_installed
from engine.clients.network import parse_entry, plain_host
from engine.config import dump_masked, parse_config
from engine.core import compression as coding
from engine.core.document import Fetched, build_document, run_indexes
from engine.core.errors import BadBody, ConfigError, DataMissing, EngineError, PathError, TemplateError
from engine.core.event import Event, parse_event
from engine.core.masking import Masker
from engine.core.positions import Source
from engine.core.vocabulary import Vocabulary
from engine.rules.compile import compile_router
from engine.rules.conditions import compile_filter
from engine.rules.decision import Routing
from engine.rules.jsonpath import compile_path
from engine.rules.origins import AuthorOrigins
from engine.rules.templates import Templates
from engine.testing import payloads

VARS = {"channel": "#c", "limit": 3, "urls": {"a": "http://a.corp/"}}


@lru_cache(maxsize=1)
def registry() -> Registry:
    return load_installed()


@lru_cache(maxsize=1)
def templates() -> Templates:
    return Templates(Vocabulary(VARS))


def document_of(event: Event, index: int = -1) -> dict[str, Any]:
    document = build_document(event, index, Fetched(), web_url="https://smith.langchain.com", vars=VARS)
    return {**document, "route": {"name": "r", "key": "k"}}


@lru_cache(maxsize=1)
def sample() -> dict[str, Any]:
    event = parse_event(json.dumps(payloads.complete()).encode(), 1.7e9)
    return document_of(event, run_indexes(event)[0])


def text_of(data: bytes) -> str:
    """A text, lone surrogates among what it may hold."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def has_words(error: EngineError | ValueError) -> None:
    assert str(error).strip(), repr(error)
    assert all(problem.message.strip() for problem in getattr(error, "problems", ()))


def config(data: bytes) -> None:
    """A configuration file, all the way to a router."""
    try:
        read = parse_config(data, environ={"NAME": "value"})
        compile_router(read, registry())
        dump_masked(read)
    except ConfigError as error:
        has_words(error)


def template(data: bytes) -> None:
    """A parameter that is a template, rendered with a run."""
    text = text_of(data)
    for escape in (frozenset[str](), frozenset({"text"})):
        try:
            templates().compile({"text": text}, escape=escape).render(sample())
        except (TemplateError, DataMissing) as error:
            has_words(error)
    AuthorOrigins(templates(), VARS).of(text)
    AuthorOrigins(templates(), VARS).foreign_in(text)


def expression(data: bytes) -> None:
    """What stands behind ``expr:``."""
    try:
        templates().expression(data.decode("utf-8", "replace")).evaluate(sample())
    except (TemplateError, DataMissing) as error:
        has_words(error)


def path(data: bytes) -> None:
    """A JSONPath, compiled, and followed by a condition."""
    text = data.decode("utf-8", "replace")
    try:
        compile_path(text)
    except PathError as error:
        has_words(error)
        return
    check_filter([{"path": text, "exists": True}], {})


def conditions(data: bytes) -> None:
    """Conditions and a document, as one JSON list of two."""
    try:
        written, document = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return
    check_filter(written, document if isinstance(document, dict) else {"runs": document})


def check_filter(written: Any, document: dict[str, Any]) -> None:
    """Compile conditions, and if they can be compiled, ask them about a document in both ways."""
    source = Source("fuzz")
    compiled = compile_filter(written if isinstance(written, list) else [written], ("filters",), source, templates())
    assert all(problem.message.strip() for problem in source.problems)
    if source.problems:
        return
    whole = {**sample(), **document}
    truth = compiled.check(whole)
    assert compiled.explain(whole).truth is truth


def event(data: bytes) -> None:
    """A webhook's body, all the way to what a route decides about it."""
    try:
        parsed = parse_event(data, 1.7e9)
    except BadBody as error:
        has_words(error)
        return
    for index in run_indexes(parsed)[:3]:
        document_of(parsed, index)
    routing = _router().decide(parsed, Fetched())
    assert isinstance(routing, Routing)
    for plan in routing.plans[:5]:
        for action in plan.route.actions:
            try:
                action.params(plan.document)
            except (TemplateError, DataMissing) as error:
                has_words(error)


@lru_cache(maxsize=1)
def _router() -> Any:
    text = """
secrets: none
langsmith: {api_key: k}
routes:
  "*":
    filters:
      - any:
          - {path: "$.runs[*].status", in: [success, error]}
          - {path: "$..error", exists: true}
          - {expr: "run.latency > 1 or run.cost > 0.1 or not run.name"}
          - {path: "$.runs[*].start_time", newer_than: 3000d}
          - {path: "$.runs[*].name", matches: "a|b"}
          - {path: "$", type: object}
    actions:
      - log: {message: "{{ run.name | default('x') }} {{ run.inputs }} {{ run.url }}", fields: {all: "{{ run }}"}}
      - forward_webhook: {url: "https://a.example/{{ run.id | urlencode }}", body: "{{ payload }}"}
"""
    return compile_router(parse_config(text, environ={}), registry())


def compressed(data: bytes) -> None:
    """A body with its encoding in front of it."""
    name = ("gzip", "deflate", "zstd", "br", "gzip, deflate")[data[0] % 5] if data else ""
    try:
        coding.decode(data[1:], name, 100_000)
    except EngineError as error:
        has_words(error)


def network(data: bytes) -> None:
    """An entry of ``network: {allow: …}``, and a host."""
    text = text_of(data)
    plain_host(text)
    try:
        parse_entry(text)
    except ValueError as error:
        has_words(error)


def masked(data: bytes) -> None:
    """Secrets, one a line, the last line a text that may hold them."""
    *secrets, text = data.decode("utf-8", "replace").split("\n")
    shown = Masker(secret for secret in secrets if secret).text(text)
    left = shown.replace("***", "\0")
    assert not any(len(secret) >= 8 and secret in left for secret in secrets)


ENTRIES: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (config, template, expression, path, conditions, event, compressed, network, masked)
}
