"""Masks: ChaCha20 keystreams, added to numbers.

A mask is the keystream of one key, and each vector of a model has a stream of its own under it: the vector's place
in the layout is the nonce (RFC 8439: 96 bits). A stream can be entered anywhere, for its counter counts blocks of
64 bytes; so vectors can be masked chunk by chunk, in any order, by several processes, and give the same bits.

All masks are added while a chunk lies in a core's cache: the numbers travel through memory once, however many
sites there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from protos.securesum import wide
from protos.securesum.layout import Vector
from protos.securesum.wide import WORD, Words

_CHUNK = 1 << 15
"""Words that are masked at a time, about: with the keystream 512 KiB."""
_BLOCK_BYTES = 64
_ZEROS = memoryview(bytes(_CHUNK * WORD.itemsize))


@dataclass(frozen=True)
class Mask:
    """A keystream's key, 32 bytes, and whether it is added (+1) or taken away (−1)."""

    key: bytes = field(repr=False)
    sign: int

    def __neg__(self) -> Mask:
        return Mask(self.key, -self.sign)


def apply(masks: Sequence[Mask], vector: Vector, start: int, words: Words) -> None:
    """Add masks to some of a vector's numbers, in place.

    Args:
        masks: In any order; all are added up.
        vector: Which vector.
        start: The first number that is masked.
        words: The numbers from there on: flat, contiguous, `vector.width` words each.

    """
    assert words.dtype == WORD and words.flags.c_contiguous and words.size % vector.width == 0
    assert start * vector.width + words.size <= vector.words
    step = _CHUNK - _CHUNK % vector.width
    scratch = np.empty(min(step, words.size), WORD)
    streams = [_entered(mask.key, vector.stream, start * vector.width * WORD.itemsize) for mask in masks]
    for first in range(0, words.size, step):
        chunk = words[first : first + step]
        keystream = scratch[: chunk.size]
        for mask, stream in zip(masks, streams, strict=True):
            stream.update_into(_ZEROS[: chunk.nbytes], keystream.view(np.uint8).data)
            (wide.add if mask.sign > 0 else wide.subtract)(chunk, keystream, vector.width)


def _entered(key: bytes, stream: int, position: int) -> CipherContext:
    """Open a keystream at a byte."""
    block, skipped = divmod(position, _BLOCK_BYTES)
    nonce = block.to_bytes(4, "little") + stream.to_bytes(12, "little")
    found = Cipher(ChaCha20(key, nonce), mode=None).encryptor()
    found.update(_ZEROS[:skipped])
    return found
