"""The configuration as it takes effect, for people to read: no secret is in it."""

from __future__ import annotations

from typing import Any

import yaml

from engine.config.blocks.limits import write_limits
from engine.config.blocks.retention import format_age, format_cap
from engine.config.model import Config, Retention, RetrySpec
from engine.config.yaml.scalars import resolve_plain
from engine.core.units import format_duration


class _Dumper(yaml.SafeDumper):
    """Writes what ``engine.config.yaml.read`` reads back as the same data."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Everything is written out: what takes effect is easier to see than where it came from."""
        return True


def dump_masked(config: Config) -> str:
    """The effective configuration as YAML, defaults filled in, secrets as ``***``."""
    tree = _escaped({**config.shown, **_effective(config)})
    head = f"# {config.file} · configuration {config.hash}\n"
    return head + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _effective(config: Config) -> dict[str, Any]:
    """The blocks that have defaults. What is written wins, as it may be masked."""
    shown = config.shown
    defaults = _mapping(shown.get("defaults"))
    retry = defaults.get("retry", {})
    if isinstance(retry, dict):
        retry = {**_retry(config.retry), **retry}
    return {
        "langsmith": {**_langsmith(config), **_mapping(shown.get("langsmith"))},
        "slack": {"endpoint": config.slack.endpoint, **_mapping(shown.get("slack"))},
        "defaults": {"timeout": format_duration(config.timeout), **defaults, "retry": retry},
        "limits": write_limits(config.limits),
        "retention": {**_retention(config.retention), **_mapping(shown.get("retention"))},
    }


def _langsmith(config: Config) -> dict[str, Any]:
    retention = config.langsmith.trace_retention.total_seconds()
    return {"endpoint": config.langsmith.endpoint, "trace_retention": format_duration(retention)}


def _retry(spec: RetrySpec) -> dict[str, Any]:
    times = {"within": spec.within, "min": spec.shortest, "max": spec.longest}
    return {"attempts": spec.attempts} | {
        key: format_duration(seconds) for key, seconds in times.items() if seconds is not None
    }


def _retention(kept: Retention) -> dict[str, Any]:
    ages = {"bodies": kept.bodies, "events": kept.events, "unmatched": kept.unmatched, "dead": kept.dead}
    return {key: format_age(age) for key, age in ages.items()} | {"max_size": format_cap(kept.max_size)}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _escaped(value: Any) -> Any:
    """Text as it would have to be written: ``${`` is a variable only where the author wrote one."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quoted where YAML 1.2 would take it for something else (PyYAML knows 1.1 only), block style for several lines."""
    style = None
    if "\n" in text:
        style = "|"
    elif not _is_text(text):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_text(text: str) -> bool:
    try:
        return isinstance(resolve_plain(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _represent_text)
