"""The block ``retention``: ages and a size, each with its place where it is wrong."""

import math

import pytest
import yaml

from engine.config import DEFAULT_RETENTION, dump_masked, parse_config
from engine.core.errors import ConfigError
from engine.core.units import format_size, parse_size

DAY = 86400.0
REST = "\nsecrets: [a-secret]\nroutes: {alert: {actions: [{log: {message: x}}]}}\n"


def retention_of(block):
    return parse_config(f"retention: {block}{REST}", environ={}).retention


def problem_of(block):
    with pytest.raises(ConfigError) as caught:
        retention_of(block)
    (problem,) = caught.value.problems
    return problem


def test_without_the_block_there_are_good_defaults():
    kept = parse_config(REST, environ={}).retention
    assert kept == DEFAULT_RETENTION
    assert kept.unmatched < kept.bodies < kept.events < kept.dead
    assert kept.max_size == 10 * 2**30


def test_everything_it_can_say():
    kept = retention_of("{bodies: 3d, events: 4w, unmatched: 12h, dead: forever, max_size: 2.5GiB}")
    assert (kept.bodies, kept.events, kept.unmatched, kept.dead) == (3 * DAY, 28 * DAY, DAY / 2, math.inf)
    assert kept.max_size == 2.5 * 2**30
    assert retention_of("{max_size: none}").max_size == math.inf


def test_what_is_left_out_fits_what_is_written():
    assert retention_of("{bodies: 60d}").events == 60 * DAY
    assert retention_of("{bodies: forever}").events == math.inf
    short = retention_of("{events: 1d}")
    assert (short.bodies, short.unmatched, short.dead) == (DAY, DAY, 90 * DAY)


@pytest.mark.parametrize(
    ("block", "column", "words"),
    [
        ("{bodies: 60d, events: 30d}", 21, "bodies: 60d is longer than events: 30d, with which everything goes"),
        ("{unmatched: forever, events: 30d}", 24, "unmatched: forever is longer than events: 30d"),
        ("{dead: 1s}", 19, "write one from 10m to 3660d, or forever"),
        ("{dead: 9000d}", 19, "write one from 10m to 3660d, or forever"),
        ("{events: soon}", 21, "'soon' is not a duration; write it like 30s, 5m, 1h30m or 7d, or forever"),
        ("{max_size: 10X}", 23, "'10X' is not a size; write it like 512MiB or 10GiB, or none"),
        ("{max_size: 1MiB}", 23, "write 128MiB or more, or none"),
        ("7d", 12, "'retention' must be a mapping"),
    ],
)
def test_what_is_wrong_is_reported_with_its_place(block, column, words):
    problem = problem_of(block)
    assert words in problem.message
    assert (problem.line, problem.column) == (1, column)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("bodie", "bodies"), ("history", "events"), ("dead_letters", "dead"), ("max_bytes", "max_size")],
)
def test_a_slip_in_a_key_is_met_with_what_was_meant(written, meant):
    problem = problem_of(f"{{{written}: 3d}}")
    assert f"unknown key '{written}' in 'retention'" in problem.message
    assert meant in problem.hint


def test_numbers_may_come_out_of_variables():
    config = parse_config(f"retention: {{dead: '${{AGE}}'}}{REST}", environ={"AGE": "30d"})
    assert config.retention.dead == 30 * DAY


def test_the_effective_configuration_shows_it_as_it_would_be_written():
    shown = yaml.safe_load(dump_masked(parse_config(f"retention: {{dead: forever}}{REST}", environ={})))
    assert shown["retention"] == {
        "bodies": "7d",
        "events": "30d",
        "unmatched": "2d",
        "dead": "forever",
        "max_size": "10GiB",
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("812B", 812),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5 MiB", 1_572_864),
        ("2TiB", 2**41),
        ("1g", 2**30),
        ("7", 7),
        (7, 7),
    ],
)
def test_sizes_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10X", "ten", "-1MiB", "iB", "1 0", True, None, 1.5])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("size", [0, 812, 1024, 1536, 128 * 2**20, 10 * 2**30, 3 * 2**40])
def test_a_size_for_people_reads_back_as_what_it_was(size):
    assert parse_size(format_size(size)) == size
