"""From a file, or pasted text, to a ``Config``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

from engine.config.blocks.actions import ENGINE_KEYS
from engine.config.blocks.limits import read_limits
from engine.config.blocks.network import read_network
from engine.config.blocks.retention import read_retention
from engine.config.blocks.routes import read_routes, read_rules
from engine.config.blocks.simple import (
    ENDPOINT_VARIABLES,
    read_defaults,
    read_langsmith,
    read_plugins,
    read_secrets,
    read_signing_secrets,
    read_slack,
    read_vars,
)
from engine.config.keys import FILE_KEYS, FILE_WORDS
from engine.config.misplaced import Misplaced, misplaced, missed, without
from engine.config.misplaced import report as report_misplaced
from engine.config.model import Config
from engine.config.section import Reader, Section
from engine.config.variables import MASK, Interpolated, interpolate
from engine.config.yaml.mistakes import comment_hint
from engine.config.yaml.read import MAX_BYTES, Parsed, read_yaml, too_large
from engine.core.env_file import EnvFile, EnvValues, read_env_file
from engine.core.errors import ConfigError
from engine.core.fingerprint import digest_of, plugin_files
from engine.core.masking import Masker
from engine.core.positions import Source, Where

#: Settings that are secrets even where they are written into the file.
_SECRET_PLACES: Final = (("langsmith", "api_key"), ("slack", "token"))
_SECRET_LISTS: Final = ("secrets", "signing_secrets")
_BEGINNING: Final = 'begin with: secrets: ["${LANGSMITH_WEBHOOK_SECRET}"] and routes: (see config.example.yaml)'


def load_config(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    env_file: EnvFile | None = None,
    text: str | bytes | None = None,
    stand_ins: bool = False,
) -> Config:
    """Read a configuration file. ``environ`` is the process's own unless given; ``text`` stands in for the content.

    ``env_file`` has variables that ``environ`` has not. With ``stand_ins`` a variable that is not set is no problem.

    Raises:
        ConfigError: with every problem of YAML, variables and structure.
    """
    return _sound(read_config(path, environ=environ, env_file=env_file, text=text, stand_ins=stand_ins))


def parse_config(
    text: str | bytes, *, file: str = "pasted", environ: Mapping[str, str] | None = None, base_dir: Path | None = None
) -> Config:
    """Read a configuration that is not a file.

    Without ``environ`` variables become placeholders (``<NAME>``), without ``base_dir``
    ``${file:…}`` does too and ``plugins`` are left out: so a text from elsewhere reads neither.

    Raises:
        ConfigError: with every problem of YAML, variables and structure.
    """
    return _sound(_read(text, file, environ, base_dir))


def read_config(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    env_file: EnvFile | None = None,
    text: str | bytes | None = None,
    stand_ins: bool = False,
) -> Config:
    """As ``load_config``, but problems of variables and structure stay in ``config.source.problems``.

    So the caller can go on to compile what is sound, and report everything at once.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    if text is None:
        text = _bytes_of(path)
    named = os.environ if environ is None else environ
    return _read(text, str(path), named, path.absolute().parent, env_file=env_file, stand_ins=stand_ins)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise too_large(str(path))
            return file.read(MAX_BYTES + 1)  # a pipe has no size, and may have no end
    except OSError as error:
        source = Source(str(path))
        source.report((), f"cannot read the configuration: {error.strerror or error}")
        raise ConfigError(source.problems) from None


def _sound(config: Config) -> Config:
    if config.source.problems:
        raise ConfigError(config.source.problems)
    return config


def _read(
    text: str | bytes,
    file: str,
    environ: Mapping[str, str] | None,
    base: Path | None,
    *,
    env_file: EnvFile | None = None,
    stand_ins: bool = False,
) -> Config:
    parsed = read_yaml(text, file)
    _require_mapping(parsed)
    moved = tuple(misplaced(parsed.tree))
    for group in moved:
        report_misplaced(parsed.source, group, parsed.tree)
    _report_empty(parsed, moved)
    beside = read_env_file(env_file, file)
    known = None if environ is None else {**beside.values, **environ}
    tree = _with_endpoints(without(parsed.tree, moved), known or {})
    found = interpolate(tree, parsed.source, known, base, elsewhere=_elsewhere(env_file))
    _report_variables(parsed.source, beside, found, stand_ins=stand_ins)
    reader = Reader(parsed.source, parsed.empty | found.failed, found.places)
    reader.meant.update(place for group in moved for place in missed(parsed.tree, group))
    section = Section(reader, found.tree, ())
    section.report_unknown("the file", FILE_KEYS, FILE_WORDS)
    return _assemble(section, found, file, base, beside)


