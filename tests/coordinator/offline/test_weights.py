"""Weights as whole numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.offline import weights
from protos.errors import ConfigurationError
from protos.fixedpoint import MAX_MODELS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,1", [1, 1]),
        ("0.5,0.5", [1, 1]),
        ("0.3,0.7", [3, 7]),
        (" 0.1, 0.2 ,0.7", [1, 2, 7]),
        ("2975,6993", [425, 999]),
        ("118287,5000", [15720, 664]),
        ("1/3,2/3", [1, 2]),
        ("0,1", [0, 1]),
        ("1e-2,99e-2", [1, 99]),
    ],
)
def test_weights_keep_their_ratio(text, expected):
    assert weights.parse(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "models", "said"),
    [
        ("a,b", 2, "are not numbers"),
        ("", 2, "are not numbers"),
        ("1/0,1", 2, "are not numbers"),
        ("nan,1", 2, "are not numbers"),
        ("inf,1", 2, "are not numbers"),
        ("1", 2, "1 weights for 2 models"),
        ("1,2,3", 2, "3 weights for 2 models"),
        ("-1,2", 2, "negative"),
        ("0,0", 2, "none that is positive"),
    ],
)
def test_weights_that_make_no_sense_are_refused(text, models, said):
    with pytest.raises(ConfigurationError, match=said):
        weights.parse(text, models)


@given(st.lists(st.fractions(min_value=0, max_value=10**9, max_denominator=10**6), min_size=1, max_size=20))
def test_whole_weights_fit_into_a_sum_and_are_as_near_as_it_allows(wanted):
    if not any(wanted):
        return
    found = weights.whole(wanted)
    assert 0 < sum(found) <= MAX_MODELS
    for share, number in zip(wanted, found, strict=True):
        assert abs(share / sum(wanted) - Fraction(number, sum(found))) <= Fraction(1, MAX_MODELS)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20).filter(any))
def test_small_ratios_are_exact(wanted):
    found = weights.whole([Fraction(number) for number in wanted])
    assert all(a * sum(found) == b * sum(wanted) for a, b in zip(wanted, found, strict=True))
