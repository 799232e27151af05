"""From a campaign's merge state to its merged model, with the receipt and each site's proof."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordinator import publishing
from coordinator.campaign_folder import CampaignFolder
from coordinator.members import Member, State
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.pooling import pool
from coordinator.merge.state import MergeState
from coordinator.receipted import MODEL as MODEL
from coordinator.receipted import PROOFS, SUPERSEDED
from coordinator.receipted import RECEIPT as RECEIPT
from coordinator.receipted import last_receipt as last_receipt
from protos import boundary, files, regions
from protos import merged as merged_file
from protos.audit import Anchor
from protos.boundary import BatchNorm, Statistics
from protos.digest import model_digest, parameters_digest, stream_digest
from protos.errors import ModelFileError
from protos.manifest import Manifest
from protos.receipts import BUFFER_RULE, BUFFER_RULES, PARAMETER_RULES, Input, Merged, Nested, Receipt
from protos.tensorfile import TensorFile


@dataclass(frozen=True)
class Measured:
    """The statistics that sites measured for a merged model, and the digests of what they signed, by site."""

    found: Mapping[str, Statistics] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict)


def merge(folder: CampaignFolder, base: TensorFile, members: list[Member]) -> Receipt:
    """Write the merged model, its signed receipt and the sites' proofs into the campaign's ``merged`` folder.

    Its statistics are the updates', pooled.

    Args:
        folder: The campaign.
        base: Its base, open.
        members: Its members; those that are merged must be exactly what the state holds.

    Returns:
        The receipt: the one that is there already if the merge is the same.

    Raises:
        ModelFileError: The state holds an update that no header and no receipt names.
        VerificationError: The receipt that is there is damaged, or the audit log was changed.
        StorageError: The disk is full; what was there is untouched.

    """
    return _publish(folder, base, members, Measured())


def finish(folder: CampaignFolder, base: TensorFile, members: list[Member], measured: Measured) -> Receipt:
    """Write the result anew, with statistics that sites measured for the merged model; see `merge`."""
    return _publish(folder, base, members, measured)


def _publish(folder: CampaignFolder, base: TensorFile, members: list[Member], measured: Measured) -> Receipt:
    merged = [member for member in members if member.state is State.MERGED]
    with publishing.result(folder.path) as making, MergeState(folder.state) as state:
        state.check()
        before = last_receipt(folder)
        updates = {member.site: member.digest.hex() for member in merged}
        content = Content(
            inputs=tuple(_input(folder, member, before, measured) for member in merged),
            withdrawn=before.withdrawn if before else (),
            audit=folder.home.audit.note("merging", campaign=folder.path.name, updates=updates),
            measured=measured,
        )
        return write(making / publishing.MERGED, folder, base, state, content)


def _input(folder: CampaignFolder, member: Member, before: Receipt | None, measured: Measured) -> Input:
    """Say what a member's update is; by its header or, once that is dropped, by the receipt before."""
    site, region, campaign = member.site, None, folder.campaign
    if site in campaign.regions and member.header is not None:
        found = regions.standing(member.header)
        region = Nested(found.receipt.hex(), campaign.regions[site].hex(), found.models)
    elif before is not None:
        region = next((entry.region for entry in before.inputs if entry.site == site), None)
    return Input(site, member.digest.hex(), measured.digests.get(site, b"").hex(), region)


def pooled_measured(measured: Measured) -> dict[str, BatchNorm]:
    """Pool the statistics that sites measured, as Gaussians weighted by batches."""
    found = list(measured.found.values())
    return {layer: pool([one[layer] for one in found], layer) for layer in found[0]}


def sets_for_sites(folder: CampaignFolder, base: Manifest, measured: Measured) -> dict[str, Statistics]:
    """Return the statistics of the receipt's model: the first has no name, the others are sites'."""
    if folder.campaign.rules.buffers == "pooled-recalibrated":
        return {"": pooled_measured(measured)}
    with MergeState(folder.state) as state:
        pooled = pooled_statistics([(1, state)], base)
    return {"": pooled, **measured.found}


