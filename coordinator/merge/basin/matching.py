"""Weight matching: the order of one model's channels that makes its weights most like another's.

Algorithm 1 of Git Re-Basin (Ainsworth, Hayase and Srinivasa, 2022, arXiv 2209.04836): with all other groups as
they are, the best order of one group is a linear assignment problem, which is solved exactly; group after group,
in random order, until none gets better. Every step raises ⟨reference, permuted other⟩, so it ends.

Three things are ours. Heads of attention are assigned as wholes, each pair of heads with its own best inner order.
A channel that would gain nothing by moving stays, so that a tie, e.g. between dead channels, is no move. And the
identity is the start only where it is a good one; otherwise it is an order found in one pass through the network
that begins at what is in order already (colours, classes). That alone recovers a permuted network exactly, and
between networks that share nothing it ends higher, and sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from coordinator.merge.basin.architectures import table_of
from coordinator.merge.basin.permutations import Order, Permutations
from coordinator.merge.basin.table import Table, Use
from coordinator.merge.basin.values import finite
from protos.checkpoints.reader import ModelReader

Matrix = npt.NDArray[np.float64]
Family = tuple[str, ...]
Rows = npt.NDArray[np.float32]
"""One row for each of a group's channels."""

SWEEPS = 100
"""At most so many times through all groups, as in the paper's code; far fewer are needed."""

NOTABLE = 0.01
"""How much better a group must get, relative to what it was, for its neighbours to be assigned again. With none,
sweep after sweep moves a few channels and gains nothing: between random ResNet-50s the cosine of all parameters is
0.3966 after the pass from the anchors, 0.3976 with this bound, 0.3981 with a tenth of it at twice the time, and
0.3983 after six sweeps of everything."""

_NEAR = 0.5
"""Share of channels left in place by a sweep from the identity, from which on it is worth going on from there.
Models of one base keep nearly all of theirs, models that share nothing a hundredth."""

_COLUMNS = 1024
"""Small tensors are multiplied together, as many at a time: each product costs passes over a whole matrix."""

_STAY = 1e-5
"""What a channel must gain by moving, relative to what staying gives it: above float32's rounding of sums."""
_STAY_DEAD = 1e-10
"""The same relative to the largest entry, for channels whose weights are zero, or nearly."""


def align(
    reference: ModelReader, other: ModelReader, *, table: Table | None = None, seed: int = 0
) -> Permutations:
    """Find the order of `other`'s channels that brings its weights nearest to `reference`'s.

    Memory is bounded by a few matrices of the largest group (float64, channels squared) and a few tensors: models
    are read tensor by tensor, again for each group.

    Args:
        reference: The model that stays.
        other: A model of the same architecture.
        table: Its groups; found from the names and shapes if not given.
        seed: Seed of the order in which groups are gone through.

    Raises:
        ModelFileError: The architecture is not known, or a value is NaN, infinite or too large.

    """
    pair = _Pair(reference, other, table or table_of(reference.manifest.tensors))
    found = _improved(pair, Permutations(pair.table), seed, sweeps=1)
    if found.is_identity:
        return found
    starts = [_from_anchors(pair)]
    if found.share > _NEAR:
        starts.append(found)
    ends = [_improved(pair, start, seed) for start in starts]
    return max(ends, key=pair.likeness) if len(ends) > 1 else ends[0]


class _Pair:
    """Two models, and the table of both."""

    def __init__(self, reference: ModelReader, other: ModelReader, table: Table) -> None:
        self._reference, self._other = reference, other
        self.table = table
        # Statistics are not weights, and buffers are the same in both.
        self.parameters = reference.manifest.parameters
        self.uses: Mapping[str, tuple[Use, ...]] = {
            group: tuple(use for use in uses if use.tensor in self.parameters)
            for group, uses in table.uses.items()
        }
        self.neighbours = {
            family: {group for name in family for use in self.uses[name] for group in table.of(use.tensor)}
            for family in table.families
        }

    def similarity(self, group: str, uses: Iterable[Use], orders: Permutations) -> Matrix:
        """Return ⟨channel i of the reference, channel j of the other⟩ for all i and j, added up over tensors.

        All other axes of the other model's tensors are in the given order.
        """
        size = self.table.groups[group].size
        total = np.zeros((size, size))
        waiting: list[tuple[Rows, Rows]] = []
        for use in uses:
            here = finite(self._reference, use.tensor)
            there = orders.apply(use.tensor, finite(self._other, use.tensor), but=use.axis)
            waiting.append((_rows(here, use, size), _rows(there, use, size)))
            if sum(rows.shape[1] for rows, _ in waiting) >= _COLUMNS:
                total += _product(waiting)
                waiting = []
        return total + _product(waiting) if waiting else total

    def likeness(self, orders: Permutations) -> float:
        """Return ⟨reference, permuted other⟩ over all parameters: what the algorithm maximises."""
        return sum(
            float(
                np.dot(_flat(finite(self._reference, name)), _flat(orders.apply(name, finite(self._other, name))))
            )
            for name in self.parameters
        )


