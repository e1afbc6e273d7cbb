"""Serve the engine on Modal: `modal deploy deploy/modal_app.py`, with your configuration beside you as config.yaml.

Before that, once:

    modal secret create ls-webhook LS_WEBHOOK=…
    modal secret create my-langsmith-secret LANGSMITH_API_KEY=…

with the names that your configuration reads: these are those of docs/from-the-langsmith-docs.md.

The webhook's URL for LangSmith is then what Modal prints, with `/webhooks/langsmith?secret=…` behind it.
After a change to the configuration, deploy again.

What was accepted lies in a SQLite file on a Modal Volume, so there is one container, kept warm: a cold
start could take longer than the five seconds that LangSmith waits for an answer. A Volume is written
back in the background every few seconds and when the container stops: a host that dies at once can take
those last seconds with it, which a disk of your own does not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import modal

CONFIG = Path(os.environ.get("ENGINE_CONFIG", "config.yaml"))
PORT = 8080
DATA = "/data"
#: How long the engine may finish what is under way, in seconds. Modal gives a stopping container 30.
GRACE = 20

app = modal.App("langsmith-rules-engine")

image = (
    modal.Image.debian_slim(python_version="3.12")
    .pip_install("langsmith-rules-engine[notify]")
    .add_local_file(CONFIG, "/etc/engine/config.yaml")
)


@app.cls(
    image=image,
    volumes={DATA: modal.Volume.from_name("langsmith-rules-engine", create_if_missing=True)},
    secrets=[modal.Secret.from_name("ls-webhook"), modal.Secret.from_name("my-langsmith-secret")],
    min_containers=1,
    max_containers=1,
)
@modal.concurrent(max_inputs=1000)
class Engine:
    """One engine in one container."""

    @modal.enter()
    def start(self) -> None:
        """Start the engine with the container."""
        self.process = subprocess.Popen(command())

    @modal.web_server(PORT, startup_timeout=60)
    def serve(self) -> None:
        """Modal passes on to the engine's port what arrives at this method's URL."""

    @modal.exit()
    def stop(self) -> None:
        """Let the engine finish what is under way, before Modal writes the Volume back."""
        finish(self.process)


def command() -> list[str]:
    """The engine's command line in the container."""
    listen = f"0.0.0.0:{PORT}"
    paths = ["--config", "/etc/engine/config.yaml", "--data", DATA]
    return ["engine", "serve", *paths, "--listen", listen, "--grace", f"{GRACE}s"]


def finish(process: subprocess.Popen[bytes], patience: float = GRACE + 5) -> None:
    """Ask the engine to stop; after so many seconds stop it. What it had not finished it takes up at its next start."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
