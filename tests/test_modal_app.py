"""``deploy/modal_app.py``, built by the real ``modal`` package; nothing is deployed, nobody is called."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import modal
import pytest

from engine.cli.commands.serve import command as serve

FILE = Path(__file__).parents[1] / "deploy" / "modal_app.py"


class Calls:
    """What the file asks of modal's public decorators, each of which does its real work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        for owner, name in ((modal.App, "cls"), (modal, "web_server"), (modal, "concurrent"), (modal, "exit")):
            monkeypatch.setattr(owner, name, self._spy(name, getattr(owner, name)))

    def _spy(self, name: str, real: Any) -> Any:
        def spy(*args: Any, **kwargs: Any) -> Any:
            self.made[name] = kwargs | {"args": args}
            return real(*args, **kwargs)

        return spy


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def built(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file, executed. What modal is about to remove is an error."""
    monkeypatch.delenv("ENGINE_CONFIG", raising=False)
    spec = importlib.util.spec_from_file_location("modal_app", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "modal_app", module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec.loader.exec_module(module)
    return module


def test_the_app_is_built(built: ModuleType) -> None:
    assert isinstance(built.app, modal.App)
    assert built.app.name == "langsmith-rules-engine"
    assert isinstance(built.Engine, modal.Cls)
    assert isinstance(built.image, modal.Image)


def test_it_is_one_warm_container_with_a_volume_where_the_store_lies(built: ModuleType, calls: Calls) -> None:
    asked = calls.made["cls"]
    assert (asked["min_containers"], asked["max_containers"]) == (1, 1)
    assert list(asked["volumes"]) == [built.DATA]
    assert isinstance(asked["volumes"][built.DATA], modal.Volume)
    assert asked["image"] is built.image
    assert [type(secret) for secret in asked["secrets"]] == [modal.Secret] * 2
    assert calls.made["concurrent"]["max_inputs"] > 1, "one request at a time would make LangSmith wait"


def test_the_web_server_is_the_engines_public_listener_and_the_admin_listener_is_not(
    built: ModuleType, calls: Calls
) -> None:
    settings = parsed(built.command())
    (port,) = calls.made["web_server"]["args"]
    assert settings["listen"].port == port
    assert not settings["listen"].is_loopback, "Modal reaches it from outside the container"
    assert settings["admin"].is_loopback
    assert settings["admin"].port != port
    # The engine checks its own secret; Modal's would be headers that LangSmith need not send.
    assert not calls.made["web_server"].get("requires_proxy_auth")


def test_the_command_line_is_one_that_engine_serve_takes(built: ModuleType) -> None:
    assert built.command()[:2] == ["engine", "serve"]
    settings = parsed(built.command())
    assert settings["config"] == Path("/etc/engine/config.yaml")
    assert settings["data"] == Path(built.DATA)
    # modal.com/docs/guide/lifecycle-functions: an exit handler has 30 seconds.
    assert settings["grace"] == built.GRACE < 25


def test_the_secrets_that_its_page_creates_are_those_that_the_documented_configuration_reads() -> None:
    created = set(re.findall(r"modal secret create \S+ (\w+)=", FILE.read_text()))
    page = (FILE.parents[1] / "docs" / "from-the-langsmith-docs.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    needed = set(re.findall(r"\$\{(\w+)\}", block))
    assert created == needed


@pytest.mark.skipif(os.name != "posix", reason="the container is Linux")
@pytest.mark.parametrize(("obeys", "code"), [(True, 0), (False, -signal.SIGKILL)])
def test_the_engine_is_asked_to_stop_and_only_then_stopped(built: ModuleType, *, obeys: bool, code: int) -> None:
    answer = "lambda *_: sys.exit(0)" if obeys else "signal.SIG_IGN"
    script = (
        f"import signal, sys, time; signal.signal(signal.SIGTERM, {answer}); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    built.finish(process, patience=5.0 if obeys else 0.2)
    process.stdout.close()
    assert process.returncode == code


def parsed(line: list[str]) -> dict[str, Any]:
    """The options as the real command understands them, without running it."""
    return serve.make_context("serve", line[2:]).params