def _flat(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return values.reshape(-1).astype(np.float64)


def _product(pairs: Sequence[tuple[Rows, Rows]]) -> npt.NDArray[np.float32]:
    here, there = (np.concatenate(rows, axis=1) if len(rows) > 1 else rows[0] for rows in zip(*pairs, strict=True))
    found: npt.NDArray[np.float32] = np.dot(here, there.T)
    return found


def _rows(values: npt.NDArray[np.float32], use: Use, size: int) -> Rows:
    """Return a group's channels as rows (size, everything else)."""
    return np.moveaxis(values, use.axis, 0)[use.start : use.start + size].reshape(size, -1)


def _improved(pair: _Pair, orders: Permutations, seed: int, sweeps: int = SWEEPS) -> Permutations:
    """Assign group after group until none gets better.

    A group's problem depends on the groups that it shares tensors with, so it is solved again only after one of
    them got notably better.
    """
    families, dice = pair.table.families, np.random.default_rng(seed)
    stale = set(families)
    for _ in range(sweeps):
        for index in dice.permutation(len(families)):
            family = families[index]
            if family not in stale:
                continue
            stale.discard(family)
            orders, gain = _assigned(pair, family, [pair.uses[group] for group in family], orders)
            if gain > NOTABLE:
                stale |= {one for one in families if pair.neighbours[one] & set(family)} - {family}
        if not stale:
            break
    return orders


def _from_anchors(pair: _Pair) -> Permutations:
    """Assign each group once, by those tensors only whose other axes are in order already.

    Next comes the group about which most is known: at first those beside the image's colours and the classes.
    """
    known = {name for name, group in pair.table.groups.items() if group.fixed}
    left = dict.fromkeys(pair.table.families)
    orders = Permutations(pair.table)
    while left:
        evidence = {family: [_anchored(pair, group, known) for group in family] for family in left}
        family = max(left, key=lambda one: _elements(pair, evidence[one]))
        orders, _ = _assigned(pair, family, evidence[family], orders)
        known.update(family)
        del left[family]
    return orders


def _anchored(pair: _Pair, group: str, known: set[str]) -> list[Use]:
    """Return a group's uses in tensors all of whose other axes are in order."""
    found = []
    for use in pair.uses[group]:
        others = (names for axis, names in enumerate(pair.table.axes[use.tensor]) if axis != use.axis)
        if all(name in known for names in others for name in names):
            found.append(use)
    return found


def _elements(pair: _Pair, evidence: Sequence[Iterable[Use]]) -> int:
    """Count the weights by which a channel is told, in the group of a family where they are fewest."""
    specs = pair.parameters
    return min(
        sum(specs[use.tensor].size // specs[use.tensor].shape[use.axis] for use in uses) for uses in evidence
    )


def _assigned(
    pair: _Pair, family: Family, uses: Sequence[Iterable[Use]], orders: Permutations
) -> tuple[Permutations, float]:
    """Assign a family anew, and tell how much better it got, relative to what it was."""
    matrices = [pair.similarity(group, found, orders) for group, found in zip(family, uses, strict=True)]
    now = [orders.order(group) for group in family]
    best = assign(matrices, now, pair.table.groups[family[0]].heads)
    before, after = (
        sum(
            float(matrix[np.arange(len(order)), order].sum())
            for matrix, order in zip(matrices, found, strict=True)
        )
        for found in (now, best)
    )
    return orders.changed(dict(zip(family, best, strict=True))), (after - before) / max(
        abs(before), np.finfo(np.float64).tiny
    )


def assign(matrices: Sequence[Matrix], now: Sequence[Order], heads: int = 1) -> list[Order]:
    """Find the orders of groups that maximise the sum of what each channel gains in its place.

    Args:
        matrices: For each group (n, n): what its place i gains from channel j. Changed in place.
        now: Each group's order now, which stays where nothing is gained.
        heads: Of how many heads each group consists; heads change places in all groups alike. For each pair of
            heads the inner orders are found first, and what they gain together decides on the heads.

    Returns:
        Each group's order.

    """
    for matrix, order in zip(matrices, now, strict=True):
        places = np.arange(len(order))
        stay = np.abs(matrix[places, order])
        matrix[places, order] += _STAY * stay + _STAY_DEAD * np.abs(matrix).max(initial=0.0)
    gains = np.zeros((heads, heads))
    inner: dict[tuple[int, int], list[Order]] = {}
    for a in range(heads):
        for b in range(heads):
            inner[a, b] = []
            for matrix in matrices:
                width = len(matrix) // heads
                block = matrix[a * width : (a + 1) * width, b * width : (b + 1) * width]
                rows, columns = linear_sum_assignment(block, maximize=True)
                gains[a, b] += block[rows, columns].sum()
                inner[a, b].append(columns + b * width)
    outer = linear_sum_assignment(gains, maximize=True)[1]
    pairs = [inner[a, int(b)] for a, b in enumerate(outer)]
    return [np.concatenate([pair[place] for pair in pairs]) for place in range(len(matrices))]
