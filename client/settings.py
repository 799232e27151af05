"""A site's settings: ``site.toml``, written by ``onebasin site init`` and owned by the site's operator."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.data.settings import DataSettings
from client.policy import Policy
from client.training.settings import AdaptSettings
from client.training.tracking import TrackingSettings
from protos.errors import ConfigurationError

ASKED, SCHEDULED = "asked", "scheduled"
"""Who starts adapting: the SuperNode when the coordinator asks for it, or a schedule of the operator's own."""


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
        adapting: ``"asked"`` (the SuperNode starts it when the coordinator asks) or ``"scheduled"``: nothing but
            ``onebasin site adapt`` does, so that it runs at the hours and within the limits that the operator set.

    Raises:
        ConfigurationError: A value makes no sense.

    """

    device: str = "auto"
    threads: int = 0
    adapting: str = ASKED

    def __post_init__(self) -> None:
        if self.adapting not in (ASKED, SCHEDULED):
            raise ConfigurationError(
                f"resources: adapting = {self.adapting!r} is not known", f"known: {ASKED}, {SCHEDULED}"
            )


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
        tracking: Where training logs go besides the site's folder.

    """

    name: str
    data: DataSettings
    superlink: SuperLink = field(default_factory=SuperLink)
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    resources: Resources = field(default_factory=Resources)
    policy: Policy = field(default_factory=Policy)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
