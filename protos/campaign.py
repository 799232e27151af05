"""Campaigns: reading, checking and naming them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from protos import campaign_pb2 as pb
from protos import sealing, signing
from protos.errors import ConfigurationError, UpdateRefusedError

WIRE_VERSION = 1
COPIES = {"student": pb.COPY_STUDENT, "teacher": pb.COPY_TEACHER}
BUFFERS = {
    "pooled": pb.BUFFERS_POOLED,
    "own": pb.BUFFERS_OWN,
    "recalibrated": pb.BUFFERS_RECALIBRATED,
    "pooled-recalibrated": pb.BUFFERS_POOLED_RECALIBRATED,
    "routed": pb.BUFFERS_ROUTED,
}
"""Which statistics the merged model has in the end, by the rule's name."""
KEPT_AT_SITES = frozenset({"own", "recalibrated"})
"""Rules under which each site's merged model has statistics that only that site knows."""
MEASURED = frozenset({"pooled-recalibrated", "routed"})
"""Rules under which statistics that sites measure for the merged model leave them."""
PRIVACY = {"sealed": pb.PRIVACY_SEALED, "secure-sum": pb.PRIVACY_SECURE_SUM}
"""What the coordinator learns of one site, in the order of strength. On the way, all is sealed in any case."""
SECURE_SUM = "secure-sum"
AT_DEADLINE = {"merge": pb.AT_DEADLINE_MERGE, "fail": pb.AT_DEADLINE_FAIL, "wait": pb.AT_DEADLINE_WAIT}
"""What happens when the deadline passes before every member has delivered or was given up."""
WEIGHING = {"sites": pb.WEIGHING_SITES, "members": pb.WEIGHING_MEMBERS}
"""What counts once in the mid-point of the parameters: each site, or each member, be it a site or a region."""
FEWEST_IN_REGION = 2
"""Sites that a region must stand for: the sum of one is that site's model."""
MOST_IN_REGION = 1 << 14
"""Sites that a region may stand for at most: the room of a sum (`protos.fixedpoint.MAX_MODELS`)."""
MOST_SITES = 64
"""Sites that a region may stand for where the rules don't say."""
FEWEST_SUMMED = 3
"""Members that a secure sum needs: in the sum of two each site finds the other's model."""
DAY = 86_400

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
class Rules:
    """How a campaign goes; part of its digest.

    Attributes:
        minimum_sites: Updates needed for a merge; 0 means that all members must deliver. In a secure sum, the
            threshold below which nothing is revealed: more than half of the members.
        deadline_seconds: Time from the start of the first run until it must have them.
        patience_seconds: How long a site may stay silent before it is given up; 0 means a seventh of the deadline,
            at least a minute and at most a day.
        compare_single_models: Whether a site's model may travel to the others, to be compared there.
        copy: ``"student"`` or ``"teacher"``: whose parameters and statistics sites send.
        evaluate: Whether sites judge the merged model on their own held-out labelled images.
        buffers: Which statistics the merged model has in the end, a key of :data:`BUFFERS`. With ``pooled`` (the
            paper's) and ``own`` no others leave a site than those of its update; with ``recalibrated`` those that
            it measures for the merged model stay there; with ``pooled-recalibrated`` the coordinator sees them,
            with ``routed`` all members do.
        deliver: Whether the sites that are merged get the merged model.
        privacy: One of `PRIVACY`: what the coordinator learns of a single site's update.
        code_digest: SHA-256 of the bundle that Flower ships to the sites, hexadecimal; see `protos.code`.
        at_deadline: A key of `AT_DEADLINE`. With ``merge`` those present are merged at the deadline if they are
            enough, with ``fail`` nothing is merged then, with ``wait`` they are merged as soon as they are enough.
        required: Members without which nothing is merged, however many the others are, ascending.
        weighing: A key of `WEIGHING`: what counts once in the mid-point.
        most_sites: How many sites a region may stand for; 0 if no member is a region.
        send_on: Whether the sum of all updates may be sent on to a coordinator above this one.

    """

    minimum_sites: int = 0
    deadline_seconds: int = 7 * DAY
    patience_seconds: int = 0
    compare_single_models: bool = False
    copy: str = "student"
    evaluate: bool = True
    buffers: str = "pooled"
    deliver: bool = True
    privacy: str = "sealed"
    code_digest: str = ""
    at_deadline: str = "merge"
    required: tuple[str, ...] = ()
    weighing: str = "sites"
    most_sites: int = 0
    send_on: bool = False


