"""From a campaign's merge state to its merged model and receipt."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format

from coordinator.home import CampaignFolder
from coordinator.members import Member, State
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.pooling import pool
from coordinator.merge.state import MergeState
from protos import boundary, files, signing
from protos import merged as merged_file
from protos import receipt_pb2 as pb
from protos.boundary import BatchNorm, Statistics
from protos.campaign import KEPT_AT_SITES, WIRE_VERSION
from protos.digest import model_digest, parameters_digest
from protos.manifest import Manifest
from protos.merged import LIMIT_KEY, SETS
from protos.tensorfile import TensorFile

PARAMETER_RULE = "uniform-midpoint"
BUFFER_RULES = {
    "pooled": "gaussian-pooled",
    "pooled-recalibrated": "gaussian-pooled-recalibrated",
    "routed": "routed",
}
"""What a receipt says of a model's statistics, by the campaign's rule.

Where each site has its own, the coordinator's model has the pooled ones."""
MODEL, RECEIPT = "merged.safetensors", "receipt.binpb"


@dataclass(frozen=True)
class Measured:
    """The statistics that sites measured for a merged model, and the digests of what they signed, by site."""

    found: Mapping[str, Statistics] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict)


def merge(folder: CampaignFolder, base: TensorFile, members: list[Member]) -> tuple[pb.Receipt, bytes]:
    """Write the merged model and its signed receipt into the campaign's ``merged`` folder.

    Args:
        folder: The campaign.
        base: Its base, open.
        members: Its members; those that are merged must be exactly what the state holds.

    Returns:
        The receipt, and the digest of what was signed.

    Raises:
        StorageError: The disk is full.

    """
    campaign = folder.campaign
    files.make_folder(folder.merged)
    merged = [member for member in members if member.state is State.MERGED]
    metadata = {
        "format": "pt",
        "model": campaign.message.model,
        "classes": str(campaign.message.classes),
        "campaign": campaign.digest.hex(),
        "base": campaign.message.base_digest.hex(),
    }
    with MergeState(folder.state) as state:
        if state.digests != {member.digest.hex() for member in merged}:
            raise AssertionError("the merge state holds other updates than its journal says")
        terms = [(1, state)]
        buffers = pooled_statistics(terms, base.manifest)
        state.check()
        digests = write_midpoint(folder.merged / MODEL, base, terms, buffers, metadata)
        models = state.models
    return _receipt(folder, merged, model_digest(base.manifest.tensors, digests), models, BUFFER_RULES["pooled"])


def finish(
    folder: CampaignFolder, base: TensorFile, members: list[Member], measured: Measured
) -> tuple[pb.Receipt, bytes]:
    """Give the merged model the statistics that sites measured for it, and write its receipt anew.

    Args:
        folder: The campaign; :func:`merge` has written its model with pooled statistics.
        base: Its base, open.
        members: Its members.
        measured: What they measured: at least one's.

    Returns:
        The receipt, and the digest of what was signed.

    Raises:
        MergeRangeError: A statistic is more than the base's dtype holds.
        StorageError: The disk is full. The model is the old one or the new one, whole.

    """
    rule = folder.campaign.rules.buffers
    path = folder.merged / MODEL
    with MergeState(folder.state) as state, TensorFile(path) as midpoint:
        pooled = pooled_statistics([(1, state)], base.manifest)
        models = state.models
        sets = measured.found if rule == "routed" else {}
        statistics = pooled if sets else pooled_measured(measured)
        metadata = {key: value for key, value in midpoint.metadata.items() if key not in (SETS, LIMIT_KEY)}
        specs, digests = merged_file.write(path, base, midpoint, statistics, metadata, sets)
    merged = [member for member in members if member.state is State.MERGED]
    return _receipt(folder, merged, model_digest(specs, digests), models, BUFFER_RULES[rule], measured.digests)


def pooled_measured(measured: Measured) -> dict[str, BatchNorm]:
    """Pool the statistics that sites measured, as Gaussians weighted by batches."""
    found = list(measured.found.values())
    return {layer: pool([one[layer] for one in found], layer) for layer in found[0]}


def sets_for_sites(folder: CampaignFolder, base: Manifest, measured: Measured) -> dict[str, Statistics]:
    """Return the statistics that sites need for their model: the first has no name, the others are sites'."""
    rule = folder.campaign.rules.buffers
    if rule in KEPT_AT_SITES:
        return {}
    if rule == "pooled-recalibrated":
        return {"": pooled_measured(measured)}
    with MergeState(folder.state) as state:
        pooled = pooled_statistics([(1, state)], base)
    return {"": pooled, **measured.found}


def midpoint_digest(folder: CampaignFolder) -> bytes:
    """Return the digest of the merged model's parameters."""
    with TensorFile(folder.merged / MODEL) as model:
        return parameters_digest(model)


def _receipt(
    folder: CampaignFolder,
    merged: list[Member],
    digest: bytes,
    models: int,
    buffer_rule: str,
    measured: Mapping[str, bytes] | None = None,
) -> tuple[pb.Receipt, bytes]:
    campaign = folder.campaign
    known = measured or {}
    receipt = pb.Receipt(
        wire_version=WIRE_VERSION,
        campaign_digest=campaign.digest,
        base_digest=campaign.message.base_digest,
        inputs=[
            pb.Input(site=m.site, update_digest=m.digest, measured_digest=known.get(m.site, b"")) for m in merged
        ],
        parameter_rule=PARAMETER_RULE,
        buffer_rule=buffer_rule,
        merged_digest=digest,
        models=models,
        created_unix=int(time.time()),
        versions=boundary.versions(),
    )
    envelope = signing.signed(signing.RECEIPT, receipt, folder.home.signing_key)
    files.write(folder.merged / RECEIPT, envelope.SerializeToString(deterministic=True))
    files.write(folder.merged / "receipt.json", json.dumps(_readable(receipt), indent=1) + "\n")
    return receipt, signing.digest(envelope)


def _readable(receipt: pb.Receipt) -> dict[str, object]:
    """Return a receipt for people: digests in hexadecimal. What counts is the signed file beside it."""
    found = json_format.MessageToDict(receipt, preserving_proto_field_name=True)
    for key in ("campaign_digest", "base_digest", "merged_digest"):
        found[key] = getattr(receipt, key).hex()
    found["inputs"] = [
        {"site": i.site, "update_digest": i.update_digest.hex()}
        | ({"measured_digest": i.measured_digest.hex()} if i.measured_digest else {})
        for i in receipt.inputs
    ]
    return dict(found)
