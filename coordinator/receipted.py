"""The receipts in a campaign's folder: the one that counts, and those that it superseded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coordinator.campaign_folder import CampaignFolder
from protos import receipts
from protos.receipts import Receipt

MODEL, RECEIPT, PROOFS, SUPERSEDED = "merged.safetensors", "receipt.json", "proofs", "superseded"


def last_receipt(folder: CampaignFolder) -> Receipt | None:
    """Return the receipt of the result that is there, or None if there is none.

    Raises:
        SignatureError: It is not this coordinator's, or was changed.
        VerificationError: It is damaged.

    """
    path = folder.merged / RECEIPT
    if not path.exists():
        return None
    return receipts.read(path, folder.home.public_key)


def receipt_files(folder: CampaignFolder) -> Iterator[Path]:
    """List the files of all receipts of a campaign, the one that counts first."""
    if (path := folder.merged / RECEIPT).exists():
        yield path
    yield from sorted((folder.merged / SUPERSEDED).glob("*.json"))
