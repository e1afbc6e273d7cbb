"""The configuration file: YAML → ``Config``, all problems at once, with their positions."""

from engine.config.blocks.actions import ENGINE_KEYS
from engine.config.dump import dump_masked
from engine.config.load import load_config, parse_config, read_config
from engine.config.model import (
    DEFAULT_RETENTION,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    ActionConfig,
    Config,
    GateSpec,
    Retention,
    RetrySpec,
    RouteConfig,
    WaitSpec,
)
from engine.config.section import kind_of
from engine.config.yaml.mistakes import comment_hint

__all__ = [
    "DEFAULT_RETENTION",
    "DEFAULT_RETRY",
    "DEFAULT_TIMEOUT",
    "ENGINE_KEYS",
    "ActionConfig",
    "Config",
    "GateSpec",
    "Retention",
    "RetrySpec",
    "RouteConfig",
    "WaitSpec",
    "comment_hint",
    "dump_masked",
    "kind_of",
    "load_config",
    "parse_config",
    "read_config",
]