def midpoint_digest(folder: CampaignFolder) -> bytes:
    """Return the digest of the merged model's parameters."""
    with TensorFile(folder.merged / MODEL) as model:
        return parameters_digest(model)


@dataclass(frozen=True)
class Content:
    """What a receipt says of the updates.

    Attributes:
        inputs: Those in the merge state.
        withdrawn: Those that were taken out of it.
        audit: The end of the audit log.
        measured: Statistics that sites measured for the merged model, if it is to have them.

    """

    inputs: tuple[Input, ...]
    withdrawn: tuple[Input, ...]
    audit: Anchor
    measured: Measured = field(default_factory=Measured)


def write(target: Path, folder: CampaignFolder, base: TensorFile, state: MergeState, content: Content) -> Receipt:
    """Write a complete result into an empty folder: model, receipt, proofs, and the receipts before it.

    Args:
        target: The folder.
        folder: The campaign, with the result that this one will replace.
        base: Its base, open.
        state: What is merged, checked.
        content: What the receipt says of it.

    """
    campaign = folder.campaign
    if state.digests != {entry.digest for entry in content.inputs}:
        raise ModelFileError(
            f"{folder.state} holds other updates than the headers and receipts beside it say",
            "restore arrivals and merged from a copy, or remove the state and collect the updates again",
        )
    metadata = merged_file.metadata(campaign)
    terms = [(1, state)]
    pooled = pooled_statistics(terms, base.manifest)
    specs, digests = base.manifest.tensors, write_midpoint(target / MODEL, base, terms, pooled, metadata)
    if found := content.measured.found:
        sets = found if campaign.rules.buffers == "routed" else {}
        statistics = pooled if sets else pooled_measured(content.measured)
        with TensorFile(target / MODEL) as midpoint:
            specs, digests = merged_file.write(target / MODEL, base, midpoint, statistics, metadata, sets)
    merged = Merged(MODEL, stream_digest(target / MODEL), model_digest(specs, digests).hex())
    before = last_receipt(folder)
    same = before is not None and (before.inputs, before.withdrawn, before.merged) == (
        content.inputs,
        content.withdrawn,
        merged,
    )
    if before is not None and same:
        receipt = before
        files.write(target / RECEIPT, (folder.merged / RECEIPT).read_bytes())
    else:
        receipt = Receipt(
            campaign=campaign.name,
            campaign_digest=campaign.digest.hex(),
            base_digest=campaign.message.base_digest.hex(),
            rules=campaign.rules,
            inputs=content.inputs,
            withdrawn=content.withdrawn,
            supersedes=before.digest if before else "",
            parameter_rule=PARAMETER_RULES[campaign.rules.weighing],
            buffer_rule=BUFFER_RULES[campaign.rules.buffers] if found else BUFFER_RULE,
            models=sum(entry.models for entry in content.inputs),
            merged=merged,
            audit=content.audit,
            created_unix=int(time.time()),
            versions={entry.name: entry.version for entry in boundary.versions()},
        )
        files.write(target / RECEIPT, receipt.signed(folder.home.signing_key))
    for entry in receipt.inputs:
        receipt.proof(entry.site).write(files.make_folder(target / PROOFS) / f"{entry.site}.json")
    _keep_earlier(folder.merged, target, before.digest if before and not same else "")
    return receipt


def _keep_earlier(old: Path, target: Path, digest: str) -> None:
    """Take the superseded receipts over, and with a digest the one that is superseded now."""
    earlier = sorted((old / SUPERSEDED).glob("*.json"))
    found = {path.name: path for path in earlier} | ({f"{digest[:12]}.json": old / RECEIPT} if digest else {})
    for name, path in found.items():
        files.write(files.make_folder(target / SUPERSEDED) / name, path.read_bytes())
