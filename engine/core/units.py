"""Durations, rates, sizes and shares as written in YAML."""

from __future__ import annotations

import math
import re

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/|per)\s*(s|sec|second|m|min|minute|h|hour|d|day)", re.ASCII)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)


def parse_duration(text: object) -> float:
    """Seconds of ``10s``, ``1h30m``, ``2d``; a bare number is seconds.

    Raises:
        ValueError: with a message for the author of the text.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and text >= 0:
        return float(text)
    if isinstance(text, str) and _DURATION.fullmatch(text.strip()):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    raise ValueError(f"{text!r} is not a duration; write it like 30s, 5m, 1h30m or 7d")


def parse_size(text: object) -> int:
    """Bytes of ``512MiB``, ``10GiB``, ``1.5GB`` (of 1000 each), ``10G`` (of 1024); a bare number is bytes.

    Raises:
        ValueError: with a message for the author of the text.
    """
    match = None
    if isinstance(text, (int, str)) and not isinstance(text, bool):
        match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it like 512MiB or 10GiB")
    number, power, unit = match.groups("")
    base = 1000 if power and unit.lower() == "b" else 1024
    return round(float(number) * math.pow(base, _POWERS[power.lower()]))


def parse_rate(text: object) -> float:
    """The rate per second of ``1/s``, ``30/m`` or ``100/h``; 0 for ``none``, which means no limit.

    Raises:
        ValueError: with a message for the author of the text.
    """
    if text == "none":
        return 0.0
    if isinstance(text, str) and (match := _RATE.fullmatch(text.strip())) and float(match[1]) > 0:
        return float(match[1]) / _UNIT_SECONDS[match[2][0]]
    raise ValueError(f"{text!r} is not a rate; write it like 1/s, 30/m or 100/h, or none for no limit")


def format_rate(rate: float) -> str:
    """A rate as ``parse_rate`` reads it, in the first of second, minute, hour and day that gives a whole number."""
    if not rate:
        return "none"
    units = {unit: rate * _UNIT_SECONDS[unit] for unit in "smhd"}
    whole = next((unit for unit, count in units.items() if count >= 1 and abs(count - round(count)) < 1e-9), None)
    unit = whole or next((unit for unit, count in units.items() if count >= 1), "d")
    return f"{units[unit]:.10g}/{unit}"


def parse_share(text: object) -> float:
    """A share between 0 and 1, from ``5%`` or ``0.05``.

    Raises:
        ValueError: with a message for the author of the text.
    """
    share = -1.0
    if isinstance(text, str) and (match := _SHARE.fullmatch(text.strip())):
        share = float(match[1]) / 100
    elif isinstance(text, (int, float)) and not isinstance(text, bool):
        share = float(text)
    if 0 <= share <= 1:
        return share
    raise ValueError(f"{text!r} is not a share; write it like 5% or 0.05")


def format_duration(seconds: float) -> str:
    """The shortest usual way to write a duration: ``350ms``, ``2.5s``, ``1h30m``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    parts, rest = [], round(seconds)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNIT_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def format_size(size: float) -> str:
    """A number of bytes for people: ``812B``, ``1.5MiB``, ``10GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g}{unit}" if size < 1000 else f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.4g}TiB"
