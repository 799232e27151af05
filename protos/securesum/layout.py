"""What is summed: a model's vectors of numbers, and how wide each number must be.

Widths follow from the formats' bounds, so that the true sum always fits and its wrapped bits are the sum itself:

- A **parameter** is below 512 in magnitude, that is 2⁴⁹ in fixed point (40 fractional bits), and at most 2¹⁴ sites
  are added up: |sum| < 2⁶³, one word.
- A layer's **count** is an int64, below 2⁶³; 2¹⁴ of them are below 2⁷⁷: two words.
- **n·μ**: a float32 is below 2¹²⁸ and a multiple of 2⁻¹⁴⁹, so n·μ·2¹⁴⁹ is an integer below 2⁶³⁺¹²⁸⁺¹⁴⁹ = 2³⁴⁰ and
  a sum of 2¹⁴ below 2³⁵⁴; with its sign 355 bits: six words, 384 bits.
- **n·(σ² + μ²)** is a multiple of 2⁻²⁹⁸, and σ² + μ² < 2¹²⁸ + 2²⁵⁶ < 2²⁵⁷, so n·(σ² + μ²)·2²⁹⁸ is an integer below
  2⁶³⁺²⁵⁷⁺²⁹⁸ = 2⁶¹⁸ and a sum of 2¹⁴ below 2⁶³²; with a sign 633 bits: ten words, 640 bits.

These are the widths that the merge state has on disk (`StatisticSums.widths`), so an unmasked sum is its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protos import dtypes
from protos.errors import MergeRangeError
from protos.manifest import Manifest, TensorSpec
from protos.securesum.wide import WORD
from protos.statistics import StatisticSums

SUM = "sum"
"""The part of a vector's key that says that it is of a parameter; the others are those of `StatisticSums`."""
_STREAM_BYTES = 1 << 38
"""ChaCha20 counts 2³² blocks of 64 bytes under one nonce (RFC 8439)."""


@dataclass(frozen=True)
class Vector:
    """Numbers that are masked together.

    Attributes:
        part: ``"sum"`` for a parameter, ``"count"``, ``"mean"`` or ``"square"`` for a layer's statistics.
        name: The parameter's or the layer's.
        stream: Its place in the layout. It is the nonce of its keystreams, so no two vectors share a mask.
        size: How many numbers.
        width: Words in each.

    """

    part: str
    name: str
    stream: int
    size: int
    width: int

    @property
    def key(self) -> str:
        """Its name in the merge state, e.g. ``"sum:head.weight"``."""
        return f"{self.part}:{self.name}"

    @property
    def words(self) -> int:
        """How many 64-bit words it has in all."""
        return self.size * self.width

    @property
    def nbytes(self) -> int:
        """How many bytes it has in all."""
        return self.words * WORD.itemsize


Layout = Mapping[str, Vector]
"""All of a model's vectors by key, in the order of their streams. The base alone decides on it."""


def layout(base: Manifest) -> Layout:
    """Return the vectors of a model with the base's tensors.

    Raises:
        MergeRangeError: A tensor is larger than a keystream.

    """
    found = {}
    for stream, (part, name, size, width) in enumerate(_parts(base)):
        vector = Vector(part, name, stream, size, width)
        if vector.nbytes > _STREAM_BYTES:
            raise MergeRangeError(f"{name} has {size} numbers, too many to be masked", tensor=name)
        found[vector.key] = vector
    return found


def total_bytes(vectors: Layout) -> int:
    """Return the size of a masked update: 8 bytes a parameter, 128 a BatchNorm channel, 16 a layer."""
    return sum(vector.nbytes for vector in vectors.values())


def specs(vectors: Layout) -> dict[str, TensorSpec]:
    """Return what a file of masked words consists of: a flat tensor of int64 for each vector, by its key."""
    return {key: TensorSpec(dtypes.INT64, (vector.words,)) for key, vector in vectors.items()}


def _parts(base: Manifest) -> Iterator[tuple[str, str, int, int]]:
    for name, spec in base.parameters.items():
        yield SUM, name, spec.size, 1
    for layer, channels in base.layers.items():
        for part, (size, width) in StatisticSums.widths(channels).items():
            yield part, layer, size, width // WORD.itemsize
