"""Signed files: any payload in a DSSE envelope, which other tools can read and check as well.

https://github.com/secure-systems-lab/dsse: JSON with ``payloadType``, ``payload`` and ``signatures``, Base64
inside, Ed25519 over the pre-authentication encoding of type and payload. Nothing of a payload is parsed before its
signature was checked.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos.errors import SignatureError, VerificationError
from protos.signing import pae

MOST = 16 << 20
"""Bytes that a signed file may have: those of a merge of 16,384 sites have a quarter."""
_SIGNATURES = 8
"""How many of an envelope's signatures are looked at: each costs time."""


def sealed(kind: str, payload: bytes, key: Ed25519PrivateKey) -> str:
    """Sign a payload of a type and return the envelope's text."""
    envelope = {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(key.sign(pae(kind, payload))).decode()}],
    }
    return json.dumps(envelope, indent=1) + "\n"


def opened(text: bytes, kind: str, key: bytes, whence: str) -> bytes:
    """Check an envelope and return its payload.

    Args:
        text: The envelope.
        kind: The type that its payload must have.
        key: The Ed25519 public key (32 bytes) that must have signed it; other signatures are not looked at.
        whence: What it is, for the error's text.

    Raises:
        VerificationError: It is no envelope.
        SignatureError: It is signed with another key, was changed, or is of another type.

    """
    try:
        envelope = _object(text)
        payload = _decoded(envelope["payload"])
        signatures = [_decoded(entry["sig"]) for entry in envelope["signatures"][:_SIGNATURES]]
        found = str(envelope["payloadType"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerificationError(
            f"{whence} is damaged or no signed file ({type(error).__name__})", "copy it again from where it came"
        ) from None
    if found != kind:
        raise SignatureError(f"{whence} is of another type than {kind}", "give the file that was asked for")
    verifier = Ed25519PublicKey.from_public_bytes(key)
    if not any(_signed(verifier, signature, pae(kind, payload)) for signature in signatures):
        raise SignatureError(
            f"{whence} is not signed with the key that was given, or was changed since",
            "copy it again; if it stays so, ask whose it is said to be for its key",
        )
    return payload


def read(path: Path, what: str) -> bytes:
    """Read a signed file.

    Raises:
        VerificationError: It is missing, or far too large to be one.

    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST + 1)
    except OSError as error:
        raise VerificationError(f"can't read the {what} {path}: {error.strerror}") from error
    if len(text) > MOST:
        raise VerificationError(f"{path} has more than {MOST >> 20} MiB, so it is no {what}")
    return text


def canonical(value: Any) -> bytes:
    """Encode JSON's types in one way only: keys in order, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parsed(payload: bytes, whence: str) -> dict[str, Any]:
    """Parse a signed payload: a JSON object in its canonical encoding.

    Raises:
        VerificationError: It is anything else.

    """
    try:
        found = _object(payload)
        if canonical(found) == payload:
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    raise VerificationError(f"{whence} was signed, but doesn't hold what it should", _VERSIONS)


_VERSIONS = "run the same version of onebasin on both sides"


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode())
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no Base64") from error


def _signed(verifier: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        verifier.verify(signature, message)
    except InvalidSignature:
        return False
    return True
