"""A Merkle tree over the updates of a merge: one digest for all, and a short proof that one of them is inside.

Hashing, shape and proofs are those of RFC 6962 (Certificate Transparency), section 2.1; how a proof is checked is
RFC 9162, section 2.1.3.2. A leaf and a node are hashed with another first byte, so that no node passes for a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_LEAF, _NODE = b"\x00", b"\x01"


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree's digest, 32 bytes; of no leaves it is the SHA-256 of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return _hash(_LEAF, leaves[0])
    split = _split(len(leaves))
    return _hash(_NODE, root(leaves[:split]), root(leaves[split:]))


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return what leads from a leaf to the root: a digest of 32 bytes for each level, the nearest first.

    Raises:
        IndexError: There is no such leaf.

    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    if index < split:
        return (*proof(leaves[:split], index), root(leaves[split:]))
    return (*proof(leaves[split:], index - split), root(leaves[:split]))


def proves(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Tell whether a path leads from a leaf at an index of a tree of so many leaves to the expected root."""
    if not 0 <= index < size:
        return False
    here, last, found = index, size - 1, _hash(_LEAF, leaf)
    for other in path:
        if not last:
            return False
        if here & 1 or here == last:
            found = _hash(_NODE, other, found)
            while here and not here & 1:  # levels at which this node had no sibling
                here, last = here >> 1, last >> 1
        else:
            found = _hash(_NODE, found, other)
        here, last = here >> 1, last >> 1
    return not last and found == expected


def _split(size: int) -> int:
    """Return the largest power of two that is smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
