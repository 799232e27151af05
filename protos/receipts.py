"""Receipts: what went into a merge, by which rule, and what came out, signed by the coordinator.

A receipt is an in-toto statement (https://in-toto.io/Statement/v1) about the merged model's file, in a DSSE
envelope. Its subject is named twice: by the SHA-256 of the file, and by the model's canonical digest, which is the
same in any file. The updates' digests are the leaves of a Merkle tree, in ascending order of site; a proof leads
from one of them to the root that the receipt holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import dsse, files, merkle, settings
from protos.audit import Anchor
from protos.errors import ConfigurationError, VerificationError
from protos.rules import Rules

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:onebasin:merge:v1"
PAYLOAD = "application/vnd.in-toto+json"
PROOF = "onebasin-proof/1"
PARAMETER_RULES = {"sites": "uniform-midpoint", "members": "midpoint-of-members"}
"""What a receipt says of a model's parameters, by the campaign's rule `weighing`."""
PARAMETER_RULE = PARAMETER_RULES["sites"]
BUFFER_RULES = {
    "pooled": "gaussian-pooled",
    "own": "gaussian-pooled",
    "recalibrated": "gaussian-pooled",
    "pooled-recalibrated": "gaussian-pooled-recalibrated",
    "routed": "routed",
}
"""What a receipt says of a model's statistics, by the campaign's rule.

Where each site has its own, the coordinator's model has the pooled ones."""
BUFFER_RULE = BUFFER_RULES["pooled"]
_FILE, _MODEL = "sha256", "onebasin_model_v1"


@dataclass(frozen=True)
class Nested:
    """The receipt behind a region's update: it stays in the region, and says what went into the region's sums.

    Attributes:
        receipt: Its digest, hexadecimal.
        coordinator: The Ed25519 public key of the region's coordinator, which signed it, hexadecimal.
        models: How many sites' models are in the sums.

    """

    receipt: str
    coordinator: str
    models: int

    def __post_init__(self) -> None:
        _check_digests(self.receipt, self.coordinator)
        if self.models < 1:
            raise ConfigurationError(f"a region stands for {self.models} sites")


@dataclass(frozen=True)
class Input:
    """An update that went in.

    Attributes:
        site: Whose it is.
        digest: The update's, hexadecimal.
        measured: The digest of the statistics that it measured for the merged model and signed, hexadecimal; empty
            if none of it are inside.
        region: If it is a region's, the receipt behind it.

    """

    site: str
    digest: str
    measured: str = ""
    region: Nested | None = None

    def __post_init__(self) -> None:
        _check_digests(self.digest, *([self.measured] if self.measured else []))

    @property
    def models(self) -> int:
        """How many sites' models are in it."""
        return self.region.models if self.region else 1


@dataclass(frozen=True)
class Merged:
    """What came out.

    Attributes:
        file: The file's name.
        sha256: Of the file, hexadecimal.
        digest: Of the model's canonical form, hexadecimal.

    """

    file: str
    sha256: str
    digest: str

    def __post_init__(self) -> None:
        _check_digests(self.sha256, self.digest)


