"""``engine store``: back up the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.support.access import place_from
from engine.cli.support.admin_client import AccessError
from engine.cli.support.options import config_option, json_option, store_options
from engine.cli.support.output import emit, out
from engine.core.units import format_size


@click.group("store")
def command() -> None:
    """Look after the store."""


@command.command("backup")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@store_options
@config_option
@json_option
def backup(target: Path, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Write a copy of the store to FILE, which must not exist yet.

    It works beside a running engine, which goes on accepting webhooks, and on the store of a stopped one. The copy
    has everything that was accepted before it began. It is a store like any other: to restore it, stop the engine,
    move engine.db, engine.db-wal and engine.db-shm away, and put the copy in place of engine.db.

    What ENGINE_STORE_KEY encrypts stays encrypted: keep the key, but not beside the copy.
    """
    from engine.store.sqlite.backup import back_up

    source = place_from(options).file
    if source is None:
        raise AccessError("only a SQLite store can be backed up with this", "other databases have tools of their own")
    made = back_up(source, target)
    if as_json:
        emit({"file": str(made.file), "bytes": made.size, "seconds": round(made.seconds, 3), "store": str(source)})
        return
    out().print(f"{made.file}: {format_size(made.size)} in {made.seconds:.1f} s")
