"""The simple blocks of the file: ``secrets signing_secrets langsmith slack defaults plugins vars``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from yarl import URL

from engine.clients.addresses import is_metadata, parse_address
from engine.clients.langsmith import LangSmithSettings
from engine.clients.slack import SlackSettings
from engine.config.blocks.actions import read_retry
from engine.config.model import DEFAULT_RETRY, DEFAULT_TIMEOUT, RetrySpec
from engine.config.section import Reader, Section, kind_of
from engine.core.signatures import secret_problem
from engine.core.units import parse_duration

#: ``$NAME``, ``%NAME%``, ``{{ env.NAME }}`` and any other template.
_SHELL_HABIT: Final = re.compile(
    r"""\$([A-Z_][A-Z0-9_]*)|%([A-Z_][A-Z0-9_]*)%|\{\{\s*(?:env(?:iron)?(?:\.|\[['"]))?([A-Z_][A-Z0-9_]*)?.*\}\}"""
)
_FITS_HEADER: Final = re.compile(r"[\x21-\x7e]+")
_SECRETS_LINE: Final = 'write secrets: ["${LANGSMITH_WEBHOOK_SECRET}"], or secrets: none to listen on loopback only'
_SIGNING_LINE: Final = 'write signing_secrets: ["${SIGNING_SECRET}"]'
_LANGSMITH_WORDS: Final = {
    "key": "api_key",
    "token": "api_key",
    "url": "endpoint",
    "api_url": "endpoint",
    "tenant_id": "workspace_id",
    "workspace": "workspace_id",
    "retention": "trace_retention",
    "ttl": "trace_retention",
}
#: Bounds of how long LangSmith keeps traces, in seconds.
_DAY: Final = 86400.0
_LONGEST_RETENTION: Final = 3660 * _DAY
#: Where a service is, where the file does not say so.
ENDPOINT_VARIABLES: Final = {"langsmith": "LANGSMITH_ENDPOINT", "slack": "SLACK_ENDPOINT"}
_SLACK_WORDS: Final = {"bot_token": "token", "api_key": "token", "base_url": "endpoint", "url": "endpoint"}


def read_secrets(top: Section) -> tuple[str, ...] | None:
    """The secrets a webhook may bear; None is the word ``none``. One text is a list of one.

    They may be left out where bodies have to be signed.
    """
    where = ("secrets",)
    if "secrets" not in top.values:
        if where not in top.reader.meant and "signing_secrets" not in top.values:
            message = "'secrets' is missing: without one, anybody could post events"
            top.reader.source.report((), message, _SECRETS_LINE)
        return ()
    value = top.values["secrets"]
    if value == "none" and where not in top.reader.interpolated:
        return None
    return _secrets(top, "secrets", _SECRETS_LINE, "LANGSMITH_WEBHOOK_SECRET")


def read_signing_secrets(top: Section, secrets: tuple[str, ...] | None) -> tuple[str, ...]:
    """The secrets with which a webhook's body may be signed. One text is a list of one."""
    where = ("signing_secrets",)
    if "signing_secrets" not in top.values:
        return ()
    if secrets is None:
        message = "'secrets: none' lets everybody post, signed or not"
        top.reader.wrong(where, message, "remove one of the two")
    if top.values["signing_secrets"] == "none" and where not in top.reader.interpolated:
        top.reader.wrong(where, "'signing_secrets: none' would accept no signature", "leave the key out")
    found = _secrets(top, "signing_secrets", _SIGNING_LINE, "SIGNING_SECRET")
    for index, secret in enumerate(found):
        if problem := secret_problem(secret):
            at = (*where, index) if isinstance(top.values["signing_secrets"], list) else where
            from_here = 'write it from whsec_ on: signing_secrets: ["whsec_…"]'
            other = "write whsec_ and the base64 behind it, as the sender shows it"
            top.reader.wrong(at, problem, from_here if "whsec_" in secret[1:] else other)
    return found


def _secrets(top: Section, key: str, line: str, variable: str) -> tuple[str, ...]:
    value, where = top.values[key], (key,)
    if isinstance(value, str) or top.reader.number_as_written(value, where):
        return _one_secret(top, value, where, line, variable)
    if not isinstance(value, list):
        top.reader.wrong(where, f"{key!r} must be a list of texts, not {kind_of(value)}", line)
        return ()
    if not value:
        top.reader.wrong(where, f"{key!r} is empty: without one, anybody could post events", line)
    items = enumerate(value)
    return tuple(one for index, item in items for one in _one_secret(top, item, (*where, index), line, variable))


def _one_secret(top: Section, value: Any, where: tuple[str | int, ...], line: str, variable: str) -> tuple[str, ...]:
    if not isinstance(value, str):
        number = top.reader.number_as_written(value, where)
        what = f"the number {number[:30]}" if number else kind_of(value)
        top.reader.wrong(where, f"a secret must be a text, not {what}", f'quote it: "{number}"' if number else line)
        return ()
    if not value.strip():
        hint = top.reader.how_to_fill(where, line)
        top.reader.wrong(where, "a secret is empty: without one, anybody could post events", hint)
        return ()
    if _is_shell_habit(top.reader, value, where, variable):
        return ()
    if value != value.strip():
        top.reader.wrong(where, "a secret begins or ends with white space, which no header can hold")
    return (value,)


def read_langsmith(top: Section) -> LangSmithSettings:
    """How to reach LangSmith."""
    default = LangSmithSettings()
    section = top.block("langsmith", {"api_key", "endpoint", "workspace_id", "trace_retention"}, _LANGSMITH_WORDS)
    if section is None:
        return default
    return LangSmithSettings(
        api_key=_setting(section, "api_key", "LANGSMITH_API_KEY"),
        endpoint=_endpoint(section, default.endpoint),
        workspace_id=_setting(section, "workspace_id", "LANGSMITH_WORKSPACE_ID"),
        retention=section.parsed("trace_retention", None, _trace_retention),
    )


def _trace_retention(value: Any) -> float:
    seconds = parse_duration(value)
    if not _DAY <= seconds <= _LONGEST_RETENTION:
        raise ValueError(f"{value!r} is not how long LangSmith keeps traces; write a time from 1d to 3660d")
    return seconds


def read_slack(top: Section) -> SlackSettings:
    """How to reach Slack."""
    default = SlackSettings()
    section = top.block("slack", {"token", "endpoint"}, _SLACK_WORDS)
    if section is None:
        return default
    token = _setting(section, "token", "SLACK_BOT_TOKEN")
    return SlackSettings(token=token, endpoint=_endpoint(section, default.endpoint).rstrip("/") + "/")


def read_defaults(top: Section) -> tuple[float, RetrySpec]:
    """The timeout in seconds and the retry policy of actions that say nothing else."""
    section = top.block("defaults", {"timeout", "retry"}, {"retries": "retry"})
    if section is None:
        return DEFAULT_TIMEOUT, DEFAULT_RETRY
    retry = None
    if "retry" in section.values:
        retry = read_retry(top.reader, section.values["retry"], ("defaults", "retry"))
    return section.duration("timeout", DEFAULT_TIMEOUT) or DEFAULT_TIMEOUT, (retry or RetrySpec()).over(DEFAULT_RETRY)


def read_vars(top: Section) -> Mapping[str, Any]:
    """The author's own values: any tree."""
    value = top.values.get("vars", {})
    if isinstance(value, dict):
        return value
    top.reader.wrong(("vars",), f"'vars' must be a mapping (key: value), not {kind_of(value)}")
    return {}


def read_plugins(top: Section, base: Path | None) -> tuple[Path, ...]:
    """The folders of plug-ins, relative to the file; none where there is no file to be relative to."""
    value = top.values.get("plugins", [])
    if not isinstance(value, list):
        top.reader.wrong(
            ("plugins",), f"'plugins' must be a list of folders, not {kind_of(value)}", "plugins: [./plugins]"
        )
        return ()
    folders = [_folder(top, item, ("plugins", index), base) for index, item in enumerate(value)]
    return tuple(dict.fromkeys(folder for folder in folders if folder is not None))


def _folder(top: Section, value: Any, where: tuple[str | int, ...], base: Path | None) -> Path | None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        top.reader.wrong(where, f"a folder of plug-ins must be a path, not {kind_of(value)}")
        return None
    if base is None or where in top.reader.quiet:
        return None
    folder = base / value.strip()
    try:
        problem = "" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        top.reader.wrong(where, f"the folder {folder} {problem}", "paths count from the configuration file's folder")
        return None
    return folder


def _setting(section: Section, key: str, variable: str) -> str | None:
    """A text that is usually a variable's; ``variable`` is the usual one."""
    text = section.text(key)
    if text is not None:
        where = (*section.where, key)
        if not _is_shell_habit(section.reader, text, where, variable) and not _FITS_HEADER.fullmatch(text):
            section.reader.wrong(where, f"'{key}' holds a character that no header can: a space, or one beyond ASCII")
    return text


def _is_shell_habit(reader: Reader, text: str, where: tuple[str | int, ...], variable: str) -> bool:
    """Whether a text was meant as a variable, as shells and templates write one."""
    found = _SHELL_HABIT.fullmatch(text.strip())
    if found is None or where in reader.interpolated or where in reader.quiet:
        return False
    name = next(filter(None, found.groups()), variable)
    reader.wrong(where, f"{text.strip()!r} is taken as it is written: it is not a variable", f'write "${{{name}}}"')
    return True


def _endpoint(section: Section, default: str) -> str:
    """A web address, without a slash at its end."""
    text = section.text("endpoint", default) or default
    where, variable = (*section.where, "endpoint"), ENDPOINT_VARIABLES[str(section.where[0])]
    if _is_shell_habit(section.reader, text, where, variable):
        return default
    what = repr(text[:80]) if where in section.reader.source.marks else f"{variable}={text[:80]!r}"
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        URL(text)  # as the clients read it
    except ValueError:
        good = False
    address = parse_address(parts.hostname or "") if good else None
    if address is not None and is_metadata(address):
        message = f"{what} is a cloud's metadata service, which is never reached"
        section.reader.wrong(where, message, f"write it like {default}")
        return default
    if not good and where not in section.reader.quiet:
        section.reader.wrong(where, f"{what} is not a web address", f"write it like {default}")
        return default
    return text.rstrip("/") if good else default