@dataclass(frozen=True)
class Receipt:
    """The record of a merge. All digests are hexadecimal.

    Attributes:
        campaign: The campaign's name.
        campaign_digest: Its digest, which both sides display.
        base_digest: Of the base's canonical form.
        rules: The campaign's.
        inputs: The updates inside, in ascending order of site.
        withdrawn: Updates that were inside and were taken out again, in ascending order of site.
        supersedes: The digest of the receipt that this one replaces; empty if it is the first.
        parameter_rule: How parameters were merged.
        buffer_rule: How BatchNorm statistics were.
        models: How many sites' models are in the sums.
        merged: What came out.
        audit: The end of the coordinator's audit log just before.
        created_unix: When, in seconds since 1970.
        versions: Of the software, by name.

    Raises:
        ConfigurationError: Inputs stand twice or out of order, or a digest is none.

    """

    campaign: str
    campaign_digest: str
    base_digest: str
    rules: Rules
    inputs: tuple[Input, ...]
    withdrawn: tuple[Input, ...]
    supersedes: str
    parameter_rule: str
    buffer_rule: str
    models: int
    merged: Merged
    audit: Anchor
    created_unix: int
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        _check_digests(self.campaign_digest, self.base_digest, self.audit.sha256)
        if self.supersedes:
            _check_digests(self.supersedes)
        for listed in (self.inputs, self.withdrawn):
            sites = [entry.site for entry in listed]
            if sites != sorted(set(sites)):
                raise ConfigurationError("sites stand twice or out of order")

    @cached_property
    def root(self) -> bytes:
        """The Merkle root of the inputs' digests; 32 bytes."""
        return merkle.root(self._leaves)

    @cached_property
    def payload(self) -> bytes:
        """The in-toto statement's exact bytes, which are signed."""
        predicate = asdict(self)
        merged = predicate.pop("merged")
        for entry in (*predicate["inputs"], *predicate["withdrawn"]):
            if entry["region"] is None:
                del entry["region"]
        digests = {_FILE: merged["sha256"], _MODEL: merged["digest"]}
        statement = {
            "_type": STATEMENT,
            "subject": [{"name": merged["file"], "digest": digests}],
            "predicateType": PREDICATE,
            "predicate": predicate | {"inputs_root": self.root.hex()},
        }
        return dsse.canonical(statement)

    @cached_property
    def digest(self) -> str:
        """What the receipt is named by: the SHA-256 of the signed payload, hexadecimal."""
        return sha256(self.payload).hexdigest()

    def signed(self, key: Ed25519PrivateKey) -> str:
        """Return the receipt's file: the statement in its envelope."""
        return dsse.signed(PAYLOAD, self.payload, key)

    def proof(self, site: str) -> Proof:
        """Return the proof that a site's update is inside.

        Raises:
            KeyError: It isn't.

        """
        index = {entry.site: i for i, entry in enumerate(self.inputs)}[site]
        path = merkle.proof(self._leaves, index)
        found = tuple(step.hex() for step in path)
        return Proof(PROOF, self.digest, site, self.inputs[index].digest, index, len(self.inputs), found)

    @cached_property
    def _leaves(self) -> list[bytes]:
        return [bytes.fromhex(entry.digest) for entry in self.inputs]


@dataclass(frozen=True)
class Proof:
    """A proof that an update is in a merge: what leads from its digest to the root in the receipt.

    Attributes:
        format: ``"onebasin-proof/1"``.
        receipt: The receipt's digest, hexadecimal.
        site: Whose update it is.
        digest: The update's, hexadecimal.
        index: Its place among the inputs, from 0.
        inputs: How many there are.
        path: Digests of the tree's nodes beside the way, hexadecimal, the nearest first.

    """

    format: str
    receipt: str
    site: str
    digest: str
    index: int
    inputs: int
    path: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_digests(self.receipt, self.digest, *self.path)

    def proves(self, root: bytes) -> bool:
        """Tell whether it leads to a receipt's root."""
        path = [bytes.fromhex(step) for step in self.path]
        return merkle.proves(bytes.fromhex(self.digest), self.index, self.inputs, path, root)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        files.write(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Proof:
        """Read a proof's file. That it proves anything is not checked yet.

        Raises:
            VerificationError: It is missing, damaged or no proof.

        """
        try:
            found = settings.parse(_table(json.loads(dsse.read(path, "proof"))), cls, str(path))
            if found.format == PROOF:
                return found
        except (ValueError, RecursionError, ConfigurationError):
            pass
        raise VerificationError(f"{path} is damaged or no proof", "ask the coordinator for it again")


def opened(text: bytes, key: bytes, whence: str) -> Receipt:
    """Check a receipt's signature and read it.

    Args:
        text: The receipt's file.
        key: The coordinator's Ed25519 public key, 32 bytes.
        whence: Where it is from, for the error's text.

    Raises:
        SignatureError: It is not signed with this key, or was changed.
        VerificationError: It is no receipt, or one of a version that is not known here.

    """
    payload = dsse.opened(text, PAYLOAD, key, whence)
    statement = dsse.parsed(payload, whence)
    try:
        (subject,) = statement["subject"]
        merged = Merged(subject["name"], subject["digest"][_FILE], subject["digest"][_MODEL])
        predicate = _table(statement["predicate"])
        predicate.pop("inputs_root")
        found = settings.parse({**predicate, "merged": asdict(merged)}, Receipt, whence)
        if found.payload == payload:  # whatever stands in it that is not known here, or elsewhere, is in the way
            return found
    except (KeyError, ValueError, TypeError, ConfigurationError):
        pass
    raise VerificationError(
        f"{whence} is signed, but is no receipt that is known here", "run the version of onebasin that wrote it"
    )


def read(path: Path, key: bytes) -> Receipt:
    """Read a receipt's file; see `opened`."""
    return opened(dsse.read(path, "receipt"), key, str(path))


def _table(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError("no table")
    return found


def _check_digests(*found: str) -> None:
    for digest in found:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ConfigurationError(f"{digest[:70]!r} is no SHA-256 in lower-case hexadecimal digits")
