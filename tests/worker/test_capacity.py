"""How much work of one kind is in hand."""

from __future__ import annotations

from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.testing import payloads
from engine.worker.in_memory import Hands, Held


def test_pieces_are_counted_and_bodies_that_several_share_once() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    held, size = Held(event, Fetched()), event.size
    hands = Hands(limit=3, byte_limit=size + 1)
    hands.take([held])
    hands.take([held, held])
    assert (hands.count, hands.bytes, hands.room()) == (2, size, 1)
    assert hands.room(waiting=2) == 3, "those that wait take no room"
    hands.drop([held])
    hands.drop([held, held])
    assert (hands.count, hands.bytes, hands.room()) == (0, 0, 3)


def test_without_room_for_more_bodies_there_is_room_for_nothing() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    hands = Hands(limit=3, byte_limit=event.size)
    hands.take([Held(event, Fetched())])
    assert hands.room(waiting=1) == 0


def test_what_an_event_parsed_to_counts_and_one_alone_always_fits() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    hands = Hands(limit=3, byte_limit=2 * event.size - 1)
    assert hands.fits(10 * event.size), "nothing else is in hand"
    hands.take([Held(event, Fetched())])
    assert (hands.fits(event.size - 1), hands.fits(event.size)) == (True, False)
    assert hands.bytes > 4 * len(event.body)
