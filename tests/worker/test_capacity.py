"""The capacity for work of one kind."""

from __future__ import annotations

from engine.core.document import Fetched
from engine.core.event import parse_event
from engine.testing import payloads
from engine.worker.context import LoadedEvent
from engine.worker.worker import Capacity


def test_pieces_are_counted_and_bodies_that_several_share_once() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    loaded, size = LoadedEvent(event, Fetched()), event.size
    capacity = Capacity(limit=3, byte_limit=size + 1)
    capacity.add([loaded])
    capacity.add([loaded, loaded])
    assert (capacity.count, capacity.bytes, capacity.free()) == (2, size, 1)
    assert capacity.free(waiting=2) == 3, "those that wait do not count"
    capacity.remove([loaded])
    capacity.remove([loaded, loaded])
    assert (capacity.count, capacity.bytes, capacity.free()) == (0, 0, 3)


def test_without_memory_for_more_bodies_nothing_is_accepted() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    capacity = Capacity(limit=3, byte_limit=event.size)
    capacity.add([LoadedEvent(event, Fetched())])
    assert capacity.free(waiting=1) == 0


def test_what_an_event_parsed_to_counts_and_one_alone_always_fits() -> None:
    event = parse_event(payloads.to_body(payloads.complete()), 0.0)
    capacity = Capacity(limit=3, byte_limit=2 * event.size - 1)
    assert capacity.fits(10 * event.size), "there is nothing else"
    capacity.add([LoadedEvent(event, Fetched())])
    assert (capacity.fits(event.size - 1), capacity.fits(event.size)) == (True, False)
    assert capacity.bytes > 4 * len(event.body)
