"""The roster: who takes part in a sum, and with which keys. Each site checks each member's signature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from protos import securesum_pb2 as pb
from protos import signing
from protos.errors import SecureSumError
from protos.securesum.agreement import Agreement
from protos.securesum.keys import KEY_BYTES
from protos.securesum.messages import LIED, ascending, enough, hear

_DOMAIN = b"onebasin secure sum roster v1\n"


@dataclass(frozen=True)
class Roster:
    """A roster whose signatures were checked.

    Attributes:
        message: As it travels.
        digest: SHA-256 over the agreement and all signed keys; 32 bytes. Whatever follows is bound to it.
        keys: Each site's keys by site, ascending.

    """

    message: pb.Roster = field(repr=False)
    digest: bytes
    keys: Mapping[str, pb.Keys] = field(repr=False)

    @property
    def sites(self) -> tuple[str, ...]:
        """Who takes part, ascending."""
        return tuple(self.keys)


def check(message: pb.Roster, agreement: Agreement) -> Roster:
    """Check a roster.

    Raises:
        SecureSumError: It has too few sites, someone on it is no member or stands on it twice, keys are missing or
            shared by two sites, or were made for another sum.
        SignatureError: A site's keys were not signed by it.
        UpdateRefusedError: A site's keys are not in canonical form.

    """
    sites = ascending((said.site for said in message.keys), "the roster")
    enough(sites, agreement, "are on the roster")
    found = {said.site: check_keys(hear(said.envelope, pb.Keys, agreement, said.site)) for said in message.keys}
    keys = [key for one in found.values() for key in (one.mask_key, one.share_key)]
    if len(set(keys)) != len(keys):
        raise SecureSumError("two sites on the roster have the same key", LIED)
    state = hashlib.sha256(_DOMAIN + agreement.digest)
    for said in message.keys:
        state.update(signing.digest(said.envelope))
    return Roster(message, state.digest(), found)


def check_keys(keys: pb.Keys) -> pb.Keys:
    """Check one site's keys, and return them.

    Raises:
        SecureSumError: One is not 32 bytes long.

    """
    if {len(key) for key in (keys.mask_key, keys.share_key, keys.commitment)} != {KEY_BYTES}:
        raise SecureSumError(
            f"site {keys.site}: a key is not {KEY_BYTES} bytes long",
            "run the same version of onebasin on both sides",
            site=keys.site,
        )
    return keys
