"""The built-in sample webhooks, for commands that take one instead of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from engine.testing import payloads

F = TypeVar("F", bound=Callable[..., Any])

SAMPLES: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "rule": payloads.complete,
    "seed": payloads.seed,
    "thread": payloads.threads,
    "alert": payloads.alert,
    "prompt": payloads.prompt_commit,
    "issue": payloads.issue,
    "context_hub": payloads.context_hub_commit,
}

kind_option = click.option("--kind", type=click.Choice(list(SAMPLES)), help="A built-in sample instead of a file.")


def sample_body(kind: str) -> bytes:
    """A sample as the bytes of a webhook."""
    return payloads.to_body(SAMPLES[kind]())
