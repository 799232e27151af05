"""The sum of a block: the same integers whichever way it is kept."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.merge.device import DeviceSum
from coordinator.merge.sums import ParameterSum
from protos import fixedpoint

values = st.floats(-511.5, 511.5, width=32)
weights = st.integers(-40, 40).filter(bool)


def expected(terms: list[tuple[int, list[float]]]) -> list[int]:
    """Add up in Python's own integers."""
    return [
        sum(w * int(fixedpoint.quantise(np.asarray([v[i]], np.float32))[0]) for w, v in terms) for i in range(2)
    ]


def summed(terms: list[tuple[int, list[float]]], adder=ParameterSum) -> ParameterSum:
    total = adder(2)
    for weight, pair in terms:
        block = np.asarray(pair, np.float32)
        total.add_values(block, weight)
    return total


@given(terms=st.lists(st.tuples(weights, st.lists(values, min_size=2, max_size=2)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_sum_is_that_of_pythons_integers(terms):
    total = summed(terms)
    assert total.ints().tolist() == expected(terms)
    models = sum(abs(weight) for weight, _ in terms)
    assert total.mean(models).tobytes() == fixedpoint.mean(total.ints(), models).tobytes()


@given(terms=st.lists(st.tuples(weights, st.lists(values, min_size=2, max_size=2)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_device_gives_the_same_bits(terms):
    ours, theirs = summed(terms), summed(terms, partial(DeviceSum, device="cpu"))
    assert theirs.ints().tolist() == ours.ints().tolist()
    models = sum(abs(weight) for weight, _ in terms)
    assert theirs.mean(models).tobytes() == ours.mean(models).tobytes()
    theirs.add_ints(ours.ints(), -1)
    assert theirs.ints().tolist() == [0, 0]


@pytest.mark.parametrize("weight", [16_384, -16_384])
def test_the_largest_weight_of_the_largest_value_is_exact(weight):
    largest = float(np.nextafter(np.float32(512), np.float32(0)))
    terms = [(weight, [largest, -largest])]
    assert summed(terms).ints().tolist() == expected(terms)


@pytest.mark.parametrize("sign", [1, -1])
def test_as_many_models_as_there_is_room_for_are_exact(sign):
    largest = sign * float(np.nextafter(np.float32(512), np.float32(0)))
    terms = [(1, [largest, sign * 2.0**-20])] * fixedpoint.MAX_MODELS
    assert summed(terms).ints().tolist() == expected(terms)


@given(
    terms=st.lists(st.tuples(weights, st.lists(values, min_size=2, max_size=2)), min_size=2, max_size=12),
    cut=st.integers(1, 11),
)
@settings(max_examples=100, deadline=None)
def test_sums_of_sums_are_sums(terms, cut):
    first, second = summed(terms[:cut]), summed(terms[cut:])
    total = summed(terms[:cut])
    total.add_ints(second.ints(), 1)
    assert total.ints().tolist() == expected(terms)
    total.add_ints(second.ints(), -1)
    assert total.ints().tolist() == first.ints().tolist()
    total.add_ints(first.ints(), -1)
    assert total.ints().tolist() == [0, 0]
