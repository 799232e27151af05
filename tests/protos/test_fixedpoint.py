"""Parameters as fixed-point integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import fixedpoint
from protos.errors import MergeRangeError, UpdateRefusedError

in_range = st.floats(-512, 512, width=32, exclude_min=True, exclude_max=True)


@given(in_range)
def test_quantising_takes_the_nearest_multiple(value):
    found = int(fixedpoint.quantise(np.asarray([value], np.float32))[0])
    assert found == round(Fraction(value) * 2**40)  # Python rounds ties to even, too


@given(in_range)
def test_a_value_of_at_least_two_to_the_minus_17_is_kept_exactly(value):
    found = int(fixedpoint.quantise(np.asarray([value], np.float32))[0])
    error = abs(Fraction(found, 2**40) - Fraction(value))
    assert error == 0 if abs(value) >= 2**-17 else error <= Fraction(1, 2**41)


@given(st.lists(in_range, max_size=20))
def test_every_value_in_range_is_accepted(values):
    fixedpoint.check_values(np.asarray(values, np.float32), "fog", "w")


@pytest.mark.parametrize("value", [512.0, -512.0, 1e38])
def test_a_value_out_of_range_names_site_tensor_and_magnitude(value):
    with pytest.raises(MergeRangeError, match=r"site fog: w has a value of magnitude") as caught:
        fixedpoint.check_values(np.asarray([0.0, value, 1.0], np.float32), "fog", "w")
    assert (caught.value.site, caught.value.tensor) == ("fog", "w")
    assert f"{abs(value):g}" in caught.value.what


def test_values_that_are_not_finite_are_counted():
    values = np.asarray([[np.nan, 1.0], [np.inf, -np.inf]], np.float32)
    with pytest.raises(UpdateRefusedError, match="has 3 values that are NaN or infinite") as caught:
        fixedpoint.check_values(values, "fog", "w")
    assert not isinstance(caught.value, MergeRangeError)


def test_quantising_keeps_the_shape_and_leaves_its_input_alone():
    values = np.ones((2, 3, 4), np.float32)
    values.flags.writeable = False
    assert fixedpoint.quantise(values).shape == (2, 3, 4)
    assert fixedpoint.quantise(np.asarray(1.0, np.float32)).shape == ()
