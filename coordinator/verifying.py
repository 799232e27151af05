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
from coordinator.merge.state import Update
from protos import dsse, receipts, signing
from protos.campaign import SECURE_SUM, Campaign
from protos.digest import file_digest, sha256, short, stream_digest
from protos.errors import OnebasinError, VerificationError
from protos.manifest import STATISTICS
from protos.merged import PREFIX
from protos.receipts import BUFFER_RULE, BUFFER_RULES, PARAMETER_RULE, Proof, Receipt
from protos.tensorfile import TensorFile
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

    """

    campaign: Campaign | None = None
    updates: Sequence[Path] = ()
    base: Path | None = None
    proofs: Sequence[Path] = ()


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
        checks += [_proof(found, Proof.read(path)) for path in evidence.proofs]
        updates = [opened.enter_context(UpdateFile(path)) for path in evidence.updates]
        checks += [_update(found, update, evidence.campaign) for update in updates]
        base = None if evidence.base is None else opened.enter_context(TensorFile(evidence.base))
        if base is not None:
            same = file_digest(base).hex() == found.base_digest
            said = f"the base is {found.base_digest[:12]}" if same else f"{base.path} is not the receipt's base"
            checks.append(Check("base", same, said))
        if all(check.ok is not False for check in checks):
            checks.append(_recomputed(found, model, updates, base))
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
        else "too few sites delivered"
        if len(receipt.inputs) + len(receipt.withdrawn) < campaign.rules.minimum_sites
        else ""
    )
    agreed = f"it keeps to campaign {campaign.name} ({short(campaign.digest)})"
    return Check("campaign", not wrong, f"the receipt is not what was agreed: {wrong}" if wrong else agreed)


def _model(receipt: Receipt, model: TensorFile) -> list[Check]:
    listed = receipt.merged
    tensors, content = file_digest(model).hex(), stream_digest(model.path)
    file_said = "is the receipt's, byte by byte" if content == listed.sha256 else "is not the receipt's"
    model_said = "is the receipt's" if tensors == listed.digest else f"is not the receipt's, {listed.digest[:12]}"
    return [
        Check("model", tensors == listed.digest, f"model {tensors[:12]} in {model.path} {model_said}"),
        Check("file", content == listed.sha256, f"the file {model.path} {file_said}"),
    ]


def _proof(receipt: Receipt, proof: Proof) -> Check:
    there = proof.receipt == receipt.digest and proof.inputs == len(receipt.inputs) and proof.proves(receipt.root)
    said = "is in the merge" if there else "is not proved to be in this merge"
    return Check(f"proof:{proof.site}", there, f"update {proof.digest[:12]} of site {proof.site} {said}")


def _update(receipt: Receipt, update: UpdateFile, campaign: Campaign | None) -> Check:
    entry = next((one for one in receipt.inputs if _name(receipt, update) in (one.digest, one.site)), None)
    name = f"update:{entry.site if entry else update.path.name}"
    if entry is None:
        return Check(name, False, f"update {short(update.digest)} in {update.path} is not in this merge")
    try:
        update.check()
        if campaign is not None:
            key = campaign.keys[entry.site]
            signing.opened(update.envelope, signing.UPDATE, key, type(update.header), entry.site)
    except OnebasinError as error:
        return Check(name, False, error.what)
    if _summed(receipt):  # its masked values are in the merge, by a digest of their own
        said = (
            f"update {short(update.digest)} of site {entry.site} is whole; only with all others it can be compared"
        )
        return Check(name, None, said)
    return Check(name, True, f"update {short(update.digest)} of site {entry.site} is in the merge, and whole")


def _recomputed(receipt: Receipt, model: TensorFile, updates: list[UpdateFile], base: TensorFile | None) -> Check:
    """Merge the updates once more and compare every tensor."""
    wanted = {entry.site if _summed(receipt) else entry.digest: entry.site for entry in receipt.inputs}
    given = {_name(receipt, update): update for update in updates}
    if (missing := sorted(site for digest, site in wanted.items() if digest not in given)) or not given:
        said = f"not recomputed: the updates of {', '.join(missing)} were not given"
        return Check("recomputed", None, said)
    rules = f"{receipt.parameter_rule} with {receipt.buffer_rule} buffers"
    if receipt.parameter_rule != PARAMETER_RULE or receipt.buffer_rule not in BUFFER_RULES.values():
        return Check("recomputed", None, f"not recomputed: {rules} is not known here")
    if base is None and receipt.buffer_rule != BUFFER_RULE:
        return Check("recomputed", None, f"not recomputed: for {rules} give the base")
    terms = [
        (1, Update(update.file, update.statistics, update.digest, update.header.site)) for update in given.values()
    ]
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
    return Check("recomputed", True, f"recomputed from {len(given)} updates: the same bits{note}")


def _summed(receipt: Receipt) -> bool:
    """Tell whether the receipt is of a secure sum, and names updates by what was sent for them under masks."""
    return receipt.rules.privacy == SECURE_SUM


def _name(receipt: Receipt, update: UpdateFile) -> str:
    """Return what an update can be found by in a receipt."""
    return update.header.site if _summed(receipt) else update.digest.hex()


def _measured(receipt: Receipt) -> bool:
    """Tell whether the network's own statistics are measured ones; beside them, sets may be."""
    return receipt.buffer_rule == BUFFER_RULES["pooled-recalibrated"]
