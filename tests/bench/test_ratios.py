"""Ratios within rounds, and bounds."""

import pytest

from bench.ratios import Bound, Ratio, ratio


def test_the_median_is_of_the_rounds_ratios_not_of_the_rates():
    # The medians of the rates are 20 and 20; the ratios are 0.5, 2 and 0.25.
    assert ratio([(10, 20), (80, 40), (20, 80)]) == Ratio(median=0.5, low=0.25, high=2.0)


def test_an_even_number_of_rounds():
    assert ratio([(1, 4), (3, 4)]).median == 0.5


def test_no_rounds():
    with pytest.raises(ValueError, match="no rounds"):
        ratio([])


@pytest.mark.parametrize(
    ("bound", "measured", "holds"),
    [
        (Bound(0.4), 0.4, True),
        (Bound(0.4), 0.39, False),
        (Bound(1.5, at_most=True), 1.5, True),
        (Bound(1.5, at_most=True), 1.51, False),
    ],
)
def test_bounds(bound, measured, holds):
    assert bound.holds(measured) is holds


def test_bounds_as_text():
    assert (str(Bound(0.4)), str(Bound(1.5, at_most=True))) == ("≥ 0.4", "≤ 1.5")
