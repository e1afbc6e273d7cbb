"""Points in time as LangSmith, people and other systems write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.core.document import seconds_between
from engine.core.times import epoch, parse_time, time_of

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T12:00:00",
        "2026-05-04T12:00:00.000000Z",
        "2026-05-04 12:00",
        "2026-05-04T14:00:00+02:00",
        "2026-05-04t12:00:00z",
        " 2026-05-04 12:00 UTC ",
        "2026-05-04 12:00:00 +00:00",
    ],
)
def test_a_time_is_read_as_people_and_machines_write_it_and_without_a_zone_is_utc(text):
    assert parse_time(text) == time_of(text) == NOON
    assert epoch(text) == NOON.timestamp()


@pytest.mark.parametrize("value", ["yesterday", "", "2026-13-01", None, 17, True, ["2026-05-04"]])
def test_what_is_no_time_is_none_where_data_is_read(value):
    assert time_of(value) is None
    assert seconds_between(value, "2026-05-04") is None
    assert seconds_between("2026-05-04", value) is None


def test_a_text_that_is_no_time_is_refused_with_an_example():
    with pytest.raises(ValueError, match="'soon' is not a time; write it like 2026-05-04"):
        parse_time("soon")


@pytest.mark.parametrize("moment", [NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=3)))])
def test_a_time_that_was_read_already_is_itself_with_a_zone(moment):
    assert time_of(moment) == NOON


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2026-05-04T12:00:00", "2026-05-04T12:00:02.5", 2.5),
        ("2026-05-04T12:00:00", "2026-05-04T12:00:01Z", 1.0),
        ("2026-05-04T14:00:00+02:00", "2026-05-04T12:00:01", 1.0),
        ("2026-05-04T12:00:01", "2026-05-04 12:00:00 UTC", -1.0),
    ],
)
def test_seconds_between_two_times_whatever_they_say_of_their_zone(start, end, seconds):
    assert seconds_between(start, end) == seconds
