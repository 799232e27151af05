"""Signatures: who says it, and what for.

The signed bytes are DSSE's pre-authentication encoding of a purpose and a payload, so that a signature made for
one kind of message is no good for another. The payload's exact bytes are signed, digested and kept; they are
parsed only after that, and only if they are the one canonical encoding of what they say, which leaves no room
for fields that this version doesn't know.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import DecodeError, Message

from protos import files, keyfiles
from protos import update_pb2 as pb
from protos.errors import ConfigurationError, SignatureError, UpdateRefusedError

HELLO = "onebasin/hello/v1"
UPDATE = "onebasin/update/v1"
EVALUATION = "onebasin/evaluation/v1"
MEASURED = "onebasin/measured/v1"
REGION = "onebasin/region/v1"
SITE_REQUEST = "onebasin/site-request/v1"
WELCOME = "onebasin/welcome/v1"
REQUEST = "onebasin/request/v1"
REPLY = "onebasin/reply/v1"

M = TypeVar("M", bound=Message)
Key = Ed25519PrivateKey | X25519PrivateKey
_ASK = "ask the site's operator to compare its key's fingerprint with the campaign's (onebasin site show)"

_KEY = b"onebasin key v1\n"


def signed(purpose: str, message: Message, key: Ed25519PrivateKey) -> pb.Signed:
    """Encode a message canonically and sign it for a purpose."""
    return sign(purpose, encode(message), key)


def sign(purpose: str, payload: bytes, key: Ed25519PrivateKey) -> pb.Signed:
    """Sign bytes for a purpose."""
    return pb.Signed(purpose=purpose, payload=payload, signature=key.sign(pae(purpose, payload)))


def opened(
    envelope: pb.Signed, purpose: str, key: bytes, kind: type[M], site: str, *, whose: str = "", fix: str = _ASK
) -> M:
    """Check a signature and return what was signed.

    Args:
        envelope: What arrived.
        purpose: What it must have been signed for.
        key: The Ed25519 public key (32 bytes) that it must have been signed with.
        kind: The message that the payload encodes.
        site: Whose it is said to be, for the error's text.
        whose: The same where it is no site's.
        fix: What to do next if it isn't.

    Raises:
        SignatureError: The signature is missing, wrong, or for another purpose.
        UpdateRefusedError: The payload is no canonical encoding of that message.

    """
    whose = whose or f"site {site}"
    if not envelope.signature:
        raise SignatureError(f"{whose}: the signature is missing", fix, site=site)
    if envelope.purpose != purpose:
        raise SignatureError(f"{whose}: signed for another purpose than {purpose}", fix, site=site)
    if not holds(envelope, purpose, key):
        raise SignatureError(
            f"{whose}: the signature is not that of the key which the campaign lists", fix, site=site
        )
    return decode(envelope.payload, kind, whose)


def holds(envelope: pb.Signed, purpose: str, key: bytes) -> bool:
    """Tell whether an envelope was signed for a purpose with a key (Ed25519 public key, 32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(envelope.signature, pae(purpose, envelope.payload))
    except InvalidSignature:
        return False
    return envelope.purpose == purpose


def digest(envelope: pb.Signed) -> bytes:
    """Name a signed message: SHA-256 over purpose and payload, without the signature; 32 bytes."""
    return hashlib.sha256(pae(envelope.purpose, envelope.payload)).digest()


def encode(message: Message) -> bytes:
    """Encode a message in its canonical form: fields in order, no unknown ones."""
    return message.SerializeToString(deterministic=True)


def decode(payload: bytes, kind: type[M], whose: str) -> M:
    """Parse a canonical encoding.

    Raises:
        UpdateRefusedError: It can't be parsed, or holds more than `kind` has fields for.

    """
    message = kind()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise UpdateRefusedError(f"{whose}: the {kind.DESCRIPTOR.name} can't be parsed", "send it again") from None
    # Unknown fields survive parsing, at any depth; dropping them shows whether there were any.
    known = kind()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if encode(known) != payload:
        raise UpdateRefusedError(
            f"{whose}: the {kind.DESCRIPTOR.name} is not in canonical form, or has fields that are not known here",
            "run the same version of onebasin on both sides",
        )
    return message


def new_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Make an Ed25519 key and write it as PEM, readable by its owner only.

    Its public half is written beside it (``.pub``, 64 hexadecimal digits): who only checks what was signed needs
    no passphrase.

    Raises:
        ConfigurationError: There is a key already.

    """
    key = Ed25519PrivateKey.generate()
    keyfiles.write(path, key, passphrase)
    files.write(path.with_suffix(".pub"), public_bytes(key).hex() + "\n")
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 key.

    Raises:
        ConfigurationError: The file is missing, is no Ed25519 key, can be read by others, or its passphrase is
            wrong or not to be had.

    """
    return keyfiles.read(path, Ed25519PrivateKey)  # type: ignore[type-abstract]


def load_public(path: Path) -> bytes:
    """Return the public half of the Ed25519 key in a file; 32 bytes.

    Raises:
        ConfigurationError: It does not stand beside the key, and the key can't be read; or it is none.

    """
    beside = path.with_suffix(".pub")
    if not beside.exists():  # made by an earlier version
        return public_bytes(load_key(path))
    return public_key(beside.read_text(errors="replace").strip())


def public_bytes(key: Key) -> bytes:
    """Return a key's public half; 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_key(text: str) -> bytes:
    """Read a public key that someone typed: 64 hexadecimal digits.

    Raises:
        ConfigurationError: It is something else.

    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(f"{text[:70]!r} is no Ed25519 public key", "it has 64 hexadecimal digits")
    return key


def fingerprint(public: bytes) -> str:
    """Return what people read to each other: 100 bits of the public key's SHA-256 in base32, in fours.

    A party has one, that of its signing key: whatever else it says of itself is signed with that key.
    """
    digits = base64.b32encode(hashlib.sha256(_KEY + public).digest()).decode()[:20]
    return "-".join(digits[i : i + 4] for i in range(0, 20, 4))


def is_fingerprint(said: str, public: bytes) -> bool:
    """Tell whether what somebody read out is a key's whole fingerprint; hyphens, spaces and case don't matter."""
    return "".join(said.split()).replace("-", "").upper() == fingerprint(public).replace("-", "")


def pae(purpose: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding of a purpose and a payload."""
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    kind = purpose.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
