"""Campaigns: reading, checking and naming them. How one goes is in `protos.rules`."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from protos import campaign_pb2 as pb
from protos import rules as campaign_rules
from protos import sealing, signing
from protos.errors import ConfigurationError, UpdateRefusedError
from protos.rules import Rules

WIRE_VERSION = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_DOMAIN = b"onebasin campaign v1\n"


def check_name(name: str, what: str) -> str:
    """Return a site's or campaign's name if it is one.

    Names become parts of paths and messages, so they are lower-case letters, digits and hyphens only.

    Raises:
        ConfigurationError: It is something else.

    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} can't be the name of a {what}",
            "use up to 40 lower-case letters, digits and hyphens, starting with a letter or digit",
        )
    return name


@dataclass(frozen=True)
class Keys:
    """A party's public keys, 32 bytes each.

    Attributes:
        signing: Ed25519; what it sends is signed with it.
        agreement: X25519; what is sent to it is sealed to it.
        region: Of a region, its coordinator's: Ed25519; receipts of what it sums up are signed with it. Empty if
            the party is no region.

    """

    signing: bytes
    agreement: bytes
    region: bytes = b""


@dataclass(frozen=True)
class Campaign:
    """An agreed campaign: its exact bytes, and what they say."""

    payload: bytes = field(repr=False)
    message: pb.Campaign

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the exact bytes; 32 bytes. Both sides display it."""
        return hashlib.sha256(_DOMAIN + self.payload).digest()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.message.name

    @cached_property
    def keys(self) -> Mapping[str, bytes]:
        """Each member's Ed25519 public key, by site in ascending order."""
        return {member.site: member.signing_key for member in self.message.members}

    @cached_property
    def agreement_keys(self) -> Mapping[str, bytes]:
        """Each member's X25519 public key, by site in ascending order."""
        return {member.site: member.agreement_key for member in self.message.members}

    @cached_property
    def regions(self) -> Mapping[str, bytes]:
        """The Ed25519 public key of each region's coordinator, by member; a member that isn't here is a site."""
        return {member.site: member.region_key for member in self.message.members if member.region_key}

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The members' names, ascending."""
        return tuple(self.keys)

    @cached_property
    def rules(self) -> Rules:
        """Its rules, with 0 sites replaced by all, and 0 seconds of patience by what follows from the deadline."""
        return Rules.of(self.message.rules, len(self.message.members))


def new_campaign(
    *,
    name: str,
    base_digest: bytes,
    model: str,
    classes: int,
    members: Mapping[str, Keys],
    rules: Rules,
    coordinator: Keys,
) -> Campaign:
    """Lay down a campaign.

    Args:
        name: What people call it.
        base_digest: Digest of the base's canonical form.
        model: The base's architecture.
        classes: Classes that it tells apart.
        members: Each site's public keys.
        rules: How it goes.
        coordinator: The coordinator's public keys.

    Raises:
        ConfigurationError: Something of it makes no sense.

    """
    message = pb.Campaign(
        wire_version=WIRE_VERSION,
        name=name,
        base_digest=base_digest,
        model=model,
        classes=classes,
        members=[
            pb.Member(site=site, signing_key=keys.signing, agreement_key=keys.agreement, region_key=keys.region)
            for site, keys in sorted(members.items())
        ],
        rules=rules.message(regions=any(keys.region for keys in members.values())),
        coordinator_key=coordinator.signing,
        coordinator_agreement_key=coordinator.agreement,
        nonce=secrets.token_bytes(16),
    )
    return parse(signing.encode(message), "the new campaign")


def parse(payload: bytes, whence: str) -> Campaign:
    """Read and check a campaign's bytes.

    Raises:
        ConfigurationError: They are no campaign, of another version, or contradict themselves.

    """
    try:
        message = signing.decode(payload, pb.Campaign, whence)
    except UpdateRefusedError as error:
        raise ConfigurationError(error.what, "ask the coordinator for the campaign file again") from None
    if message.wire_version != WIRE_VERSION:
        raise ConfigurationError(
            f"{whence} has wire version {message.wire_version}, this onebasin speaks {WIRE_VERSION}",
            "run the same version of onebasin on both sides",
        )
    check_name(message.name, "campaign")
    sites = [check_name(member.site, "site") for member in message.members]
    regions = [member.region_key for member in message.members if member.region_key]
    signing_keys = [message.coordinator_key, *(member.signing_key for member in message.members), *regions]
    agreement_keys = [message.coordinator_agreement_key, *(member.agreement_key for member in message.members)]
    problem = (
        "has no members"
        if not sites
        else "lists its members twice or out of order"
        if sites != sorted(set(sites))
        else "has keys that are not 32 bytes long"
        if any(len(key) != 32 for key in (*signing_keys, *agreement_keys))
        else "gives two parties the same key"
        if any(len(set(keys)) != len(keys) for keys in (signing_keys, agreement_keys))
        else "has key agreement keys of which no secret comes"
        if not all(map(sealing.is_key, agreement_keys))
        else "has no digest of its base"
        if len(message.base_digest) != 32 or len(message.nonce) != 16
        else ""
    ) or campaign_rules.problem(message.rules, sites, regions=bool(regions))
    if problem:
        raise ConfigurationError(f"{whence} {problem}", "create the campaign anew: onebasin coordinator create")
    return Campaign(payload, message)


def load(path: Path) -> Campaign:
    """Read a campaign file.

    Raises:
        ConfigurationError: It is missing or no campaign.

    """
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigurationError(f"can't read the campaign {path}: {error.strerror}") from error
