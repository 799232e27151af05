"""What two models' weights tell about whether they may be merged; no data needed.

Compared are the weights of convolutions and linear layers only. Norms' scales are near 1 and variances positive in
any two models, so these would look alike whatever their origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.merge.basin.matching import align
from coordinator.merge.basin.permutations import Permutations
from coordinator.merge.basin.table import Table
from coordinator.merge.basin.values import finite
from coordinator.merge.distance import Products
from protos.checkpoints.reader import ModelReader
from protos.errors import ModelFileError

_SEED = 0
"""Of the shuffle; fixed, so that the same models always give the same numbers."""


@dataclass(frozen=True)
class Closeness:
    """How near a's weights are to b's.

    Attributes:
        relative: ‖a − b‖ / ‖b‖: 0 where they are equal, √2 where they are at right angles and of the same length.
        cosine: ⟨a, b⟩ / (‖a‖ ‖b‖).

    """

    relative: float
    cosine: float


@dataclass(frozen=True)
class GroupShare:
    """What the matching did to a group of channels.

    Attributes:
        name: The layer that writes it.
        channels: How many.
        in_place: The share that stays where it is, 0…1.

    """

    name: str
    channels: int
    in_place: float


@dataclass(frozen=True)
class Part:
    """A part of the two models: the backbone, a head.

    Attributes:
        name: The first word of its tensors' names.
        share: The share of its channels that stay in place; None if none may move.
        closeness: Of its weights.

    """

    name: str
    share: float | None
    closeness: Closeness


@dataclass(frozen=True)
class FromBase:
    """Two models seen from the base.

    Attributes:
        a: The first model and the base.
        b: The second model and the base.
        changes: Cosine of what the two changed (their task vectors), ⟨A − C, B − C⟩ / (‖A − C‖ ‖B − C‖); None if
            one changed nothing.

    """

    a: Closeness
    b: Closeness
    changes: float | None


@dataclass(frozen=True)
class Evidence:
    """All that is told about two models.

    Attributes:
        groups: What the matching did to each group that may change, those that moved most first.
        share: The share of all these channels that stays in place. At 1, re-basin finds the identity, and the
            mid-point is what it would come to.
        as_they_are: The models.
        aligned: The first, and the second after the matching.
        unrelated: The first, and the second with the rows and columns of every weight shuffled. That keeps each
            tensor's norm, its distribution of values and the look of its kernels, so it is what a network of the
            same architecture and training is like that began at another initialisation.
        parts: As they are, part by part.
        unknown: Parts of the model that no table describes; what they read was left in place.
        base: Both seen from the base, if one is given.

    """

    groups: tuple[GroupShare, ...]
    share: float
    as_they_are: Closeness
    aligned: Closeness
    unrelated: Closeness
    parts: tuple[Part, ...]
    unknown: tuple[str, ...] = ()
    base: FromBase | None = None


def gather(
    a: ModelReader, b: ModelReader, base: ModelReader | None = None, *, table: Table | None = None
) -> Evidence:
    """Match two models and measure how near they are. For memory see `align`.

    Args:
        a: A model.
        b: Another of the same architecture.
        base: What both were adapted from.
        table: Their groups; found from the names and shapes if not given.

    Raises:
        ModelFileError: The architecture is not known, or a value is NaN or infinite, or a model has no weights.

    """
    return measure(a, b, align(a, b, table=table), base)


def measure(a: ModelReader, b: ModelReader, orders: Permutations, base: ModelReader | None = None) -> Evidence:
    """Measure how near two models are, by orders that were found before; see `gather`."""
    parts: dict[str, Products] = {}
    aligned, unrelated, from_a, from_b, changes = (Products() for _ in range(5))
    dice = np.random.default_rng(_SEED)
    for name, spec in a.manifest.parameters.items():
        if len(spec.shape) < 2:
            continue
        here, there = finite(a, name), finite(b, name)
        part = name.partition(".")[0]
        parts[part] = parts.get(part, Products()) + _products(here, there)
        aligned += _products(here, orders.apply(name, there))
        unrelated += _products(here, _shuffled(there, dice))
        if base is not None:
            origin = finite(base, name)
            from_a += _products(here, origin)
            from_b += _products(there, origin)
            changes += _products(here - origin, there - origin)
    plain = sum(parts.values(), Products())
    for model, square in ((a, plain.aa), (b, plain.bb), (base, from_a.bb)):
        if model is not None and not square:
            raise ModelFileError(
                f"{model.path} has no weights, or all of them are zero", "check where it comes from"
            )
    shares = _shares(orders, parts)
    return Evidence(
        groups=_groups(orders),
        share=orders.share,
        as_they_are=_closeness(plain),
        aligned=_closeness(aligned),
        unrelated=_closeness(unrelated),
        parts=tuple(Part(name, shares[name], _closeness(found)) for name, found in parts.items()),
        unknown=orders.table.unknown,
        base=None
        if base is None
        else FromBase(
            _closeness(from_a), _closeness(from_b), changes.cosine if changes.aa and changes.bb else None
        ),
    )


def _products(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Products:
    x, y = (values.reshape(-1).astype(np.float64) for values in (a, b))
    apart = x - y
    return Products(*(float(np.dot(i, j)) for i, j in ((x, x), (y, y), (x, y), (apart, apart))))


def _closeness(found: Products) -> Closeness:
    # A part may be all zeros in both, e.g. a classifier that nobody uses.
    return Closeness(found.relative, found.cosine if found.aa and found.bb else float(found.aa == found.bb))


def _shuffled(values: npt.NDArray[np.float32], dice: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, columns = (dice.permutation(size) for size in values.shape[:2])
    return values[rows][:, columns]


def _groups(orders: Permutations) -> tuple[GroupShare, ...]:
    found = (
        GroupShare(name, orders.table.groups[name].size, orders.in_place(name))
        for family in orders.table.families
        for name in family
    )
    return tuple(sorted(found, key=lambda one: one.in_place))


def _shares(orders: Permutations, parts: Mapping[str, Products]) -> dict[str, float | None]:
    shares: dict[str, float | None] = {}
    for part in parts:
        inside = [one for one in _groups(orders) if one.name.partition(".")[0] == part]
        channels = sum(one.channels for one in inside)
        shares[part] = sum(one.in_place * one.channels for one in inside) / channels if channels else None
    return shares
