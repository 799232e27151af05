"""Admitting a site: its request is checked and kept, and its node is let into the SuperLink that is up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator import roster, superlink
from coordinator.home import Home
from protos.enrolment import Request


@dataclass(frozen=True)
class Admitted:
    """A site that was taken in.

    Attributes:
        request: What it handed over.
        let_in: Whether its node was let into a SuperLink; otherwise it will be when one starts.

    """

    request: Request
    let_in: bool


def admit(home: Home, path: Path, fingerprint: str, *, renew: bool = False) -> Admitted:
    """Take a site in; the arguments are those of `coordinator.roster.approve`, and so is what is raised.

    Raises:
        FederationError: It is approved, but the SuperLink that is up did not take its node.

    """
    found = roster.approve(home, path, fingerprint, renew=renew)
    running = superlink.is_running(home)
    if running:
        if renew:
            superlink.unregister(home, found.site)
        superlink.register(home, found)
    return Admitted(found, running)
