"""Verifying a merged model by its receipt: the signature, the file, the proofs, and the sums themselves.

Each question has an answer of its own; the verdict is good if all that was asked is so. What was not asked, or
can't be told from what was given, is said as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coordinator.merge.midpoint import merged_content, pooled_statistics
from coordinator.merge.region import update_term, weights
from coordinator.nesting import Check, Nesting, is_summed
from protos import dsse, receipts, regions, signing
from protos.campaign import Campaign
from protos.digest import file_digest, sha256, short, stream_digest
from protos.errors import OnebasinError, UpdateRefusedError, VerificationError
from protos.manifest import STATISTICS
from protos.merged import PREFIX
from protos.receipts import BUFFER_RULE, BUFFER_RULES, PARAMETER_RULES, Input, Nested, Proof, Receipt
from protos.rules import FEWEST_IN_REGION
from protos.tensorfile import TensorFile
from protos.update_pb2 import RegionSum
from protos.updatefile import UpdateFile


@dataclass(frozen=True)
class Verdict:
    """What came of verifying.

    Attributes:
        receipt: The receipt, whose signature is good.
        checks: All questions, in order.

    """

    receipt: Receipt
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok is not False for check in self.checks)

    def require(self) -> None:
        """Raise if something is wrong.

        Raises:
            VerificationError: Names the first thing that is.

        """
        for check in self.checks:
            if check.ok is False:
                raise VerificationError(check.said, "don't use the model before it is clear why")

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "receipt": self.receipt.digest,
            "supersedes": self.receipt.supersedes or None,
            "model": self.receipt.merged.digest,
            "inputs": {entry.site: entry.digest for entry in self.receipt.inputs},
            "withdrawn": {entry.site: entry.digest for entry in self.receipt.withdrawn},
        }


@dataclass(frozen=True)
class Evidence:
    """What there is to verify a merged model with, besides its receipt.

    Attributes:
        campaign: The agreed campaign.
        updates: Updates' files: exported ones, or models in outboxes.
        base: The base.
        proofs: Proofs of inclusion.
        regions: Receipts of regions whose updates are in the merge, at any depth.

    """

    campaign: Campaign | None = None
    updates: Sequence[Path] = ()
    base: Path | None = None
    proofs: Sequence[Path] = ()
    regions: Sequence[Path] = ()


def verify(merged: Path, receipt: Path, key: bytes, evidence: Evidence) -> Verdict:
    """Verify a merged model.

    Args:
        merged: Its file.
        receipt: The receipt's file.
        key: The coordinator's Ed25519 public key, 32 bytes.
        evidence: What else there is.

    Raises:
        SignatureError: The receipt is not signed with the key; nothing that it says can be believed.
        VerificationError: The receipt or a proof is no such file.
        ModelFileError: A model's file can't be read.

    """
    found = receipts.opened(dsse.read(receipt, "receipt"), key, str(receipt))
    by = signing.fingerprint(key)
    checks = [Check("signature", True, f"receipt {found.digest[:12]} is signed by the coordinator {by}")]
    if evidence.campaign is not None:
        checks.append(_campaign(found, evidence.campaign))
    with ExitStack() as opened:
        model = opened.enter_context(TensorFile(merged))
        checks += _model(found, model)
        nested = Nesting.opened(found, evidence.regions)
        checks += nested.checks
        checks += [_proof(nested.receipts, Proof.read(path)) for path in evidence.proofs]
        updates = [opened.enter_context(UpdateFile(path)) for path in evidence.updates]
        checks += [_update(nested, update, evidence.campaign) for update in updates]
        base = None if evidence.base is None else opened.enter_context(TensorFile(evidence.base))
        if base is not None:
            same = file_digest(base).hex() == found.base_digest
            said = f"the base is {found.base_digest[:12]}" if same else f"{base.path} is not the receipt's base"
            checks.append(Check("base", same, said))
        if all(check.ok is not False for check in checks):
            checks.append(_recomputed(nested, model, updates, base))
    return Verdict(found, tuple(checks))


def _campaign(receipt: Receipt, campaign: Campaign) -> Check:
    wrong = (
        f"it is of campaign {receipt.campaign_digest[:12]}, not {short(campaign.digest)}"
        if receipt.campaign_digest != campaign.digest.hex()
        else "it names another base"
        if receipt.base_digest != campaign.message.base_digest.hex()
        else "its rules are others"
        if receipt.rules != campaign.rules
        else "a site in it is no member"
        if not {entry.site for entry in (*receipt.inputs, *receipt.withdrawn)} <= set(campaign.sites)
        else "a region in it is no region of the campaign, another coordinator's, or larger than agreed"
        if not all(_is_agreed(entry, campaign) for entry in (*receipt.inputs, *receipt.withdrawn))
        else "too few sites delivered"
        if len(receipt.inputs) + len(receipt.withdrawn) < campaign.rules.minimum_sites
        else ""
    )
    agreed = f"it keeps to campaign {campaign.name} ({short(campaign.digest)})"
    return Check("campaign", not wrong, f"the receipt is not what was agreed: {wrong}" if wrong else agreed)


def _is_agreed(entry: Input, campaign: Campaign) -> bool:
    key = campaign.regions.get(entry.site, b"")
    return (entry.region.coordinator if entry.region else "") == key.hex() and (
        not key or FEWEST_IN_REGION <= entry.models <= campaign.rules.most_sites
    )


def _model(receipt: Receipt, model: TensorFile) -> list[Check]:
    listed = receipt.merged
    tensors, content = file_digest(model).hex(), stream_digest(model.path)
    file_said = "is the receipt's, byte by byte" if content == listed.sha256 else "is not the receipt's"
    model_said = "is the receipt's" if tensors == listed.digest else f"is not the receipt's, {listed.digest[:12]}"
    return [
        Check("model", tensors == listed.digest, f"model {tensors[:12]} in {model.path} {model_said}"),
        Check("file", content == listed.sha256, f"the file {model.path} {file_said}"),
    ]


def _proof(known: Sequence[Receipt], proof: Proof) -> Check:
    there = any(
        proof.receipt == one.digest and proof.inputs == len(one.inputs) and proof.proves(one.root) for one in known
    )
    said = "is in the merge" if there else "is not proved to be in this merge"
    return Check(f"proof:{proof.site}", there, f"update {proof.digest[:12]} of site {proof.site} {said}")


def _update(nested: Nesting, update: UpdateFile, campaign: Campaign | None) -> Check:
    receipt, entry = nested.find(update)
    name = f"update:{entry.site if entry else update.path.name}"
    if entry is None:
        return Check(name, False, f"update {short(update.digest)} in {update.path} is not in this merge")
    try:
        update.check()
        if entry is not None and entry.region is not None:
            _check_region(update, entry.region)
        if campaign is not None and receipt is nested.receipts[0]:
            key = campaign.keys[entry.site]
            signing.opened(update.envelope, signing.UPDATE, key, type(update.header), entry.site)
    except OnebasinError as error:
        return Check(name, False, error.what)
    if is_summed(receipt):  # its masked values are in the merge, by a digest of their own
        said = (
            f"update {short(update.digest)} of site {entry.site} is whole; only with all others it can be compared"
        )
        return Check(name, None, said)
    return Check(name, True, f"update {short(update.digest)} of site {entry.site} is in the merge, and whole")


def _recomputed(nested: Nesting, model: TensorFile, updates: list[UpdateFile], base: TensorFile | None) -> Check:
    """Merge the updates once more and compare every tensor."""
    receipt = nested.receipts[0]
    given: list[tuple[int, UpdateFile]] = []
    missing: list[str] = []
    weighed = receipt.parameter_rule == PARAMETER_RULES["members"]
    counts = weights([entry.models for entry in receipt.inputs]) if weighed else [1] * len(receipt.inputs)
    for entry, weight in zip(receipt.inputs, counts, strict=True):
        found, without = nested.gathered(receipt, entry, updates)
        given += [(weight, update) for update in found]
        missing += without
    if missing or not given:
        said = f"not recomputed: the updates of {', '.join(sorted(missing))} were not given"
        return Check("recomputed", None, said)
    rules = f"{receipt.parameter_rule} with {receipt.buffer_rule} buffers"
    if receipt.parameter_rule not in PARAMETER_RULES.values() or receipt.buffer_rule not in BUFFER_RULES.values():
        return Check("recomputed", None, f"not recomputed: {rules} is not known here")
    if base is None and receipt.buffer_rule != BUFFER_RULE:
        return Check("recomputed", None, f"not recomputed: for {rules} give the base")
    terms = [(weight, update_term(update.file, update.header, update.digest)) for weight, update in given]
    source = base or model
    content = merged_content(source, terms, pooled_statistics(terms, source.manifest))
    own = {name: spec for name, spec in model.manifest.tensors.items() if not name.startswith(PREFIX)}
    other = model.manifest.tensors if base is None else base.manifest.tensors
    if own != other:
        return Check("recomputed", False, "the merged model has other tensors than the base")
    kept = set(() if base else model.manifest.buffers)
    measured = {name for name in other if name.rpartition(".")[2] in STATISTICS} if _measured(receipt) else set()
    for name in other:
        if name not in kept | measured and sha256(content(name)) != sha256(model.chunks(name)):
            return Check("recomputed", False, f"{name} is not what the updates add up to")
    note = f"; {len(kept)} buffers that are not merged were not compared: give the base" if kept else ""
    if receipt.buffer_rule != BUFFER_RULE:
        note += "; statistics that sites measured for the merged model can't be recomputed"
    return Check("recomputed", True, f"recomputed from {len(terms)} updates: the same bits{note}")


def _check_region(update: UpdateFile, region: Nested) -> None:
    """Check that a region's update is what its coordinator vouches for, and stands for what the receipt says.

    Raises:
        SignatureError: Another coordinator signed it.
        UpdateRefusedError: It stands for something else.

    """
    name = update.header.site
    whose = f"the coordinator of region {name}"
    signing.opened(
        update.header.region, signing.REGION, bytes.fromhex(region.coordinator), RegionSum, name, whose=whose
    )
    found = regions.standing(update.header)
    if (found.models, found.receipt.hex()) != (region.models, region.receipt):
        raise UpdateRefusedError(
            f"region {name}: its update stands for another sum than the receipt says", site=name
        )


def _measured(receipt: Receipt) -> bool:
    """Tell whether the network's own statistics are measured ones; beside them, sets may be."""
    return receipt.buffer_rule == BUFFER_RULES["pooled-recalibrated"]
