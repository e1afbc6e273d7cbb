"""The live configuration: what counts as a change, what is loaded, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import Config
from engine.core.errors import ConfigError
from engine.core.serve_settings import Address
from engine.rules import load_limit, reload
from engine.rules.reload import Loader, Reloader
from engine.rules.requirements import needs_secrets

LOGGER = logging.getLogger("engine.test_reload")
LISTENING = Address("0.0.0.0", 8080)
PLUGIN = """
import engine


class Ticket(engine.Action):
    \"\"\"Edition {edition}.\"\"\"

    class Params(engine.Params):
        pass

    async def run(self, params, context):
        return None
"""


class Place:
    """A configuration file in a folder of its own, and who loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "config.yaml"
        self.reloader: Reloader
        self.loader: Loader

    def write(self, secrets: str = "a-good-secret", rest: str = "") -> None:
        self.path.write_text(f"secrets: {secrets}\nroutes: {{}}\n{rest}")

    def start(self, environ: dict[str, str] | None = None, check: Callable[[Config], None] | None = None) -> Reloader:
        self.loader = Loader(self.path, environ or {}, check=check)
        self.reloader = Reloader(self.loader, self.loader.load(), LOGGER)
        return self.reloader

    @property
    def secrets(self) -> tuple[str, ...] | None:
        return self.reloader.current.config.secrets


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.write()
    return made


# --- what is required of it ------------------------------------------------------------------------------------------


def test_a_missing_secret_is_refused_unless_the_listener_is_on_loopback(place: Place) -> None:
    place.write("none")
    with pytest.raises(ConfigError) as caught:
        place.start(check=needs_secrets(LISTENING))
    (problem,) = caught.value.problems
    assert problem.message == "'secrets: none' is allowed on loopback only, not on 0.0.0.0:8080"
    assert problem.place == f"{place.path}:1:10"


async def test_a_reload_cannot_take_the_secrets_away(place: Place) -> None:
    reloader = place.start(check=needs_secrets(LISTENING))
    place.write("none")
    last = await reloader.reload()
    assert [problem.message for problem in last.problems] == [
        "'secrets: none' is allowed on loopback only, not on 0.0.0.0:8080"
    ]
    assert place.secrets == ("a-good-secret",)


async def test_on_loopback_no_secret_will_do(place: Place) -> None:
    reloader = place.start(check=needs_secrets(Address("127.0.0.1", 0)))
    place.write("none")
    assert (await reloader.reload()).good
    assert place.secrets is None


async def test_what_a_check_reports_comes_with_all_other_problems(place: Place) -> None:
    place.write("none", "vras: {}\n")
    with pytest.raises(ConfigError) as caught:
        place.start(check=needs_secrets(LISTENING))
    assert [problem.line for problem in caught.value.problems] == [1, 3]


# --- what counts as a change -----------------------------------------------------------------------------------------


async def test_what_was_loaded_is_no_change(place: Place) -> None:
    reloader = place.start()
    assert not await reloader.changed()
    await reloader.reload()
    assert not await reloader.changed()


async def test_an_edit_made_while_a_reload_runs_counts(place: Place) -> None:
    edits = iter(["", "edited-meanwhile", ""])

    def check(_config: Config) -> None:  # runs when the file has been read
        if edit := next(edits):
            place.write(edit)

    reloader = place.start(check=check)
    place.write("first-edit")
    await reloader.reload()
    assert place.secrets == ("first-edit",)
    assert await reloader.changed()
    await reloader.reload()
    assert place.secrets == ("edited-meanwhile",)
    assert not await reloader.changed()


async def test_an_edit_between_loading_and_watching_counts(place: Place) -> None:
    loader = Loader(place.path, {})
    loaded = loader.load()
    place.write("another-secret")
    assert await Reloader(loader, loaded, LOGGER).changed()


