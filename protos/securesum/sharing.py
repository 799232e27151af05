"""Shamir's secret sharing of 32 bytes.

pycryptodome's scheme shares 16 bytes, over GF(2¹²⁸); a secret is shared as two halves with independent
polynomials. Any set of shares below the threshold says nothing about either half. Its option ``ssss`` stays off:
it adds xᵏ to each share, for one command-line tool's sake.

A share's abscissa is its owner's place among the agreement's members, so it needn't travel, and no one can claim
another one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from Crypto.Protocol.SecretSharing import Shamir

from protos.errors import SecureSumError

_HALF = 16
SHARE_BYTES = 2 * _HALF


def split(secret: bytes, threshold: int, sites: Sequence[str]) -> dict[str, bytes]:
    """Share a secret of 32 bytes among sites, any `threshold` of which can put it together.

    Returns:
        Each site's share, 32 bytes.

    """
    halves = [Shamir.split(threshold, len(sites), secret[i : i + _HALF], ssss=False) for i in (0, _HALF)]
    return {site: first + second for site, (_, first), (_, second) in zip(sites, *halves, strict=True)}


def combine(
    shares: Mapping[str, bytes], threshold: int, sites: Sequence[str], right: Callable[[bytes], bool], what: str
) -> bytes:
    """Put a secret together again.

    Any `threshold` shares will do if all are right. To live with a site that sends a wrong one, as many runs of
    neighbouring shares are tried as there are shares; one of them leaves it out if there is one to spare.

    Args:
        shares: By the sites that they were given to.
        threshold: As it was split.
        sites: As it was split.
        right: Tells the secret from another.
        what: Whose secret, for the error's text.

    Raises:
        SecureSumError: There are too few shares, or they don't fit each other.

    """
    owners = [site for site in sites if site in shares]
    for start in range(len(owners)):
        chosen = (owners[start:] + owners[:start])[:threshold]
        if len(chosen) < threshold:
            break
        places = [(sites.index(site) + 1, shares[site]) for site in chosen]
        secret = b"".join(
            Shamir.combine([(place, share[i : i + _HALF]) for place, share in places], ssss=False)
            for i in (0, _HALF)
        )
        if right(secret):
            return secret
    raise SecureSumError(
        f"{what} can't be put together from the {len(owners)} shares that arrived",
        "a site sent a wrong share: start another secure sum without it",
    )
