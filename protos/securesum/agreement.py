"""What all parties of a secure sum agree on before anything is said: who may take part, and how many must stay."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from protos import fixedpoint, signing
from protos import securesum_pb2 as pb
from protos.campaign import Campaign
from protos.campaign_pb2 import Member
from protos.digest import DIGEST_BYTES
from protos.errors import SecureSumError
from protos.rules import FEWEST_SUMMED

NONCE_BYTES = 16

_DOMAIN = b"onebasin secure sum v1\n"


def default_threshold(members: int) -> int:
    """Return how many of so many members must stay to the end: two thirds, rounded up, and no fewer than three.

    More than half is what keeps a coordinator from having two disjoint sets of sites confirm two stories. Two
    thirds leave room for members that side with it (see `Agreement.tolerated`), and still for a third of the
    members to drop out. Three, since in the sum of two each site finds the other's model; so with three members
    nobody may drop out, unless a threshold of 2 is asked for.
    """
    return max(FEWEST_SUMMED, -(-2 * members // 3))


@dataclass(frozen=True)
class Agreement:
    """One secure sum: of which campaign, which attempt, among whom.

    Attributes:
        campaign: The campaign's digest, 32 bytes. It fixes the base, and so the vectors that are summed.
        nonce: 16 random bytes, drawn by the coordinator for each attempt.
        members: Each member's Ed25519 public key by site. They come from the campaign that the site joined, never
            from the coordinator's request.
        threshold: Below so many sites nothing is revealed; more than half of the members.

    Raises:
        SecureSumError: There are too few members or too many, or the threshold is out of range.

    """

    campaign: bytes
    nonce: bytes
    members: Mapping[str, bytes]
    threshold: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", dict(sorted(self.members.items())))
        count = len(self.members)
        if not FEWEST_SUMMED <= count <= fixedpoint.MAX_MODELS:
            raise SecureSumError(
                f"a secure sum needs {FEWEST_SUMMED} to {fixedpoint.MAX_MODELS} members, the campaign has {count}",
                "in the sum of two each site finds the other's model: have another site take part",
            )
        if not count < 2 * self.threshold <= 2 * count:
            raise SecureSumError(
                f"a threshold of {self.threshold} does not fit {count} members",
                f"choose one from {count // 2 + 1} to {count}; {default_threshold(count)} is a good one",
            )
        if (len(self.campaign), len(self.nonce)) != (DIGEST_BYTES, NONCE_BYTES):
            raise SecureSumError(
                f"the campaign's digest or the nonce is not {DIGEST_BYTES} and {NONCE_BYTES} bytes long"
            )

    @classmethod
    def of(cls, campaign: Campaign, nonce: bytes) -> Self:
        """Return the agreement on one attempt at a campaign's sum; its minimum of sites is the threshold."""
        return cls(campaign.digest, nonce, campaign.keys, campaign.rules.minimum_sites)

    @cached_property
    def digest(self) -> bytes:
        """Name it: SHA-256 of its canonical encoding; 32 bytes. Every message carries it."""
        return hashlib.sha256(_DOMAIN + signing.encode(self.message())).digest()

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The members' names, ascending. A member's place here, from 1, is its abscissa in Shamir's scheme."""
        return tuple(self.members)

    @property
    def tolerated(self) -> int:
        """How many sites may side with a lying coordinator before it learns of a single site that doesn't.

        With c of them it can tell two stories to two halves of the n − c others, and needs the threshold t for
        both: (n − c) + 2c < 2t keeps it from that (Bonawitz et al., section 6.2, there as 2t > n + c). And of the
        t sites or more in a sum two must be honest.
        """
        return min(2 * self.threshold - len(self.members) - 1, self.threshold - 2)

    def message(self) -> pb.Agreement:
        """Write it down."""
        return pb.Agreement(
            campaign_digest=self.campaign,
            nonce=self.nonce,
            members=[Member(site=site, signing_key=key) for site, key in self.members.items()],
            threshold=self.threshold,
        )

    @classmethod
    def read(cls, message: pb.Agreement) -> Self:
        """Read what `message` wrote."""
        members = {member.site: member.signing_key for member in message.members}
        return cls(message.campaign_digest, message.nonce, members, message.threshold)
