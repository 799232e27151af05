"""Accepting a campaign: the operator's yes, by the digest that both sides display. Without it nothing runs."""

from __future__ import annotations

import json
import time

from client.joined import Joined
from client.site import Site
from protos import files
from protos.errors import ConfigurationError, PolicyError

_DIGITS = 20
"""Digits of a digest that are enough: 80 bits, as with a fingerprint."""


def accept(joined: Joined, digest: str) -> None:
    """Write down that the site's operator accepts a campaign.

    Args:
        joined: The campaign.
        digest: Its digest as the coordinator says it, hexadecimal: all of it, or the first 20 digits at least.

    Raises:
        ConfigurationError: That is another campaign's digest.
        PolicyError: The site's policy forbids it.

    """
    own, said = joined.campaign.digest.hex(), "".join(digest.split()).lower()
    if len(said) < _DIGITS or not own.startswith(said):
        raise ConfigurationError(
            f"campaign {joined.campaign.name} has the digest {own}, not {digest}",
            f"compare it with what the coordinator displays; {_DIGITS} digits are enough",
        )
    joined.site.settings.policy.check(joined.campaign, joined.site.name)
    joined.site.audit.note("accepted", campaign=own)
    files.write(joined.folder / _FILE, json.dumps({"digest": own, "time": int(time.time())}) + "\n")


def accepted(joined: Joined) -> bool:
    """Tell whether the operator accepted this very campaign."""
    try:
        found = json.loads((joined.folder / _FILE).read_text())
        return bool(found["digest"] == joined.campaign.digest.hex())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def codes(site: Site) -> set[str]:
    """Return the digests of the code that may run at a site: those of the campaigns that it accepted."""
    return {
        joined.campaign.rules.code_digest
        for joined in site.all_joined()
        if joined.campaign.rules.code_digest and accepted(joined)
    }


def check(joined: Joined) -> None:
    """Make sure that a campaign was accepted, and that the site's policy of today allows it.

    Raises:
        PolicyError: It was not, or doesn't.

    """
    if not accepted(joined):
        raise PolicyError(
            f"site {joined.site.name} has not accepted campaign {joined.campaign.name}",
            f"read its rules: onebasin site show {joined.site.folder}; then: onebasin site accept",
        )
    joined.site.settings.policy.check(joined.campaign, joined.site.name)


_FILE = "accepted.json"
