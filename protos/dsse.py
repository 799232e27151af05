"""Signed files: anything in a DSSE envelope, which other tools can read and check as well, and a mail carries.

https://github.com/secure-systems-lab/dsse: JSON with ``payloadType``, ``payload`` and ``signatures``, Base64
inside, Ed25519 over the pre-authentication encoding of type and payload. Nothing of a payload is parsed before its
signature was checked, unless the payload itself names the key, as in an enrolment.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import signing
from protos import update_pb2 as pb
from protos.errors import SignatureError, VerificationError

MOST = 16 << 20
"""Bytes that a signed file may have: those of a merge of 16,384 sites have a quarter."""
_SIGNATURES = 8
"""How many of an envelope's signatures are looked at: each costs time."""


def dump(envelope: pb.Signed) -> str:
    """Write what is signed as an envelope's text."""
    content = {
        "payloadType": envelope.purpose,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [{"sig": base64.b64encode(envelope.signature).decode()}],
    }
    return json.dumps(content, indent=1) + "\n"


def load(text: bytes) -> list[pb.Signed]:
    """Read an envelope: what is signed, once with each of its signatures. Nothing but its form is checked.

    Raises:
        ValueError: It is no envelope.

    """
    if len(text) > MOST:
        raise ValueError("too large")
    try:
        envelope = _object(text)
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        return [
            pb.Signed(purpose=kind, payload=payload, signature=base64.b64decode(entry["sig"], validate=True))
            for entry in envelope["signatures"][:_SIGNATURES]
        ]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not in form ({type(error).__name__})") from error


def load_bare(text: bytes) -> pb.Signed:
    """Read an envelope with one signature and nothing that `dump` doesn't write; see `load`.

    Raises:
        ValueError: It is another.

    """
    found = load(text)
    if len(found) != 1 or _object(text) != json.loads(dump(found[0])):
        raise ValueError("holds more than an envelope")
    return found[0]


def signed(kind: str, payload: bytes, key: Ed25519PrivateKey) -> str:
    """Sign a payload of a type and return the envelope's text."""
    return dump(signing.sign(kind, payload, key))


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
        found = load(text)
    except ValueError as error:
        raise VerificationError(
            f"{whence} is damaged or no signed file ({error})", "copy it again from where it came"
        ) from None
    if any(one.purpose != kind for one in found):
        raise SignatureError(f"{whence} is of another type than {kind}", "give the file that was asked for")
    for one in found:
        if signing.holds(one, kind, key):
            return one.payload
    raise SignatureError(
        f"{whence} is not signed with the key that was given, or was changed since",
        "copy it again; if it stays so, ask whose it is said to be for its key",
    )


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
