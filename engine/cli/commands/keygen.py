"""``engine keygen``."""

from __future__ import annotations

import click

from engine.store.encryption import new_key


@click.command("keygen")
def command() -> None:
    """Make a key that encrypts what the store holds of payloads.

    Set ENGINE_STORE_KEY to it. Keep it where the store's backups are not: without it they can't
    be read. To change it, put a new one before it, with a comma between them.
    """
    click.echo(new_key())