async def test_an_edit_that_a_file_s_times_do_not_show_counts(place: Place) -> None:
    reloader = place.start()
    for round_ in range(3):
        before = place.path.stat()
        place.write(f"a-good-secre{round_}")
        os.utime(place.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert place.path.stat().st_size == before.st_size
        assert await reloader.changed()
        await reloader.reload()


async def test_a_touched_file_is_no_change(place: Place) -> None:
    reloader = place.start()
    os.utime(place.path, (1, 1))
    assert not await reloader.changed()


async def test_what_has_not_changed_is_not_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(place.path, (1, 1))
    reloader = place.start()
    monkeypatch.setattr("engine.core.fingerprint.digest_of", lambda file: pytest.fail(f"{file} was read"))
    assert not await reloader.changed()


async def test_a_secret_in_a_file_that_is_rotated_is_a_change(place: Place) -> None:
    secret = place.folder / "run" / "secret"
    secret.parent.mkdir()
    secret.write_text("the-first-secret\n")
    place.write('["${file:run/secret}"]')
    reloader = place.start()
    assert secret.parent in place.loader.folders()
    assert not await reloader.changed()
    secret.write_text("the-other-secret\n")
    assert await reloader.changed()
    await reloader.reload()
    assert place.secrets == ("the-other-secret",)


async def test_a_secret_in_a_mounted_folder_is_watched_where_it_really_lies(place: Place) -> None:
    for name in ("..one", "..two"):  # as Kubernetes mounts a Secret
        (place.folder / "mount" / name).mkdir(parents=True)
        (place.folder / "mount" / name / "token").write_text(f"secret-of-{name}")
    data, token = place.folder / "mount" / "..data", place.folder / "mount" / "token"
    data.symlink_to("..one")
    token.symlink_to("..data/token")
    place.write('["${file:mount/token}"]')
    reloader = place.start()
    assert {place.folder / "mount", place.folder / "mount" / "..one"} <= place.loader.folders()
    (place.folder / "mount" / "..tmp").symlink_to("..two")
    (place.folder / "mount" / "..tmp").rename(data)
    assert await reloader.changed()
    await reloader.reload()
    assert place.secrets == ("secret-of-..two",)


async def test_a_file_that_was_missing_counts_once_it_is_there(place: Place) -> None:
    reloader = place.start()
    place.write('["${file:secret}"]')
    assert not (await reloader.reload()).good
    assert not await reloader.changed()
    (place.folder / "secret").write_text("here-it-is")
    assert await reloader.changed()
    assert (await reloader.reload()).good
    assert place.secrets == ("here-it-is",)


async def test_a_plug_in_that_blocked_a_new_configuration_is_used_once_it_is_fixed(place: Place) -> None:
    reloader = place.start()
    folder = place.folder / "plugins"
    folder.mkdir()
    (folder / "ticket.py").write_text("raise RuntimeError('not yet')\n")
    place.path.write_text(
        "secrets: a-good-secret\nplugins: [./plugins]\nroutes: {alert: {actions: [{ticket: {}}]}}\n",
    )
    assert not (await reloader.reload()).good
    assert folder in place.loader.folders()
    (folder / "ticket.py").write_text(PLUGIN.format(edition=1))
    assert await reloader.changed()
    assert (await reloader.reload()).good


async def test_a_broken_file_is_tried_once_and_again_when_it_changes(place: Place) -> None:
    reloader = place.start()
    place.path.write_text("secrets: [")
    assert not (await reloader.reload()).good
    assert not await reloader.changed()
    place.write("mended-secret")
    assert await reloader.changed()


async def test_what_an_action_imports_at_work_is_there_before_its_first_delivery(place: Place) -> None:
    plugins = place.folder / "plugins"
    plugins.mkdir()
    (place.folder / "heavy_for_a_test.py").write_text("")
    (plugins / "lifts.py").write_text(
        "import engine\n\nclass Lifts(engine.Action):\n"
        '    libraries = ("heavy_for_a_test", "there_is_no_such_module")\n\n'
        "    async def run(self, params, context):\n        return None\n"
    )
    place.path.write_text("secrets: a-good-secret\nplugins: [plugins]\nroutes: {'*': {actions: [{lifts: {}}]}}\n")
    sys.path.insert(0, str(place.folder))
    try:
        await Loader(place.path, {}).load_offloaded()
        assert "heavy_for_a_test" in sys.modules
    finally:
        sys.path.remove(str(place.folder))
        sys.modules.pop("heavy_for_a_test", None)


async def test_a_reload_that_crashes_is_not_tried_over_and_over(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    def crash(config: Config) -> None:
        if config.secrets == ("crash-it-now",):
            raise RuntimeError("a fault of ours")

    reloader = place.start(check=crash)
    place.write("crash-it-now")
    last = await reloader.reload()
    assert last.problems[0].message == "RuntimeError: a fault of ours"
    assert "Traceback" in caplog.text
    assert not await reloader.changed()


async def test_a_reload_that_never_ends_leaves_the_garbage_collector_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    during: list[tuple[int, int, int]] = []

    def block(config: Config) -> None:
        if config.secrets == ("block-it-now",):
            during.append(gc.get_threshold())
            end.wait(30)

    before = gc.get_threshold()
    reloader = place.start(check=block)
    place.write("block-it-now")
    monkeypatch.setattr(load_limit, "LONGEST_LOADING", 0.3)
    last = await reloader.reload()
    after = gc.get_threshold()
    end.set()
    assert last.problems[0].message == "loading has not ended within 0.3 s"
    assert during == [(before[0], 1, 1_000_000)]
    assert after == before


@pytest.mark.parametrize("name", ["/dev/zero", ".", r"a\0b", "a" * 5000])
async def test_what_is_no_file_is_looked_at_without_harm(place: Place, name: str) -> None:
    place.path.write_text(f'secrets: "${{file:{name}}}"\nroutes: {{}}\n')
    loader = Loader(place.path, {})
    with pytest.raises(ConfigError):
        loader.load()
    assert loader.look() == loader.seen
    assert place.folder in loader.folders()


# --- watching --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watching(reloader: Reloader) -> Any:
    task = asyncio.create_task(reloader.watch())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_watching_survives_whatever_happens_to_the_watcher_and_says_so_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def broken(*_folders: Path, **_options: Any) -> Any:
        nonlocal calls
        calls += 1
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(reload, "awatch", broken)
    monkeypatch.setattr(reload, "_PAUSE", 0.02)
    reloader = place.start()
    async with watching(reloader) as task:
        await until(lambda: calls > 3)
        place.write("changed-all-the-same")
        await until(lambda: place.secrets == ("changed-all-the-same",))
        assert not task.done()
    assert caplog.text.count("watching the configuration failed") == 1
    assert "inotify watch limit reached" in caplog.text


async def test_a_rotated_secret_counts_without_anybody_asking(place: Place) -> None:
    secret = place.folder / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_text("the-first-secret")
    place.write('["${file:elsewhere/secret}"]')
    async with watching(place.start()):
        await asyncio.sleep(0.3)
        secret.write_text("the-second-one")
        await until(lambda: place.secrets == ("the-second-one",), 3)


async def test_a_file_system_that_hangs_does_not_stop_the_loop(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reloader = place.start()
    monkeypatch.setattr(Loader, "look", lambda _self: time.sleep(0.5) or ())
    beats = 0
    looking = asyncio.create_task(reloader.changed())
    while not looking.done():
        await asyncio.sleep(0.01)
        beats += 1
    assert beats > 10


# --- what is kept ----------------------------------------------------------------------------------------------------


async def test_installed_actions_are_made_once(place: Place) -> None:
    reloader = place.start()
    before = {registered.name: registered.action for registered in reloader.current.registry}
    assert "post_to_slack" in before
    place.write("another-secret")
    await reloader.reload()
    assert place.secrets == ("another-secret",)
    assert all(registered.action is before[registered.name] for registered in reloader.current.registry)


async def test_secrets_stay_masked_however_many_reloads_follow(place: Place) -> None:
    reloader = place.start()
    for number in range(4):
        place.write(f"secret-number-{number}")
        await reloader.reload()
    words = "a-good-secret secret-number-0 secret-number-1 secret-number-2 secret-number-3"
    assert reloader.masker.text(words) == "*** *** *** *** ***"


async def test_secrets_of_a_configuration_with_mistakes_are_masked_before_the_mistakes_are_reported(
    place: Place,
) -> None:
    reloader = place.start()
    place.write("new-and-broken-secret", "vras: {}\n")
    assert not (await reloader.reload()).good
    assert reloader.masker.text("new-and-broken-secret a-good-secret") == "*** ***"
