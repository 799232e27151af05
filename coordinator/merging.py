"""From a campaign's merge state to its merged model, with the receipt and each site's proof."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from coordinator import publishing
from coordinator.home import CampaignFolder
from coordinator.members import Member, State
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState
from protos import boundary, files, receipts, signing
from protos.audit import Anchor
from protos.digest import model_digest, stream_digest
from protos.errors import ModelFileError
from protos.receipts import BUFFER_RULE, PARAMETER_RULE, Input, Merged, Receipt
from protos.tensorfile import TensorFile

MODEL, RECEIPT, PROOFS, SUPERSEDED = "merged.safetensors", "receipt.json", "proofs", "superseded"


def merge(folder: CampaignFolder, base: TensorFile, members: list[Member]) -> Receipt:
    """Write the merged model, its signed receipt and the sites' proofs into the campaign's ``merged`` folder.

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
    merged = [member for member in members if member.state is State.MERGED]
    with publishing.result(folder.path) as making, MergeState(folder.state) as state:
        state.check()
        before = last_receipt(folder)
        updates = {member.site: member.digest.hex() for member in merged}
        content = Content(
            inputs=tuple(Input(site, digest) for site, digest in updates.items()),
            withdrawn=before.withdrawn if before else (),
            audit=folder.home.audit.note("merging", campaign=folder.path.name, updates=updates),
        )
        return write(making / publishing.MERGED, folder, base, state, content)


@dataclass(frozen=True)
class Content:
    """What a receipt says of the updates.

    Attributes:
        inputs: Those in the merge state.
        withdrawn: Those that were taken out of it.
        audit: The end of the audit log.

    """

    inputs: tuple[Input, ...]
    withdrawn: tuple[Input, ...]
    audit: Anchor


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
    metadata = {
        "format": "pt",
        "model": campaign.message.model,
        "classes": str(campaign.message.classes),
        "campaign": campaign.digest.hex(),
        "base": campaign.message.base_digest.hex(),
    }
    terms = [(1, state)]
    digests = write_midpoint(target / MODEL, base, terms, pooled_statistics(terms, base.manifest), metadata)
    merged = Merged(MODEL, stream_digest(target / MODEL), model_digest(base.manifest.tensors, digests).hex())
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
            parameter_rule=PARAMETER_RULE,
            buffer_rule=BUFFER_RULE,
            models=state.models,
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


def last_receipt(folder: CampaignFolder) -> Receipt | None:
    """Return the receipt of the result that is there, or None if there is none.

    Raises:
        SignatureError: It is not this coordinator's, or was changed.
        VerificationError: It is damaged.

    """
    path = folder.merged / RECEIPT
    if not path.exists():
        return None
    return receipts.read(path, signing.public_bytes(folder.home.signing_key))


def _keep_earlier(old: Path, target: Path, digest: str) -> None:
    """Take the superseded receipts over, and with a digest the one that is superseded now."""
    earlier = sorted((old / SUPERSEDED).glob("*.json"))
    found = {path.name: path for path in earlier} | ({f"{digest[:12]}.json": old / RECEIPT} if digest else {})
    for name, path in found.items():
        files.write(files.make_folder(target / SUPERSEDED) / name, path.read_bytes())
