"""Who is measured: the engine with several configurations, and its rivals."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.bodies import RULE
from bench.processes import ROOT, Server, environment, free_port, running
from bench.rivals import PATH

NO_ROUTES = "secrets: none\nroutes: {}\n"
#: Two routes that look at every run and match none.
NO_MATCH = f"""
secrets: none
routes:
  {RULE}:
    - name: failed
      filters: [{{path: "$.runs[*].status", eq: error}}]
      actions: [{{forward_webhook: {{url: "SINK"}}}}]
    - name: expensive
      filters:
        - {{path: "$.runs[*].total_tokens", gt: 100000}}
        - {{path: "$.runs[*].name", matches: "^support-"}}
      actions: [{{forward_webhook: {{url: "SINK"}}}}]
"""
#: What the hand-written script does: one check, one forwarded webhook.
FORWARD = f"""
secrets: none
routes:
  {RULE}:
    filters: [{{path: "$.runs[*].status", eq: success}}]
    actions: [{{forward_webhook: {{url: "SINK"}}}}]
"""
SLEEPER = f"""
secrets: none
plugins: [./plugins]
routes:
  {RULE}: {{actions: [sleeper: {{}}]}}
"""
_PLUGIN = '''
import asyncio
import time

import engine


class Sleeper(engine.Action):
    """Sleep."""

    async def run(self, params, context):
        {sleep}
'''
_SECRET = "bench"
_HOOKS = [
    {
        "id": "bench",
        "execute-command": "/bin/true",
        "trigger-rule": {
            "match": {"type": "value", "value": "error", "parameter": {"source": "payload", "name": "runs.0.status"}}
        },
    }
]

Command = Callable[[int, str], list[str]]


@dataclass(frozen=True, slots=True)
class Party:
    """A server: ``command`` makes its command line from its port and the sink's URL.

    ``files`` are written into its folder first, with the sink's URL for SINK. ``status`` is what it
    answers to a webhook, ``ready`` a path that answers 200 once it can. Of one that ``forwards``,
    what counts is what arrives at the sink. ``rests`` is False for one that is still busy long after the load.
    """

    name: str
    command: Command
    path: str = PATH
    status: int = 202
    ready: str = ""
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    checkout: Path = ROOT
    forwards: bool = False
    rests: bool = True


@contextlib.contextmanager
def served(party: Party, sink: str, folder: Path | None) -> Iterator[Server]:
    """A party's process, with a fresh folder below ``folder`` for what it keeps."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as own:
        for name, text in party.files.items():
            path = Path(own, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("SINK", sink))
        port = free_port()
        env = environment(party.checkout, **party.variables)
        command = party.command(port, sink)
        with running(command, port=port, folder=Path(own), env=env, ready=party.ready) as server:
            yield server


def engine(name: str, config: str, checkout: Path = ROOT, **changes: object) -> Party:
    """``engine serve`` of a checkout, with everything by default but its addresses."""
    files = {"config.yaml": config, **changes.pop("files", {})}
    return Party(name, _serve, ready="/readyz", files=files, checkout=checkout, **changes)


def _serve(port: int, _: str) -> list[str]:
    listen, admin = f"127.0.0.1:{port}", "127.0.0.1:0"
    return [sys.executable, "-P", "-m", "engine", "serve", "-c", "config.yaml", "--listen", listen, "--admin", admin]


def sleeper(name: str, sleep: str, checkout: Path = ROOT) -> Party:
    """The engine with a plug-in that sleeps at every event."""
    plugin = {"plugins/sleeper.py": _PLUGIN.format(sleep=sleep)}
    return engine(name, SLEEPER, checkout, files=plugin, rests=False)


def rival(name: str, module: str, **changes: object) -> Party:
    """One of ``bench.rivals``."""
    command = [sys.executable, "-P", "-m", "bench.rivals", module]
    return Party(name, lambda port, sink: [*command, str(port), sink], **changes)


def nothing(name: str) -> Party:
    """A server that does next to nothing: how fast the generator can be."""
    command = [sys.executable, "-P", "-m", "bench.sink", "--port"]
    return Party(name, lambda port, _: [*command, str(port)], status=200)


def documented(name: str) -> list[Party]:
    """LangSmith's FastAPI handler under uvicorn, without a log line per request, where it is installed."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))):
        return []
    options = ["--no-access-log", "--loop", "uvloop"]
    party = Party(
        name,
        lambda port, _: [sys.executable, "-P", "-m", "uvicorn", "bench.documented:app", "--port", str(port), *options],
        path=f"/?secret={_SECRET}",
        status=200,
        variables={"LS_WEBHOOK": _SECRET},
    )
    return [party]


def debian_webhook(name: str) -> list[Party]:
    """Debian's ``webhook`` with a hook whose rule does not match, so that no command runs, where it is installed."""
    binary = shutil.which("webhook")
    if binary is None:
        return []
    party = Party(
        name,
        lambda port, _: [binary, "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port)],
        path="/hooks/bench",
        status=200,
        files={"hooks.json": json.dumps(_HOOKS)},
    )
    return [party]