def _with_endpoints(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The tree with ``endpoint: ${NAME}`` where the file has no endpoint and the variable is set."""
    added = {}
    for block, variable in ENDPOINT_VARIABLES.items():
        written = tree.get(block, {})
        if isinstance(written, dict) and "endpoint" not in written and environ.get(variable):
            added[block] = {**written, "endpoint": f"${{{variable}}}"}
    return {**tree, **added}


def _elsewhere(env_file: EnvFile | None) -> str:
    return "" if env_file is None else f" in the environment or in {env_file.path}"


def _report_variables(source: Source, beside: EnvValues, found: Interpolated, *, stand_ins: bool) -> None:
    """Report what is wrong with the file of variables; only where nothing is, what is not set."""
    problems = beside.problems or (() if stand_ins else [each.problem for each in found.unset])
    for problem in problems:
        source.add(problem)


def _assemble(section: Section, found: Interpolated, file: str, base: Path | None, beside: EnvValues) -> Config:
    reader, tree = section.reader, found.tree
    timeout, retry = read_defaults(section)
    rules = read_rules(reader, tree.get("rules", {}), ("rules",))
    secrets = read_secrets(section)
    signing_secrets = read_signing_secrets(section, secrets)
    plugins = read_plugins(section, base)
    masked = found.masked | _written_secrets(found, {*(secrets or ()), *signing_secrets})
    shown = _shown(found.shown)
    code = _digests(plugins)
    return Config(
        file=file,
        source=reader.source,
        hash=_hash(Masker(masked).tree(shown), code)[:12],
        private_hash=_hash(tree, code),
        secrets=secrets,
        signing_secrets=signing_secrets,
        langsmith=read_langsmith(section),
        slack=read_slack(section),
        network=read_network(section),
        timeout=timeout,
        retry=retry,
        limits=read_limits(section),
        plugins=plugins,
        vars=read_vars(section),
        rules=rules,
        routes=_routes(section, rules),
        masked=masked,
        shown=shown,
        files=found.files,
        retention=read_retention(section),
        env_file=beside.path,
        unset=() if beside.problems else found.unset,  # where that file can't be used, it may have them
    )


def _routes(section: Section, rules: Mapping[str, tuple[str, ...]]) -> Any:
    if "routes" not in section.values:
        if ("routes",) in section.reader.meant:
            return ()
        hint = "write routes: and below it, for each rule, its filters and actions"
        section.reader.source.report((), "'routes' is missing", hint)
        return ()
    return read_routes(section.reader, section.values["routes"], ("routes",), rules)


def _require_mapping(parsed: Parsed) -> None:
    if isinstance(parsed.tree, dict):
        return
    source = parsed.source
    if not source.problems:
        what = "the file is empty" if parsed.tree is None else "the file must be a mapping (key: value)"
        source.at(1, 1, what, _BEGINNING)
    raise ConfigError(source.problems)


def _hash(tree: Any, code: Any) -> str:
    """SHA-256 of a tree, and of the plug-ins beside it. Order counts: it is a meaning."""
    canonical = json.dumps([tree, code], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digests(plugins: Sequence[Path]) -> list[list[tuple[str, str]]]:
    """Name and digest of every file of the plug-in folders, wherever those are."""
    return [[(file.name, digest_of(file).hex()) for file in plugin_files(folder)] for folder in plugins]


# --- empty values ----------------------------------------------------------------------------------------------------


def _report_empty(parsed: Parsed, moved: Sequence[Misplaced]) -> None:
    """``key:`` with nothing behind it is a mistake everywhere but at an action without parameters.

    What only seems to be empty because what belongs below it is misplaced is not reported.
    """
    above, gone = {group.into for group in moved}, {key for group in moved for key in group.keys}
    for where in parsed.empty:
        is_moved = where in above or where[:1] in gone or where[:2] in gone
        if not is_moved and not _names_action(where):
            key = where[-1] if where and isinstance(where[-1], str) else ""
            what = f"{key!r} has no value" if key else "this item of the list is empty"
            parsed.source.report(where, what, _empty_hint(parsed.source, where, key), at_key=True)


def _names_action(where: tuple[str | int, ...]) -> bool:
    if len(where) not in (5, 6) or where[0] != "routes" or where[-1] in ENGINE_KEYS:
        return False
    return where[-3] in ("actions", "on_dead") and isinstance(where[-2], int)


def _empty_hint(source: Source, where: tuple[str | int, ...], key: str) -> str:
    if key and (hint := comment_hint(source, where)):
        return hint
    if not key:
        return "write the item, or remove its dash"
    free = where[0] == "vars" or len(where) > 5
    return 'write its value; null means nothing, "" an empty text' if free else "write its value, or remove the key"


# --- secrets ---------------------------------------------------------------------------------------------------------


def _written_secrets(found: Interpolated, secrets: Collection[str]) -> frozenset[str]:
    """Secrets that stand in the file itself. A default that was used is an example, not a secret."""
    written = set()
    for where, value in _secret_texts(found.tree):
        if value and where not in found.places and (where[0] not in _SECRET_LISTS or value in secrets):
            written.add(value)
    return frozenset(written)


def _secret_texts(tree: dict[str, Any]) -> Iterator[tuple[Where, str]]:
    """Every text at a place for secrets."""
    for key in _SECRET_LISTS:
        listed = tree.get(key)
        if isinstance(listed, str):
            yield (key,), listed
        for index, item in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(item, str):
                yield (key, index), item
    for place in _SECRET_PLACES:
        block = tree.get(place[0])
        value = block.get(place[1]) if isinstance(block, dict) else None
        if isinstance(value, str):
            yield place, value


def _shown(tree: dict[str, Any]) -> dict[str, Any]:
    """The masked tree, with those settings masked that are always secrets."""
    shown = dict(tree)
    for where, text in _secret_texts(tree):
        if len(where) == 1:
            shown[str(where[0])] = "none" if text == "none" else MASK
        elif text:
            block = shown[str(where[0])] = copy(shown[str(where[0])])
            block[where[1]] = MASK
    return shown
