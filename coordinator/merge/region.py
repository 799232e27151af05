"""A region's update as a term of the merge: sums of several sites' models, and how much they weigh.

By weight of sites, a region is simply added: its sum is the sum of its sites' models. By weight of members, each
member's mean counts once. A mean is no integer, but a common multiple L of what the members stand for makes it
one: a member that stands for k sites is added L / k times, so that each is L models. If a further one needs a
larger L, the sums so far are multiplied, which is exact: the result doesn't depend on the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm

import numpy as np

from coordinator.merge.state import MergeState, Term, Terms, Update
from coordinator.merge.sums import BlockSum
from protos import boundary, fixedpoint, regions
from protos import update_pb2 as pb
from protos.checkpoints.reader import ModelReader
from protos.closing import Closing
from protos.errors import MergeRangeError
from protos.regions import Standing
from protos.statistics import StatisticSums


class RegionUpdate(Closing):
    """A region's update as a term: an open file that holds its parameters' sums, and its statistics' sums.

    Args:
        file: A file with the sums of all of the base's parameters, int64. They were checked.
        statistics: Each BatchNorm layer's sums.
        digest: The update's digest.
        standing: What it stands for.

    """

    def __init__(
        self, file: ModelReader, statistics: Mapping[str, StatisticSums], digest: bytes, standing: Standing
    ) -> None:
        self._file = file
        self._statistics = statistics
        self.digests = frozenset([digest.hex()])
        self.models, self.sites = standing.models, standing.sites

    def add(self, name: str, start: int, stop: int, to: BlockSum, weight: int) -> None:
        """Add elements of a parameter to a sum of them."""
        to.add_ints(self._file.read(name, start, stop).view(np.int64), weight)

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums."""
        return self._statistics[layer]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def update_term(
    file: ModelReader, header: pb.UpdateHeader, digest: bytes, key: bytes = b""
) -> Update | RegionUpdate:
    """Make a term of an update, a site's or a region's.

    Args:
        file: Holds its parameters.
        header: Its header, checked.
        digest: What it is named by.
        key: The site's Ed25519 public key; without it the site can't be told from others.

    """
    standing = regions.standing(header, key)
    if header.HasField("region"):
        return RegionUpdate(file, regions.layer_sums(header), digest, standing)
    return Update(file, boundary.statistics(header), digest, header.site, standing.sites)


def weights(models: Sequence[int]) -> list[int]:
    """Return how often to add each member so that all count the same, by how many sites each stands for."""
    multiple = lcm(*models)
    return [multiple // k for k in models]


def weighted(state: MergeState | None, terms: Sequence[Term], weighing: str) -> Terms:
    """Weight members, and a state that members were folded into before by the same rule.

    Args:
        state: What is merged already; None if nothing is.
        terms: Single members' updates.
        weighing: What counts once, a key of `protos.rules.WEIGHING`.

    """
    if weighing == "sites":
        added: list[Term] = [*([] if state is None else [state]), *terms]
        return [(1, term) for term in added]
    before = state.models // len(state.digests) if state is not None else 1
    multiple = lcm(before, *(term.models for term in terms))
    found: list[tuple[int, Term]] = [(multiple // term.models, term) for term in terms]
    return [*([(multiple // before, state)] if state is not None else []), *found]


def check_room(models: Sequence[int], weighing: str) -> None:
    """Make sure that a sum has room for members, by how many sites each stands for.

    Raises:
        MergeRangeError: It hasn't.

    """
    counted = sum(models) if weighing == "sites" else len(models) * lcm(*models)
    if counted > fixedpoint.MAX_MODELS:
        listed = ", ".join(map(str, sorted(models)))
        raise MergeRangeError(
            f"members that stand for {listed} sites would be {counted} models in one sum, which has room for "
            f"{fixedpoint.MAX_MODELS}",
            "weigh by sites, or have regions stand for numbers with a small common multiple"
            if weighing == "members"
            else "merge fewer sites",
        )
