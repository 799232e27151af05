"""From a campaign's merge state to its merged model and receipt."""

from __future__ import annotations

import json
import time

from google.protobuf import json_format

from coordinator.home import CampaignFolder
from coordinator.members import Member, State
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState
from protos import boundary, files, signing
from protos import receipt_pb2 as pb
from protos.campaign import WIRE_VERSION
from protos.digest import model_digest
from protos.tensorfile import TensorFile

PARAMETER_RULE, BUFFER_RULE = "uniform-midpoint", "gaussian-pooled"
MODEL, RECEIPT = "merged.safetensors", "receipt.binpb"


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
    digest = model_digest(base.manifest.tensors, digests)
    receipt = pb.Receipt(
        wire_version=WIRE_VERSION,
        campaign_digest=campaign.digest,
        base_digest=campaign.message.base_digest,
        inputs=[pb.Input(site=member.site, update_digest=member.digest) for member in merged],
        parameter_rule=PARAMETER_RULE,
        buffer_rule=BUFFER_RULE,
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
    found["inputs"] = [{"site": i.site, "update_digest": i.update_digest.hex()} for i in receipt.inputs]
    return dict(found)
