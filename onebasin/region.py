"""A region: a coordinator that takes part in the campaign of a coordinator above it.

Towards the one above it is a member with a folder, keys and a SuperNode like a site's. Its update is the merge
state of a finished campaign of its own. Here the two sides meet: the sums are read from the coordinator's folder,
and put into the outbox of the member's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from client import acceptance
from client.joined import Joined
from client.outbox import Outbox
from client.site import Site
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.merge.state import MergeState, block_sums, statistic_sum
from coordinator.merging import last_receipt
from protos import regions, signing
from protos import update_pb2 as pb
from protos.digest import short
from protos.errors import BaseMismatchError, ConfigurationError, ModelFileError, QuorumError
from protos.manifest import Manifest
from protos.regions import Standing
from protos.tensorfile import TensorFile


@dataclass(frozen=True)
class Put:
    """What was put into a region's outbox.

    Attributes:
        digest: The update's, 32 bytes.
        models: How many sites' models it is the sum of.
        receipt: Digest of the region's own receipt, hexadecimal.

    """

    digest: bytes
    models: int
    receipt: str


def init(folder: Path, home: Home, name: str, *, address: str = "", passphrase: bytes | None = None) -> Site:
    """Make a region's folder: what a coordinator takes part in others' campaigns with.

    Args:
        folder: Where.
        home: The coordinator.
        name: What the region is called above.
        address: Host and port of the SuperLink above, if not what its welcome will say.
        passphrase: Encrypts the private keys.

    Raises:
        ConfigurationError: The name is none, or there is a site already.

    """
    return Site.init(folder, name, address=address, passphrase=passphrase, region=home.public_key)


def put(joined: Joined, folder: CampaignFolder) -> Put:
    """Put the sum of a campaign into a region's outbox, as its update for the campaign above.

    Args:
        joined: The campaign above, as the region joined it.
        folder: The region's own campaign, finished.

    Raises:
        ConfigurationError: The two don't belong together, or a sum was merged above already.
        PolicyError: The campaign above is not accepted.
        BaseMismatchError: They have different bases.
        QuorumError: The region's campaign is not finished.
        UpdateRefusedError: The sum stands for too few sites or too many.
        ModelFileError: The merge state is damaged.
        StorageError: The disk is full.

    """
    acceptance.check(joined)
    _check_fitting(joined, folder)
    with ExitStack() as opened:
        opened.enter_context(folder.alone())
        receipt = last_receipt(folder)
        if receipt is None or not folder.state.exists():
            raise QuorumError(
                f"campaign {folder.path.name} of the region has no merged model yet, so there is no sum of it",
                "run it to its end: onebasin coordinator run",
            )
        base = opened.enter_context(TensorFile(joined.base)).manifest
        state = opened.enter_context(MergeState(folder.state))
        state.check()
        if state.digests != {entry.digest for entry in receipt.inputs} or len(state.sites) != state.models:
            raise ModelFileError(
                f"{folder.state} holds other updates than the receipt beside it says",
                f"run the campaign once more: onebasin coordinator run {folder.home.folder} {folder.path.name}",
            )
        standing = Standing(state.models, state.sites, bytes.fromhex(receipt.digest))
        digest = _store(joined, folder, base, state, standing)
        folder.log().note("sent-on", above=joined.campaign.digest.hex(), digest=digest.hex(), models=state.models)
        return Put(digest, state.models, receipt.digest)


def _store(joined: Joined, folder: CampaignFolder, base: Manifest, state: MergeState, standing: Standing) -> bytes:
    """Write the sums into the outbox, block by block, and have both keys sign for them."""
    terms, specs = [(1, state)], regions.sum_specs(base)

    def content(name: str) -> Iterator[bytes | memoryview]:
        for total in block_sums(terms, name, specs[name].size):
            yield total.ints().data.cast("B")

    def describe(digests: Mapping[str, bytes]) -> pb.UpdateHeader:
        sums = {layer: statistic_sum(terms, layer, channels) for layer, channels in base.layers.items()}
        return regions.describe(
            standing,
            digests,
            sums,
            base,
            campaign=joined.campaign,
            region=joined.site.name,
            key=folder.home.signing_key,
        )

    return Outbox(joined).store_sums(specs, content, describe)


def _check_fitting(joined: Joined, folder: CampaignFolder) -> None:
    """Make sure that a campaign's sum is what the campaign above takes from this region."""
    above, own, name = joined.campaign, folder.campaign, joined.site.name
    if not joined.is_region:
        raise ConfigurationError(
            f"campaign {above.name} lists {name} as a site, not as a region",
            "make the region's folder with `onebasin region init`, and have its request approved",
        )
    if above.regions[name] != own.message.coordinator_key:
        raise ConfigurationError(
            f"campaign {above.name} lists {signing.fingerprint(above.regions[name])} as the coordinator of region "
            f"{name}, and {folder.home.folder} is {signing.fingerprint(own.message.coordinator_key)}",
            "give the folder of the coordinator that the region was made for",
        )
    if above.message.base_digest != own.message.base_digest:
        raise BaseMismatchError(
            f"campaign {own.name} of the region starts from base {short(own.message.base_digest)}, campaign "
            f"{above.name} above from {short(above.message.base_digest)}",
            "only models of one base can be merged: lay the region's campaign down with the base of the one above",
        )
    if above.message.rules.copy != own.message.rules.copy:
        raise ConfigurationError(
            f"campaign {own.name} of the region merges the {own.rules.copy}, campaign {above.name} above the "
            f"{above.rules.copy}",
            f"lay the region's campaign down with --copy {above.rules.copy}",
        )
    if not own.rules.send_on:
        raise ConfigurationError(
            f"the members of campaign {own.name} agreed to a sum that stays with their coordinator",
            "lay it down with --send-on, and let the sites' operators accept that",
        )
