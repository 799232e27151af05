"""Saying and hearing: what every signed message of a secure sum has in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import securesum_pb2 as pb
from protos import signing
from protos.digest import short
from protos.errors import SecureSumError
from protos.securesum.agreement import Agreement
from protos.update_pb2 import Signed

Message = pb.Keys | pb.Shares | pb.Masked | pb.Confirmation | pb.Reveal
M = TypeVar("M", pb.Keys, pb.Shares, pb.Masked, pb.Confirmation, pb.Reveal)

_PURPOSES: dict[type[Message], str] = {
    pb.Keys: "onebasin/secure-sum/keys/v1",
    pb.Shares: "onebasin/secure-sum/shares/v1",
    pb.Masked: "onebasin/secure-sum/masked/v1",
    pb.Confirmation: "onebasin/secure-sum/confirmation/v1",
    pb.Reveal: "onebasin/secure-sum/reveal/v1",
}


def say(message: Message, key: Ed25519PrivateKey) -> Signed:
    """Sign a site's message for its purpose."""
    return signing.signed(_PURPOSES[type(message)], message, key)


def hear(envelope: Signed, kind: type[M], agreement: Agreement, site: str) -> M:
    """Check that a message is a member's, signed, and of this sum; and return it.

    Raises:
        SecureSumError: The site is no member, or the message is of another sum, or another site's.
        SignatureError: The signature is missing, wrong, or for another purpose.
        UpdateRefusedError: It can't be parsed, or is not in canonical form.

    """
    if site not in agreement.members:
        raise SecureSumError(f"{site or 'someone'} is no member of the campaign", site=site)
    message = signing.opened(envelope, _PURPOSES[kind], agreement.members[site], kind, site)
    if message.site != site:
        raise SecureSumError(f"site {site}: the message says that it is site {message.site}'s", site=site)
    if message.agreement != agreement.digest:
        raise SecureSumError(
            f"site {site}: the message is of secure sum {short(message.agreement)}, "
            f"this is {short(agreement.digest)}",
            "a message of an earlier attempt was played back, or the two sides disagree on members or threshold",
            site=site,
        )
    return message


def same_roster(found: bytes, wanted: bytes, site: str) -> None:
    """Check that a site was told the same roster.

    Raises:
        SecureSumError: It was not.

    """
    if found != wanted:
        raise SecureSumError(
            f"site {site} was told roster {short(found)}, this one is {short(wanted)}", LIED, site=site
        )


def ascending(sites: Iterable[str], what: str) -> tuple[str, ...]:
    """Return names if none stands twice and they are in order, so that a set has one encoding only.

    Raises:
        SecureSumError: They are not.

    """
    listed = tuple(sites)
    if list(listed) != sorted(set(listed)):
        raise SecureSumError(f"{what} lists sites twice or out of order", LIED)
    return listed


def enough(sites: Sequence[str], agreement: Agreement, what: str) -> None:
    """Check that no fewer sites than the threshold are left.

    Raises:
        SecureSumError: They are fewer; the sum must be given up.

    """
    if len(sites) < agreement.threshold:
        missing = ", ".join(site for site in agreement.sites if site not in sites)
        raise SecureSumError(
            f"only {len(sites)} of {len(agreement.members)} sites {what}, {agreement.threshold} are needed "
            f"(missing: {missing}); nothing was revealed",
            "start another secure sum when more sites are connected",
        )


LIED = "the coordinator told sites different things: do not go on, and ask its operator"