def patience(deadline_seconds: int) -> int:
    """Return the seconds of silence after which a site is given up where the rules don't say.

    A seventh of the deadline, so that it could be silent several times: a minute at least, a day at most.
    """
    return min(max(deadline_seconds // 7, 60), DAY)


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
        rules = self.message.rules
        return Rules(
            minimum_sites=rules.minimum_sites or len(self.message.members),
            deadline_seconds=rules.deadline_seconds,
            patience_seconds=rules.patience_seconds or patience(rules.deadline_seconds),
            compare_single_models=rules.compare_single_models,
            copy=next(name for name, value in COPIES.items() if value == rules.copy),
            evaluate=rules.evaluate,
            buffers=next(name for name, value in BUFFERS.items() if value == rules.buffers),
            deliver=rules.deliver,
            privacy=next(name for name, value in PRIVACY.items() if value == rules.privacy),
            code_digest=rules.code_digest.hex(),
            at_deadline=next(name for name, value in AT_DEADLINE.items() if value == rules.at_deadline),
            required=tuple(rules.required),
            weighing=next(name for name, value in WEIGHING.items() if value == rules.weighing),
            most_sites=rules.most_sites,
            send_on=rules.send_on,
        )


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
    if rules.copy not in COPIES:
        raise ConfigurationError(f"there is no copy {rules.copy!r}", "it is student or teacher")
    if rules.buffers not in BUFFERS:
        raise ConfigurationError(
            f"there is no rule for buffers {rules.buffers!r}", f"it is one of {', '.join(BUFFERS)}"
        )
    if rules.privacy not in PRIVACY:
        raise ConfigurationError(f"there is no privacy mode {rules.privacy!r}", f"known: {', '.join(PRIVACY)}")
    if rules.at_deadline not in AT_DEADLINE:
        raise ConfigurationError(
            f"there is no rule for the deadline {rules.at_deadline!r}", f"it is one of {', '.join(AT_DEADLINE)}"
        )
    if rules.weighing not in WEIGHING:
        raise ConfigurationError(
            f"there is no rule for weighing {rules.weighing!r}", f"it is one of {', '.join(WEIGHING)}"
        )
    regions = any(keys.region for keys in members.values())
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
        rules=pb.Rules(
            minimum_sites=rules.minimum_sites,
            deadline_seconds=rules.deadline_seconds,
            patience_seconds=rules.patience_seconds,
            compare_single_models=rules.compare_single_models,
            copy=COPIES[rules.copy],
            evaluate=rules.evaluate,
            buffers=BUFFERS[rules.buffers],
            deliver=rules.deliver,
            privacy=PRIVACY[rules.privacy],
            code_digest=bytes.fromhex(rules.code_digest),
            at_deadline=AT_DEADLINE[rules.at_deadline],
            required=sorted(rules.required),
            weighing=WEIGHING[rules.weighing],
            most_sites=rules.most_sites or (MOST_SITES if regions else 0),
            send_on=rules.send_on,
        ),
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
    rules = message.rules
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
        else "doesn't say which copy sites send"
        if rules.copy not in COPIES.values()
        else "doesn't say which buffers the merged model has"
        if rules.buffers not in BUFFERS.values()
        else "leaves statistics of the merged model at the sites but doesn't deliver it to them"
        if not rules.deliver and rules.buffers in (BUFFERS[name] for name in KEPT_AT_SITES)
        else "doesn't say in which privacy mode it runs"
        if rules.privacy not in PRIVACY.values()
        else "has a digest of its code that is none"
        if len(rules.code_digest) not in (0, 32)
        else f"wants {rules.minimum_sites} sites but has {len(sites)}"
        if rules.minimum_sites > len(sites)
        else "has no deadline"
        if not rules.deadline_seconds
        else "doesn't say what happens at the deadline"
        if rules.at_deadline not in AT_DEADLINE.values()
        else "requires sites twice, out of order, or that are no members"
        if list(rules.required) != sorted(set(rules.required) & set(sites))
        else "doesn't say what counts once in the mid-point (weighing)"
        if rules.weighing not in WEIGHING.values()
        else "lets its sum be sent on, which is no sum of sites' updates if members count once (weighing)"
        if rules.send_on and rules.weighing != WEIGHING["sites"]
        else _unsummable(rules, len(sites))
        if rules.privacy == PRIVACY[SECURE_SUM] and not regions
        else ""
    ) or _regionless(rules, regions=bool(regions))
    if problem:
        raise ConfigurationError(f"{whence} {problem}", "create the campaign anew: onebasin coordinator create")
    return Campaign(payload, message)


def _unsummable(rules: pb.Rules, members: int) -> str:
    """Say what a secure sum can't go together with, or nothing."""
    needed = rules.minimum_sites or members
    return (
        f"has {members} members, a secure sum needs {FEWEST_SUMMED}"
        if members < FEWEST_SUMMED
        else f"wants {needed} of {members} sites, a secure sum needs more than half of them"
        if 2 * needed <= members
        else "shows single sites' models to the others (compare_single_models), which a secure sum hides"
        if rules.compare_single_models
        else "has sites send statistics that they measured (buffers), each of which a secure sum would hide"
        if rules.buffers in (BUFFERS[name] for name in MEASURED)
        else ""
    )


def _regionless(rules: pb.Rules, *, regions: bool) -> str:
    """Say what regions as members can't go together with, or nothing."""
    if not regions:
        return "says how many sites a region may stand for, but has no region" if rules.most_sites else ""
    return (
        f"lets a region stand for {rules.most_sites} sites, it must be {FEWEST_IN_REGION} to {MOST_IN_REGION}"
        if not FEWEST_IN_REGION <= rules.most_sites <= MOST_IN_REGION
        else "is a secure sum with a region as a member: have the region sum securely, and this campaign not"
        if rules.privacy == PRIVACY[SECURE_SUM]
        else "shows single sites' models to the others (compare_single_models), but a region has no single model"
        if rules.compare_single_models
        else "has buffers that each member measures or keeps, but a region has no images and no model of its own: "
        "with a region they are pooled"
        if rules.buffers != BUFFERS["pooled"]
        else ""
    )


def load(path: Path) -> Campaign:
    """Read a campaign file.

    Raises:
        ConfigurationError: It is missing or no campaign.

    """
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigurationError(f"can't read the campaign {path}: {error.strerror}") from error
