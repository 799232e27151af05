"""Seals: what only one key opens, and what doesn't open if a bit of it, or of what it is for, is another.

The keys come from X25519, with an ephemeral key at the sender, by HKDF-SHA256 whose `info` names both public keys
and the context: campaign, site, direction and the request's nonce. The content is cut into chunks, each encrypted
with ChaCha20-Poly1305, in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015): a chunk's nonce is a prefix, the
chunk's number and whether it is the last, so that chunks that are missing, doubled or in another order don't open.

All chunks are written first and all tags after them: content is sealed and opened in the memory that it lies in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END, BytesIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.errors import SignatureError
from protos.signing import public_bytes

CHUNK = 1 << 16
"""Bytes of content in a chunk; a small one stays in the processor's cache."""
TAG = 16
"""Bytes by which each chunk makes the sealed content longer."""
KEY = 32
"""Bytes of a public key."""
_PREFIX = 7
_LABEL = b"onebasin/seal/v1"


@dataclass(frozen=True)
class Context:
    """What a seal is for.

    Attributes:
        campaign: The campaign's digest.
        site: The site that is asked, or that answers.
        direction: The purpose for which the letter is signed: that of a request, or of a reply.
        nonce: The request's.

    """

    campaign: bytes
    site: str
    direction: str
    nonce: bytes


class Seal:
    """What two parties agreed on for one letter: it seals and opens contents, each under a name of its own.

    Args:
        shared: What X25519 gave.
        keys: The ephemeral public key and the recipient's.
        context: What it is for.

    """

    def __init__(self, shared: bytes, keys: tuple[bytes, bytes], context: Context) -> None:
        self._shared = shared
        self._closed: set[str] = set()
        parts = (*keys, context.campaign, context.site.encode(), context.direction.encode(), context.nonce)
        self._info = b"".join(map(_counted, (_LABEL, *parts)))

    def close(self, name: str, content: BytesIO, said: bytes = b"") -> bytes:
        """Seal content in place, and return it.

        Args:
            name: What it is, e.g. "message"; each name may be used once.
            content: Is written over. Where nobody else refers to its bytes, nothing of it is copied.
            said: The digest of what came before it, without which it can't be opened.

        """
        assert name not in self._closed, "a second content under one name would be encrypted with the same nonces"
        self._closed.add(name)
        cipher, prefix = self._derived(name)
        tags = bytearray()
        with content.getbuffer() as view:
            for place, nonce in _chunks(len(view), prefix):
                chunk = memoryview(cipher.encrypt(nonce, view[place], said))
                view[place] = chunk[:-TAG]
                tags += chunk[-TAG:]
        content.seek(0, SEEK_END)
        content.write(tags)
        return content.getvalue()

    def open(self, name: str, content: BytesIO, whose: str, said: bytes = b"") -> memoryview:
        """Open sealed content in place; the inverse of `close`.

        Args:
            name: What it must be.
            content: Is written over.
            whose: Who sent it, for the error's text.
            said: The digest of what came before it.

        Raises:
            SignatureError: It was sealed for another key, context, name or place, or changed on the way.

        """
        cipher, prefix = self._derived(name)
        view = content.getbuffer()
        size = opened_size(len(view))
        if size is None:
            raise SignatureError(f"{whose}: what arrived sealed is cut short", _AGAIN)
        for number, (place, nonce) in enumerate(_chunks(size, prefix)):
            tag = view[size + number * TAG :][:TAG]
            try:
                view[place] = cipher.decrypt(nonce, b"".join((view[place], tag)), said)
            except InvalidTag:
                raise SignatureError(
                    f"{whose}: what arrived doesn't open: it was sealed for another key or request, or changed on "
                    "the way",
                    _AGAIN,
                ) from None
        return view[:size]

    def _derived(self, name: str) -> tuple[ChaCha20Poly1305, bytes]:
        info = self._info + _counted(name.encode())
        derived = HKDF(SHA256(), length=KEY + _PREFIX, salt=None, info=info).derive(self._shared)
        return ChaCha20Poly1305(derived[:KEY]), derived[KEY:]


_AGAIN = "if it happens again, compare both sides' keys with the campaign's: onebasin site show"


def to(recipient: bytes, context: Context) -> tuple[bytes, Seal]:
    """Agree on a seal that the holder of a key can open.

    Args:
        recipient: X25519 public key, 32 bytes.
        context: What it is for.

    Returns:
        The ephemeral public key to send along, and the seal.

    Raises:
        SignatureError: The recipient's key is none: no secret comes of it.

    """
    ephemeral = X25519PrivateKey.generate()
    public = public_bytes(ephemeral)
    return public, Seal(_agreed(ephemeral, recipient), (public, recipient), context)


def of(ephemeral: bytes, recipient: X25519PrivateKey, context: Context) -> Seal:
    """Agree on the seal of what arrived; see `to`.

    Raises:
        SignatureError: The ephemeral key is none.

    """
    return Seal(_agreed(recipient, ephemeral), (ephemeral, public_bytes(recipient)), context)


def is_key(public: bytes) -> bool:
    """Tell whether bytes are a public key that secrets come of: not one of the few points of low order."""
    try:
        _agreed(X25519PrivateKey.generate(), public)
    except SignatureError:
        return False
    return True


def opened_size(sealed: int) -> int | None:
    """Return how many bytes of content are in `sealed` bytes, or None if no content has that many sealed."""
    chunks = max(1, -(-sealed // (CHUNK + TAG)))
    size = sealed - chunks * TAG
    return size if size >= 0 and chunks == _count(size) else None


def _agreed(own: X25519PrivateKey, other: bytes) -> bytes:
    try:
        # RFC 7748, section 6.1: the library refuses a secret that is all zeros, as those of low order give.
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise SignatureError("a key agreement key is none: no secret comes of it", _AGAIN) from None


def _chunks(size: int, prefix: bytes) -> Iterator[tuple[slice, bytes]]:
    """Yield each chunk's place and nonce: 7 bytes of prefix, 4 of its number, 1 if it is the last or else 0."""
    count = _count(size)
    for number in range(count):
        last = number == count - 1
        nonce = prefix + number.to_bytes(4, "big") + bytes([last])
        yield slice(number * CHUNK, size if last else (number + 1) * CHUNK), nonce


def _count(size: int) -> int:
    return max(1, -(-size // CHUNK))


def _counted(part: bytes) -> bytes:
    """Put a part's length before it, so that no two lists of parts are the same bytes."""
    return len(part).to_bytes(4, "big") + part
