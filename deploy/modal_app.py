"""Serve the engine on Modal: `modal deploy deploy/modal_app.py`, with your configuration beside you as config.yaml.

Before that, once:

    modal secret create ls-webhook LANGSMITH_WEBHOOK_SECRET=…
    modal secret create my-langsmith-secret LANGSMITH_API_KEY=…

The webhook's URL for LangSmith is then what Modal prints, with `/webhooks/langsmith?secret=…` behind it.

What was accepted lies in a SQLite file on a Modal Volume, so there is one container, kept warm.
A Volume is written back in the background every few seconds and when the container stops: a host that
dies at once can take those last seconds with it, which a disk of your own does not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import modal

CONFIG = Path(os.environ.get("ENGINE_CONFIG", "config.yaml"))
PORT = 8080
DATA = "/data"

app = modal.App("langsmith-rules-engine")

image = (
    modal.Image.debian_slim(python_version="3.12")
    .pip_install("langsmith-rules-engine[notify]")
    .add_local_file(CONFIG, "/etc/engine/config.yaml")
)


@app.function(
    image=image,
    volumes={DATA: modal.Volume.from_name("langsmith-rules-engine", create_if_missing=True)},
    secrets=[modal.Secret.from_name("ls-webhook"), modal.Secret.from_name("my-langsmith-secret")],
    min_containers=1,
    max_containers=1,
    timeout=24 * 60 * 60,
)
@modal.concurrent(max_inputs=1000)
@modal.web_server(PORT, startup_timeout=60)
def serve() -> None:
    """Start the engine; Modal passes on to its port what arrives at the function's URL."""
    subprocess.Popen(command())


def command() -> list[str]:
    """The engine's command line in the container."""
    listen = f"0.0.0.0:{PORT}"
    return ["engine", "serve", "--config", "/etc/engine/config.yaml", "--data", DATA, "--listen", listen]
