"""Addition of wide numbers is that of Python's integers, modulo a power of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.securesum import wide

WIDTHS = st.sampled_from([1, 2, 6, 10])
# Words of nothing but zeros or ones are where carries run far.
WORD = st.one_of(st.sampled_from([0, 1, (1 << 64) - 1, 1 << 63]), st.integers(0, (1 << 64) - 1))


@st.composite
def pairs(draw):
    width, count = draw(WIDTHS), draw(st.integers(0, 4))
    words = st.lists(WORD, min_size=width * count, max_size=width * count)
    return width, *(np.array(draw(words), wide.WORD) for _ in range(2))


def integers(words: np.ndarray, width: int) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in words.reshape(-1, width)]


@given(pairs())
def test_adding_and_subtracting_are_those_of_integers(pair):
    width, first, second = pair
    a, b, modulus = integers(first, width), integers(second, width), 1 << 64 * width
    added, taken = first.copy(), first.copy()
    wide.add(added, second, width)
    wide.subtract(taken, second, width)
    assert integers(added, width) == [(x + y) % modulus for x, y in zip(a, b, strict=True)]
    assert integers(taken, width) == [(x - y) % modulus for x, y in zip(a, b, strict=True)]
    assert integers(second, width) == b


@given(pairs())
def test_what_is_added_can_be_taken_away(pair):
    width, first, second = pair
    total = first.copy()
    wide.add(total, second, width)
    wide.subtract(total, second, width)
    np.testing.assert_array_equal(total, first)


@pytest.mark.parametrize("width", [2, 6, 10])
def test_a_carry_and_a_borrow_run_through_all_words(width):
    one = np.zeros(width, wide.WORD)
    one[0] = 1
    total = np.full(width, (1 << 64) - 1, wide.WORD)
    wide.add(total, one, width)
    assert not total.any()
    wide.subtract(total, one, width)
    assert (total == (1 << 64) - 1).all()
