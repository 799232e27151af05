"""Masks: RFC 8439's keystream, entered anywhere, and gone when it is taken away again."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from Crypto.Cipher import ChaCha20
from hypothesis import given
from hypothesis import strategies as st

from protos.securesum import keystream
from protos.securesum.keystream import Mask
from protos.securesum.layout import Vector
from protos.securesum.wide import WORD

KEYS = [hashlib.sha256(bytes([i])).digest() for i in range(4)]


def vector(size: int, width: int = 1, stream: int = 3) -> Vector:
    return Vector("sum", "w", stream, size, width)


def masked(masks, found: Vector, start: int = 0, stop: int | None = None) -> np.ndarray:
    words = np.zeros(((found.size if stop is None else stop) - start) * found.width, WORD)
    keystream.apply(masks, found, start, words)
    return words


@pytest.mark.parametrize("stream", [0, 1, 700, (1 << 32) + 5])
def test_the_keystream_is_that_of_another_implementation(stream):
    found = vector(1000, stream=stream)
    other = ChaCha20.new(key=KEYS[0], nonce=stream.to_bytes(12, "little"))
    assert masked([Mask(KEYS[0], 1)], found).tobytes() == other.encrypt(bytes(8000))


def test_the_keystream_is_the_one_of_rfc_8439():
    """Section 2.4.2: block 1 of that key and nonce, read as a stream of ours entered at its first byte."""
    nonce = bytes.fromhex("000000000000004a00000000")
    found = vector(16, stream=int.from_bytes(nonce, "little"))
    assert masked([Mask(bytes(range(32)), 1)], found, 8, 16).tobytes().hex() == (
        "224f51f3401bd9e12fde276fb8631ded8c131f823d2c06e27e4fcaec9ef3cf78"
        "8a3b0aa372600a92b57974cded2b9334794cba40c63e34cdea212c4cf07d41b7"
    )


@given(
    width=st.sampled_from([1, 2, 6, 10]),
    cuts=st.sets(st.integers(1, 8999), max_size=4),
    size=st.sampled_from([9000]),
)
def test_masking_in_pieces_is_masking_at_once(width, cuts, size):
    found, masks = vector(size, width), [Mask(KEYS[0], 1), Mask(KEYS[1], -1)]
    pieces = [masked(masks, found, a, b) for a, b in pairwise([0, *sorted(cuts), size])]
    np.testing.assert_array_equal(np.concatenate(pieces), masked(masks, found))


@pytest.mark.parametrize("width", [1, 2, 6, 10])
def test_a_mask_and_its_opposite_leave_the_numbers(width):
    found = vector(20_000, width)
    before = np.random.default_rng(0).integers(0, 1 << 64, found.words, WORD)
    words = before.copy()
    masks = [Mask(key, sign) for key, sign in zip(KEYS, (1, -1, 1, 1), strict=True)]
    keystream.apply(masks, found, 0, words)
    assert (words != before).mean() > 0.99
    keystream.apply([-mask for mask in masks[::-1]], found, 0, words)
    np.testing.assert_array_equal(words, before)


def test_no_two_vectors_share_a_mask():
    one, other = (masked([Mask(KEYS[0], 1)], vector(1000, stream=stream)) for stream in (1, 2))
    assert not np.isin(one, other).any()


def test_nothing_is_masked_where_there_is_nothing():
    assert masked([Mask(KEYS[0], 1)], vector(0)).size == 0


def test_a_key_is_not_printed():
    assert KEYS[0].hex() not in repr(Mask(KEYS[0], 1))
    assert str(KEYS[0]) not in repr(Mask(KEYS[0], 1))
