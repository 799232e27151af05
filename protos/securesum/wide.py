"""Sums modulo 2⁶⁴ and modulo wider powers of two, on arrays of little-endian 64-bit words.

A number of k words is an integer modulo 2⁶⁴ᵏ, its lowest word first; negative ones are two's complement. NumPy's
uint64 wraps around by itself, so numbers of one word are added at once; of wider ones the carry is passed on from
word to word, for all numbers at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WORD = np.dtype("<u8")
Words = npt.NDArray[np.uint64]


def add(total: Words, term: Words, width: int) -> None:
    """Add in place.

    Args:
        total: Flat words of numbers that have `width` words each.
        term: As many.
        width: Words in a number.

    """
    if width == 1:
        np.add(total, term, out=total)
        return
    numbers, terms = total.reshape(-1, width), term.reshape(-1, width)
    carry = np.zeros(len(numbers), WORD)
    for word, other in zip(numbers.T, terms.T, strict=True):
        partial = word + other
        np.add(partial, carry, out=word)
        # At most one of the two additions overflows: after the first did, its result is at most 2⁶⁴ − 2.
        carry = ((partial < other) | (word < carry)).astype(WORD)


def subtract(total: Words, term: Words, width: int) -> None:
    """Subtract in place; arguments as those of `add`."""
    if width == 1:
        np.subtract(total, term, out=total)
        return
    numbers, terms = total.reshape(-1, width), term.reshape(-1, width)
    borrow = np.zeros(len(numbers), WORD)
    for word, other in zip(numbers.T, terms.T, strict=True):
        below = word < other
        partial = word - other
        np.subtract(partial, borrow, out=word)
        borrow = (below | (partial < borrow)).astype(WORD)
