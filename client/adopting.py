"""The merged model comes home: it is written down with the statistics that the campaign's rule names.

With it comes the receipt for this site's update; where the rules don't let sites have the model, that alone.
"""

from __future__ import annotations

import logging

from client.delivered import Delivered, ForbiddenError
from client.joined import Joined
from client.measuring import measured
from client.outbox import Outbox
from client.summing import Summing
from protos import boundary, files, merged, receipts
from protos import messages_pb2 as pb
from protos.boundary import Statistics
from protos.digest import model_digest
from protos.errors import UpdateRefusedError
from protos.manifest import Manifest
from protos.receipts import Receipt
from protos.rules import KEPT_AT_SITES, SECURE_SUM
from protos.tensorfile import TensorFile

MODEL, RECEIPT = "merged.safetensors", "receipt.json"
"""In a campaign's folder at the site."""

log = logging.getLogger("onebasin.site")


def adopt(joined: Joined, base: TensorFile, request: pb.Adopt, delivered: Delivered) -> None:
    """Write the merged model, if the rules let sites have it, and its receipt into the campaign's folder.

    Args:
        joined: The campaign.
        base: Its base, open.
        request: Names the parameters, and carries statistics and the receipt.
        delivered: The models that were delivered for the campaign.

    Raises:
        ForbiddenError: The rules don't let sites have the model.
        NotDeliveredError: The parameters aren't here, or not whole.
        UpdateRefusedError: Statistics don't fit the base, or the model isn't the one of the receipt.
        SignatureError: The coordinator didn't sign the receipt.
        VerificationError: It is none.
        StorageError: The disk is full.

    """
    site, campaign = joined.site, joined.campaign
    if not campaign.rules.deliver and (request.digest or request.buffer_sets):
        raise ForbiddenError(f"site {site.name}: by the campaign's rules sites don't get the merged model")
    receipt = check_receipt(joined, request.receipt)
    if not campaign.rules.deliver:
        files.write(joined.folder / RECEIPT, request.receipt)
        log.info("the receipt for this site's update is here")
        return
    pooled, sets = _carried(joined, base.manifest, request)
    part, metadata = joined.folder / f"part-{MODEL}", merged.metadata(campaign)
    with delivered.open(request.digest) as parameters:
        specs, digests = merged.write(part, base, parameters, pooled, metadata, sets)
        if model_digest(specs, digests).hex() != receipt.merged.digest:
            part.unlink()
            raise UpdateRefusedError(f"site {site.name}: the merged model is not the one that the receipt names")
        if campaign.rules.buffers in KEPT_AT_SITES:  # it is the receipt's model but for what only this site knows
            own = _own(joined, base.manifest, request, delivered)
            merged.write(part, base, parameters, own, metadata)
    part.replace(joined.folder / MODEL)
    files.write(joined.folder / RECEIPT, request.receipt)
    log.info("the merged model is here: %s", joined.folder / MODEL)


def check_receipt(joined: Joined, content: bytes) -> Receipt:
    """Check a receipt: that it is the coordinator's, for this campaign, and names this site's update.

    Raises:
        SignatureError: The coordinator didn't sign it.
        VerificationError: It is none.
        UpdateRefusedError: It is another's.
        SecureSumError: No masked update was sent.

    """
    name, campaign = joined.site.name, joined.campaign
    found = receipts.opened(content, campaign.message.coordinator_key, "the receipt")
    mine = [entry.digest for entry in found.inputs if entry.site == name]
    if found.campaign_digest != campaign.digest.hex():
        raise UpdateRefusedError(f"site {name}: the receipt is for campaign {found.campaign_digest[:12]}")
    sent = Summing(joined).digest() if campaign.rules.privacy == SECURE_SUM else Outbox(joined).digest()
    if mine != [sent.hex()]:
        raise UpdateRefusedError(f"site {name}: the receipt doesn't name this site's update")
    return found


def _own(joined: Joined, base: Manifest, request: pb.Adopt, delivered: Delivered) -> Statistics:
    """Return the statistics that stay at this site."""
    if joined.campaign.rules.buffers == "own":
        return Outbox(joined).statistics()
    return measured(joined, base, delivered, request.digest)


def _carried(joined: Joined, base: Manifest, request: pb.Adopt) -> tuple[Statistics, dict[str, Statistics]]:
    """Return the statistics of the receipt's model, and the further sets among which it chooses."""
    rule, found = joined.campaign.rules.buffers, dict[str, Statistics]()
    for entry in request.buffer_sets:
        boundary.check_batch_norms(entry.batch_norms, base, "the coordinator")
        found[entry.set] = {one.layer: boundary.batch_norm(one) for one in entry.batch_norms}
    known = {"", *joined.campaign.sites} if rule == "routed" else {""}
    if "" not in found or not found.keys() <= known:
        raise UpdateRefusedError(
            f"site {joined.site.name}: the merged model came with statistics that the rule {rule} doesn't know"
        )
    return found.pop(""), found
