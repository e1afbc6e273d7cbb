"""Routes by their ids, their names, and any start of one that only one route has."""

from __future__ import annotations

import pytest

from engine.rules.route_names import ambiguous_message, routes_called

RULE = "d75d7417-0c57-4655-88fe-1db3cda3a47a"
ROUTES = [(f"{RULE}/slow", "Slow runs"), (f"{RULE}/bad", None), ("alert/alarms", None), ("alert", "alert/alarms")]


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        (f"{RULE}/slow", [f"{RULE}/slow"]),
        ("Slow runs", [f"{RULE}/slow"]),
        ("Slow", [f"{RULE}/slow"]),
        ("d75d7417-0c57/slow", [f"{RULE}/slow"]),
        ("d75d7417", [f"{RULE}/slow", f"{RULE}/bad"]),
        (f"{RULE}/b", [f"{RULE}/bad"]),
        ("d75d7417-0c57/sl", []),  # with a rule cut short the route must be whole
        ("/slow", []),
        ("alert", ["alert"]),
        ("alert/alarms", ["alert/alarms"]),  # an id goes before a name
        ("alarms", []),
        ("", []),
    ],
)
def test_a_word_means_the_routes_that_it_names(word: str, ids: list[str]) -> None:
    assert routes_called(word, ROUTES) == ids


def test_an_ambiguous_word_names_the_routes_and_counts_the_rest() -> None:
    assert ambiguous_message("a", ["a1", "a2"]) == "route 'a' is ambiguous: a1, a2"
    ten = [f"a{number}" for number in range(10)]
    assert "more" not in ambiguous_message("a", ten)
    assert ambiguous_message("a", [*ten, "b", "c"]).endswith("a9 and 2 more")
    assert ambiguous_message("a", ["a1", "a2"], "destination").startswith("destination 'a'")
