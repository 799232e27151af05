"""A site's settings: ``site.toml``, written by ``onebasin site init`` and owned by the site's operator."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.data.settings import DataSettings
from client.policy import Policy
from client.training.settings import AdaptSettings


@dataclass(frozen=True)
class SuperLink:
    """Where the coordinator's SuperLink is.

    Attributes:
        address: Host and port of its Fleet API; empty: as the coordinator's welcome says.
        root_certificates: The CA's certificate, relative to the site's folder.

    """

    address: str = ""
    root_certificates: str = "keys/ca.crt"


@dataclass(frozen=True)
class Resources:
    """What adapting may use.

    Attributes:
        device: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        threads: CPU threads of the adapting process; 0 means as many as PyTorch thinks best.

    """

    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True)
class SiteSettings:
    """The whole of ``site.toml``.

    Attributes:
        name: The site's name, as campaigns list it.
        data: The site's images: built-in scenes, or folders.
        superlink: Where the coordinator is.
        adapt: How it adapts.
        resources: What adapting may use.
        policy: Which campaigns the site takes part in.

    """

    name: str
    data: DataSettings
    superlink: SuperLink = field(default_factory=SuperLink)
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    resources: Resources = field(default_factory=Resources)
    policy: Policy = field(default_factory=Policy)
