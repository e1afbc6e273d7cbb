"""Opening hours: days, hours over midnight, and clocks that are put forward and back."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.schedule import (
    Active,
    Schedule,
    holding_until,
    never_open,
    parse_days,
    parse_hours,
    parse_zone,
    skipping,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def schedule(days: object = "mon-sun", hours: object = "00:00-24:00", zone: str = "Europe/Berlin") -> Schedule:
    return Schedule(parse_days(days), parse_hours(hours), parse_zone(zone))


def open_minutes(one: Schedule, begin: float, hours: int) -> list[float]:
    return [begin + 60.0 * minute for minute in range(hours * 60) if one.is_open(begin + 60.0 * minute)]


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("sat, sun", {5, 6}),
        (["mon", "wed"], {0, 2}),
        (["mon-tue", "sun"], {0, 1, 6}),
        ("fri-mon", {4, 5, 6, 0}),
        ("Mon-FRI", {0, 1, 2, 3, 4}),
        ("monday", {0}),
        ("weekend", {5, 6}),
        ("tue-tue", {1}),
    ],
)
def test_days_as_people_write_them(written: object, days: set[int]) -> None:
    assert parse_days(written) == days


@pytest.mark.parametrize(
    ("written", "spans"),
    [
        ("09:00-18:00", ((540, 1080),)),
        ("9:00 - 18:30", ((540, 1110),)),
        ("22:00-06:00", ((1320, 1800),)),
        ("00:00-24:00", ((0, 1440),)),
        ("18:00-00:00", ((1080, 1440),)),
        (["09:00-12:00", "13:00-17:00"], ((540, 720), (780, 1020))),
    ],
)
def test_hours_as_people_write_them(written: object, spans: tuple[tuple[int, int], ...]) -> None:
    assert parse_hours(written) == spans


@pytest.mark.parametrize(
    ("parse", "written", "words"),
    [
        (parse_days, "mon-frei", "'frei' is not a day; did you mean 'fri'?"),
        (parse_days, 5, "days are written mon-fri"),
        (parse_days, [], "days are written mon-fri"),
        (parse_days, "", "is not a day"),
        (parse_hours, "9-17", "write 09:00-17:00"),
        (parse_hours, "09:00", "write them like"),
        (parse_hours, "09:00-09:00", "the whole day is 00:00-24:00"),
        (parse_hours, "09:00-25:00", "there is no 25:00"),
        (parse_hours, "24:00-06:00", "hours begin before 24:00"),
        (parse_hours, 9, "9 are not hours"),
        (parse_hours, [], "hours are written"),
        (parse_zone, "Berlin", "did you mean 'Europe/Berlin'?"),
        (parse_zone, "New York", "did you mean 'America/New_York'?"),
        (parse_zone, "../../etc/passwd", "is not a time zone"),
        (parse_zone, "", "is not a time zone"),
        (parse_zone, 2, "is not a time zone"),
    ],
)
def test_what_is_not_a_schedule_is_reported_with_the_right_form(parse, written: object, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(written)


def test_office_hours() -> None:
    office = schedule("mon-fri", "09:00-18:00")
    assert not office.is_open(at("2026-05-04T08:59:59"))
    assert office.is_open(at("2026-05-04T09:00"))
    assert office.is_open(at("2026-05-04T17:59:59"))
    assert not office.is_open(at("2026-05-04T18:00"))
    assert office.next_open(at("2026-05-08T18:00")) == at("2026-05-11T09:00")
    assert office.next_open(at("2026-05-04T12:00")) == at("2026-05-04T12:00")


def test_a_night_belongs_to_the_day_it_began_on() -> None:
    nights = schedule("fri", "22:00-06:00")
    assert nights.is_open(at("2026-05-08T23:00"))
    assert nights.is_open(at("2026-05-09T05:59"))
    assert not nights.is_open(at("2026-05-09T06:00"))
    assert not nights.is_open(at("2026-05-08T05:00"))
    assert not nights.is_open(at("2026-05-09T23:00"))


@pytest.mark.parametrize(
    ("hours", "begins", "minutes"),
    [
        # 2026-03-29: at 02:00 the clock goes on with 03:00.
        ("01:30-02:30", "2026-03-29T01:30", 30),
        ("02:30-04:00", "2026-03-29T03:00", 60),
        ("02:15-02:45", "2026-03-29T03:00", 30),
        ("02:00-03:00", "2026-03-29T03:00", 60),
        ("02:30-03:00", "2026-03-29T03:00", 30),
        ("00:00-24:00", "2026-03-29T00:00", 23 * 60),
    ],
)
def test_what_the_clock_skips_is_not_lost(hours: str, begins: str, minutes: int) -> None:
    found = open_minutes(schedule("sun", hours), at("2026-03-28T20:00"), 40)
    assert found[0] == at(begins)
    assert len(found) == minutes
    assert found == [found[0] + 60.0 * minute for minute in range(minutes)]


@pytest.mark.parametrize(
    ("hours", "begins", "minutes"),
    [
        # 2026-10-25: at 03:00 the clock goes back to 02:00.
        ("01:30-02:30", "2026-10-25T01:30", 60),
        ("02:15-02:45", "2026-10-25T02:15", 30),
        ("02:30-04:00", "2026-10-25T02:30", 150),
        ("00:00-24:00", "2026-10-25T00:00", 25 * 60),
    ],
)
def test_what_the_clock_shows_twice_opens_once(hours: str, begins: str, minutes: int) -> None:
    found = open_minutes(schedule("sun", hours), at("2026-10-24T20:00"), 40)
    assert found[0] == at(begins)
    assert len(found) == minutes
    assert found == [found[0] + 60.0 * minute for minute in range(minutes)]


ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")
SPANS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=40, deadline=None)
@given(
    days=st.frozensets(st.integers(0, 6), min_size=1),
    spans=st.lists(SPANS, min_size=1, max_size=3).map(tuple),
    zone=st.sampled_from(ZONES),
    # Around the days on which clocks are put forward and back, for the most part.
    minute=st.one_of(
        st.integers(29_400_000, 29_950_000),
        st.integers(-3 * 1440, 2 * 1440).map(lambda offset: int(at("2026-03-29T02:00")) // 60 + offset),
        st.integers(-3 * 1440, 2 * 1440).map(lambda offset: int(at("2026-10-25T02:00")) // 60 + offset),
    ),
)
def test_the_next_opening_is_open_and_none_is_before_it(days, spans, zone: str, minute: int) -> None:
    one = Schedule(days, spans, ZoneInfo(zone))
    now = minute * 60.0
    opening = one.next_open(now)
    assert one.is_open(opening)
    assert opening - now <= 8.1 * 24 * HOUR
    step = now
    while step < opening:
        assert not one.is_open(step)
        step += 60.0


def test_two_schedules_hold_until_both_are_open() -> None:
    office, mondays = schedule("mon-fri", "09:00-18:00"), schedule("mon", "12:00-24:00", "UTC")
    both = [Active(office, "hold"), Active(mondays, "hold")]
    assert holding_until(both, at("2026-05-05T10:00")) == at("2026-05-11T14:00")
    assert holding_until(both, at("2026-05-11T15:00")) is None
    assert skipping(both, at("2026-05-05T10:00")) is None
    assert skipping([Active(office)], at("2026-05-09T10:00")) is office
    assert holding_until([Active(office)], at("2026-05-09T10:00")) is None


def test_schedules_that_are_never_open_together_are_reported() -> None:
    assert never_open([schedule("mon-fri"), schedule("sat,sun")])
    assert not never_open([schedule("mon-fri", "09:00-18:00"), schedule("fri", "17:00-20:00")])


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (schedule("mon-fri", "09:00-18:00"), "mon-fri 09:00-18:00 Europe/Berlin"),
        (schedule("fri-mon", "22:00-06:00", "UTC"), "fri-mon 22:00-06:00 UTC"),
        (schedule(hours=["00:00-24:00"], zone="UTC"), "00:00-24:00 UTC"),
        (schedule("mon,wed-thu", ["09:00-12:00", "13:00-17:00"]), "mon,wed-thu 09:00-12:00, 13:00-17:00 Europe/Berlin"),
    ],
)
def test_a_schedule_describes_itself(one: Schedule, words: str) -> None:
    assert str(one) == words
