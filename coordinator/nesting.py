"""Receipts behind receipts: what those that stay in the regions tell of a merge of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protos import dsse, receipts
from protos.errors import SignatureError
from protos.receipts import Input, Receipt
from protos.rules import SECURE_SUM
from protos.updatefile import UpdateFile


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: Of the question, for programs.
        ok: Whether it is as it should be; None if it was not looked at.
        said: The answer, for people.

    """

    name: str
    ok: bool | None
    said: str


@dataclass(frozen=True)
class Nesting:
    """A receipt, and those that are nested in it.

    Attributes:
        receipts: That of the merge first; their signatures are good.
        checks: What came of looking at the nested ones.

    """

    receipts: list[Receipt]
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def opened(cls, receipt: Receipt, paths: Sequence[Path]) -> Nesting:
        """Open the receipts of regions, each with the key that the receipt around it names.

        Raises:
            VerificationError: A file is no receipt.

        """
        found, left = cls([receipt]), {path: dsse.read(path, "receipt") for path in paths}
        for outer in found.receipts:  # grows on the way: a region may have regions
            for entry in outer.inputs:
                found._open(outer, entry, left)
        for path in left:
            found.checks.append(
                Check(f"region:{path.name}", False, f"{path} is no receipt of a region in this merge")
            )
        return found

    def _open(self, outer: Receipt, entry: Input, left: dict[Path, bytes]) -> None:
        if entry.region is None:
            return
        name, region = f"region:{entry.site}", entry.region
        for path, text in list(left.items()):
            try:
                inner = receipts.opened(text, bytes.fromhex(region.coordinator), str(path))
            except SignatureError:  # another region's, perhaps
                continue
            if inner.digest != region.receipt:
                continue
            del left[path]
            wrong = (
                f"counts {inner.models} sites and not {region.models}"
                if inner.models != region.models
                else "is of another base"
                if inner.base_digest != outer.base_digest
                else ""
            )
            said = (
                f"the receipt of region {entry.site} {wrong or f'is the one that is nested: {inner.models} sites'}"
            )
            self.checks.append(Check(name, not wrong, said))
            self.receipts.append(inner)
            return
        said = (
            f"region {entry.site} stands for {region.models} sites by its receipt {region.receipt[:12]}, not given"
        )
        self.checks.append(Check(name, None, said))

    def find(self, update: UpdateFile) -> tuple[Receipt, Input | None]:
        """Find an update: the receipt that names it, and what that says; the first one if none does."""
        for receipt in self.receipts:
            for entry in receipt.inputs:
                if name_in(receipt, update) in (entry.digest, entry.site):
                    return receipt, entry
        return self.receipts[0], None

    def gathered(
        self, receipt: Receipt, entry: Input, updates: Sequence[UpdateFile]
    ) -> tuple[list[UpdateFile], list[str]]:
        """Find the updates that make up an input: its own or, of a region, those inside; and what is missing."""
        wanted = entry.site if is_summed(receipt) else entry.digest
        own = next((update for update in updates if name_in(receipt, update) == wanted), None)
        if own is not None:
            return [own], []
        inner = next((one for one in self.receipts if entry.region and one.digest == entry.region.receipt), None)
        if inner is None:
            return [], [entry.site]
        found = [self.gathered(inner, one, updates) for one in inner.inputs]
        return [update for one, _ in found for update in one], [site for _, one in found for site in one]


def is_summed(receipt: Receipt) -> bool:
    """Tell whether the receipt is of a secure sum, and names updates by what was sent for them under masks."""
    return receipt.rules.privacy == SECURE_SUM


def name_in(receipt: Receipt, update: UpdateFile) -> str:
    """Return what an update can be found by in a receipt: in that of a secure sum, its site."""
    own = update.header.campaign_digest.hex() == receipt.campaign_digest
    return update.header.site if own and is_summed(receipt) else update.digest.hex()
