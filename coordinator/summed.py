"""A secure sum without its masks: what arrived under them, added up, as a term of the merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from coordinator.arrivals import MaskedArrival
from coordinator.campaign_folder import CampaignFolder
from coordinator.merge.state import write_sum
from coordinator.merge.sums import BlockSum
from protos import regions
from protos.digest import sha256
from protos.errors import ModelFileError
from protos.manifest import Manifest
from protos.securesum.keystream import Mask
from protos.securesum.layout import Layout, Vector
from protos.securesum.total import MaskedSum, Read
from protos.securesum.wide import WORD, Words
from protos.securesum_pb2 import Masked
from protos.statistics import StatisticSums
from protos.tensorfile import TensorFile


class Summed:
    """The unmasked sum as a term of the merge.

    Args:
        total: The sum.
        digests: What the updates in it are named by.
        sites: The tokens of the sites that they are of.

    """

    def __init__(self, total: MaskedSum, digests: frozenset[str], sites: frozenset[str]) -> None:
        self._total = total
        self.models = total.models
        self.digests = digests
        self.sites = sites

    def add(self, name: str, start: int, stop: int, to: BlockSum, weight: int) -> None:
        """Add elements of a parameter to a sum of them; raises as `MaskedSum.parameter`."""
        to.add_ints(self._total.parameter(name, start, stop), weight)

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums; raises as `MaskedSum.statistics`."""
        return self._total.statistics(layer)


def write(
    folder: CampaignFolder, base: Manifest, vectors: Layout, masks: Sequence[Mask], named: Mapping[str, bytes]
) -> None:
    """Write the sum as the merge state.

    Args:
        folder: The campaign's folder, in which the masked values are.
        base: What updates consist of.
        vectors: What the masked values are.
        masks: What is to be taken from their sum.
        named: The sites whose values are added, and what these are named by.

    Raises:
        SecureSumError: It is no sum of updates.
        ModelFileError: Masked values can't be read.
        StorageError: The disk is full.

    """
    with ExitStack() as opened:
        files = [opened.enter_context(_arrived(folder, site)) for site in named]
        total = MaskedSum(vectors, list(map(_reader, files)), masks)
        digests, sites = (digest.hex() for digest in named.values()), regions.tokens(folder.campaign, named)
        term = Summed(total, frozenset(digests), sites)
        write_sum(folder.state, base, folder.campaign.message.base_digest, [(1, term)])


def check(folder: CampaignFolder, site: str, statement: Masked) -> None:
    """Compare what arrived of a site with what the site signed for it.

    Raises:
        ModelFileError: It is damaged, or not there.

    """
    with _arrived(folder, site) as file:
        for vector in statement.vectors:
            if sha256(file.chunks(vector.key)) != vector.sha256:
                raise ModelFileError(
                    f"{file.path} is not what site {site} sent: {vector.key} is damaged",
                    "restore it from a copy, or create a new campaign: sites reveal their shares once",
                )


def _arrived(folder: CampaignFolder, site: str) -> TensorFile:
    return TensorFile(MaskedArrival.file_in(folder.arrivals / site))


def _reader(file: TensorFile) -> Read:
    def read(vector: Vector, start: int, stop: int) -> Words:
        return file.read(vector.key, start * vector.width, stop * vector.width).view(WORD)

    return read
