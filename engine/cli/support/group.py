"""Groups of commands that do the usual thing where no command is named."""

from __future__ import annotations

import difflib
import re
from typing import Any

import click

#: An id of an event or a delivery, or its start, and the word for the newest one. No command is called so.
_ID = re.compile(r"last|(?=.*[0-9])[0-9a-f-]+", re.IGNORECASE)


class DefaultGroup(click.Group):
    """A group with a command for whoever names none: ``engine events --kind alert`` is ``engine events list …``."""

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._default = default

    @property
    def _shows(self) -> bool:
        """Whether an id alone is shown."""
        return "show" in self.commands and self._default != "show"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the default command put before options that stand alone, and ``show`` before an id."""
        asks_for_help = bool(args) and args[0] in ctx.help_option_names
        if not asks_for_help and (not args or args[0].startswith("-")):
            args = [self._default, *args]
        elif self._shows and _ID.fullmatch(args[0]):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; what is no command but reads as an id is shown, and for other names there is advice."""
        if args and args[0] not in self.commands and "show" in self.commands and _ID.fullmatch(args[0]):
            args = ["show", *args]
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.7)
            show = f" To show one: {ctx.command_path} show {args[0]}" if "show" in self.commands else ""
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else show))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the default command, which are the group's where no command is named; then the commands."""
        default = self.commands[self._default]
        inner = click.Context(default, info_name=self._default, parent=ctx)
        records = [record for option in default.get_params(inner) if (record := option.get_help_record(inner))]
        with formatter.section(f"Options (of {self._default}, which is meant where no command is named)"):
            formatter.write_dl(records)
        self.format_commands(ctx, formatter)
