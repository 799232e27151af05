"""The code that Flower ships to the sites, named by a digest that is a rule of each campaign.

Flower packs a folder into a bundle (FAB) the same way each time, and names it by its SHA-256. A site's
operator accepts that digest with the campaign, and sees whether it is that of the onebasin installed there.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

BUNDLE = Path(__file__).parents[1] / "coordinator" / "bundle"
"""The bundle's folder in this installation: two imports, one for each side."""


@functools.cache
def installed_digest() -> str:
    """Return the digest of the bundle that this installation would ship; hexadecimal."""
    return digest(BUNDLE)


def digest(folder: Path) -> str:
    """Return the digest of the bundle that Flower would make of a folder; hexadecimal."""
    from flwr.cli.build import build_fab_from_disk  # takes a while

    return hashlib.sha256(build_fab_from_disk(folder)).hexdigest()
