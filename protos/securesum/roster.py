"""The roster: who takes part in a sum, and with which keys. Each site checks each member's signature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from protos import sealing, signing
from protos import securesum_pb2 as pb
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
    owners: dict[bytes, str] = {}
    for site, one in found.items():
        for key in (one.mask_key, one.share_key):
            if (other := owners.setdefault(key, site)) != site:
                # Nobody is told keys before the roster is closed, so an honest site's can't have been copied.
                raise SecureSumError(f"sites {other} and {site} have the same key", LIED, site=site)
    state = hashlib.sha256(_DOMAIN + agreement.digest)
    for said in message.keys:
        state.update(signing.digest(said.envelope))
    return Roster(message, state.digest(), found)


def check_keys(keys: pb.Keys) -> pb.Keys:
    """Check one site's keys, and return them.

    Raises:
        SecureSumError: One is not 32 bytes long, no secret comes of it, or it is there for two purposes. Whoever
            was told of it would have to refuse the sum, so the one who says it is named.

    """
    if {len(key) for key in (keys.mask_key, keys.share_key, keys.commitment)} != {KEY_BYTES}:
        raise SecureSumError(
            f"site {keys.site}: a key is not {KEY_BYTES} bytes long",
            "run the same version of onebasin on both sides",
            site=keys.site,
        )
    if not (sealing.is_key(keys.mask_key) and sealing.is_key(keys.share_key)):
        raise SecureSumError(f"site {keys.site}: of one of its keys no secret comes", _WITHOUT, site=keys.site)
    if keys.mask_key == keys.share_key:
        raise SecureSumError(f"site {keys.site} has the same key for both purposes", _WITHOUT, site=keys.site)
    return keys


_WITHOUT = "no onebasin makes such keys: start another secure sum without this site"
