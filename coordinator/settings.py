"""A coordinator's settings: ``coordinator.toml``, written by ``onebasin coordinator init``; its operator's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

_TEMPLATE = """\
# A coordinator of onebasin.
# The Control API has no accounts: whoever reaches it can submit code. Keep it on loopback.
control_port = {control_port}
fleet_address = "{fleet_address}"
# Single updates are dropped once a run is over: sums, digests and receipts stay.
keep_updates = {keep_updates}
# Where sites reach it; they are told the first one. After a change: onebasin coordinator renew-certificate
hosts = {hosts}

[submit]
# Sites send a few parts at a time, which bounds the memory of the SuperLink and of the coordinator.
at_once = {at_once}
part_mebibytes = {part_mebibytes}
"""


@dataclass(frozen=True)
class SubmitSettings:
    """How updates are asked for.

    Attributes:
        at_once: Parts that may be under way at the same time, over all sites.
        part_mebibytes: Size of a part.

    """

    at_once: int = 2
    part_mebibytes: int = 48


@dataclass(frozen=True)
class CoordinatorSettings:
    """The whole of ``coordinator.toml``.

    Attributes:
        control_port: Port of Flower's Control API, on loopback.
        fleet_address: Where sites connect: host and port of the Fleet API.
        keep_updates: Whether single updates stay here after a run, instead of the sums alone.
        hosts: Names and addresses under which sites reach it, the one that they are told first.
        submit: How updates are asked for.

    """

    control_port: int
    fleet_address: str
    keep_updates: bool = False
    hosts: tuple[str, ...] = ("localhost",)
    submit: SubmitSettings = field(default_factory=SubmitSettings)

    def text(self) -> str:
        """Return them as the file that a new coordinator gets, with a word on each."""
        return _TEMPLATE.format(
            control_port=self.control_port,
            fleet_address=self.fleet_address,
            keep_updates=json.dumps(self.keep_updates),
            hosts=json.dumps(list(self.hosts)),
            at_once=self.submit.at_once,
            part_mebibytes=self.submit.part_mebibytes,
        )
