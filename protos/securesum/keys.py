"""A site's secrets for one sum, and every key that comes from them.

All keys come from HKDF-SHA256 (RFC 5869) with the roster's digest as salt. That digest covers the agreement
(campaign, nonce, members, threshold) and all public keys, so two sites share a key only if they were told the same
of all of these. What a key is for, and whose, stands in HKDF's info, each part with its length before it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.errors import SecureSumError

KEY_BYTES = 32
_NONCE_BYTES, _TAG_BYTES = 12, 16
_LABEL = b"onebasin/secure-sum/v1"


@dataclass(frozen=True)
class Secrets:
    """What a site draws for one sum and for no other.

    Attributes:
        mask_key: X25519 private key behind the pairwise masks, 32 bytes. Revealed if the site drops out.
        share_key: X25519 private key that shares are encrypted with, 32 bytes. Never revealed.
        seed: Of the self-mask, 32 bytes. Revealed if the site stays.

    """

    mask_key: bytes = field(repr=False)
    share_key: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @classmethod
    def draw(cls) -> Secrets:
        """Draw new ones from the system's random numbers."""
        mask_key, share_key = (X25519PrivateKey.generate().private_bytes_raw() for _ in range(2))
        return cls(mask_key, share_key, secrets.token_bytes(KEY_BYTES))


def public(private: bytes) -> bytes:
    """Return the public half of an X25519 key; 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def commitment(seed: bytes, agreement: bytes, site: str) -> bytes:
    """Return what tells a right seed from a wrong one and says nothing else of it; 32 bytes."""
    return _derived(seed, agreement, "commitment", site)


def self_mask(seed: bytes, roster: bytes, site: str) -> bytes:
    """Return the key of a site's self-mask; 32 bytes."""
    return _derived(seed, roster, "self-mask", site)


def pair_mask(private: bytes, other: bytes, roster: bytes, sites: tuple[str, str]) -> bytes:
    """Return the key of the mask that two sites share; 32 bytes, the same from both ends.

    Args:
        private: One site's X25519 private key.
        other: The other's public key.
        roster: The roster's digest.
        sites: Their names, in either order.

    Raises:
        SecureSumError: The public key is of low order.

    """
    return _derived(_agreed(private, other, sites), roster, "pair-mask", *sorted(sites))


def seal(content: bytes, private: bytes, other: bytes, roster: bytes, sender: str, receiver: str) -> bytes:
    """Encrypt shares for one receiver, with ChaCha20-Poly1305 under a random nonce, which comes first.

    The key is for this direction only. Sender, receiver and roster are associated data, too: what was made for one
    place opens at no other.

    Args:
        content: The shares.
        private: The sender's X25519 private key.
        other: The receiver's public key.
        roster: The roster's digest.
        sender: Its name.
        receiver: Its name.

    """
    key = _derived(_agreed(private, other, (sender, receiver)), roster, "shares", sender, receiver)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, content, _info(roster, sender, receiver))


def unseal(content: bytes, private: bytes, other: bytes, roster: bytes, sender: str, receiver: str) -> bytes:
    """Decrypt what `seal` made; arguments as there, but the private key is the receiver's.

    Raises:
        SecureSumError: It was made by another site, for another, under another roster, or changed on the way.

    """
    key = _derived(_agreed(private, other, (sender, receiver)), roster, "shares", sender, receiver)
    try:
        return ChaCha20Poly1305(key).decrypt(
            content[:_NONCE_BYTES], content[_NONCE_BYTES:], _info(roster, sender, receiver)
        )
    except (InvalidTag, ValueError):  # ValueError: it is too short
        raise SecureSumError(
            f"site {receiver} can't open the shares from site {sender}: they changed on the way, or the two were "
            "told different rosters",
            "nothing was masked yet: start another secure sum; if it happens again, ask its operator",
            site=sender,
        ) from None


def sealed_bytes(content: int) -> int:
    """Return how long so many bytes are when they are sealed."""
    return _NONCE_BYTES + content + _TAG_BYTES


def _agreed(private: bytes, other: bytes, sites: tuple[str, str]) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise SecureSumError(
            f"sites {sites[0]} and {sites[1]} can't agree on a key: a public key is no good",
            "start another secure sum",
        ) from None


def _derived(secret: bytes, salt: bytes, *info: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, _info(_LABEL, *info)).derive(secret)


def _info(head: bytes, *parts: str) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in (head, *(part.encode() for part in parts)))
