"""Numbers that are cheap to count and right when read."""

from __future__ import annotations

import bisect

from hypothesis import given
from hypothesis import strategies as st

from engine.core.counters import Counts, Distribution, Distributions, Names


def test_counts_are_kept_by_labels_and_forgotten_by_labels() -> None:
    counts = Counts()
    counts.add("a", "x")
    counts.add("a", "x")
    counts.add("b", "x", amount=2.5)
    assert counts.read() == {("a", "x"): 2, ("b", "x"): 2.5}
    counts.keep(lambda labels: labels[0] == "b")
    assert counts.read() == {("b", "x"): 2.5}


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 100.0])))
def test_a_distribution_counts_what_is_at_or_below_each_bound(values: list[float]) -> None:
    distribution = Distribution([1, 2, 3])
    for value in values:
        distribution.add(value)
    buckets, total = distribution.read()
    expected = [("1.0", 1), ("2.0", 2), ("3.0", 3), ("+Inf", float("inf"))]
    assert buckets == [(name, bisect.bisect_right(sorted(values), bound)) for name, bound in expected]
    assert total == sum(values)


def test_distributions_are_made_when_first_met() -> None:
    all_ = Distributions([1])
    all_.of("a").add(0.5)
    all_.of("a").add(2)
    all_.of("b").add(2)
    assert {labels: one.read()[0][0][1] for labels, one in all_.all().items()} == {("a",): 1, ("b",): 0}


def test_only_so_many_names_are_labels() -> None:
    names = Names(2)
    names.know(["a", "b", "c"])
    assert [names.label(name) for name in "abcd"] == ["a", "b", "other", "other"]
    names.know(["c"])
    assert [names.meet(name) for name in "cabc"] == ["c", "a", "other", "c"]
    assert [names.has(label) for label in ("c", "a", "b", "other")] == [True, True, False, True]
