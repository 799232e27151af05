"""The end of a campaign that is cancelled: the sites are told to end their adapting processes.

Whoever is connected is asked; the others are waited for a moment. A site that isn't reached goes on adapting, and
is told when the campaign is cancelled once more.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message

from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Answer, Courier, kind_of
from coordinator.members import Member, State, refusal
from coordinator.pacing import pause
from protos import messages_pb2 as pb

PATIENCE = 60.0
"""Seconds in which a site must connect; one that has been asked by then has as long again for its answer."""
_BUSY = 20.0
"""Seconds that what a node was asked before may take: a site does one thing after the other."""
_ANSWER = 60.0
"""Seconds for a site's answer; longer than `client.adapting.STOP`."""


@dataclass
class _Told:
    """A site that is to be told.

    Attributes:
        failures: How often it didn't answer.
        due: When to tell it (monotonic seconds).
        under_way: Whether it is being told.

    """

    failures: int = 0
    due: float = 0.0
    under_way: bool = False


class Cancelling:
    """The conversation in which sites end their adapting processes.

    Args:
        folder: The campaign's folder.
        members: Its members.
        courier: Who carries the requests.

    """

    def __init__(self, folder: CampaignFolder, members: Mapping[str, Member], courier: Courier) -> None:
        self._folder = folder
        self._members = members
        self._events = folder.log()
        self._courier = courier
        self._began = time.monotonic()
        done = (State.MERGED, State.WITHDRAWN)  # they adapt no more
        self._open = {site: _Told() for site, member in members.items() if member.state not in done}

    @property
    def done(self) -> bool:
        """Whether every site has answered, or its time is over."""
        for site, told in list(self._open.items()):
            if time.monotonic() - self._began > (2 if told.under_way else 1) * PATIENCE:
                self._events.note("not-stopped", site, message=f"site {site} did not answer in time")
                del self._open[site]
        return not self._open

    def messages(self, online: Collection[int]) -> Iterator[Message]:
        """Make the requests that are due, to nodes that are connected."""
        now = time.monotonic()
        for site, told in self._open.items():
            node = self._members[site].node
            if node is None or node not in online or told.under_way or now < told.due:
                continue
            if self._courier.under_way(node=node) and now - self._began < _BUSY:
                continue
            told.under_way = True
            request = pb.Request(campaign_digest=self._folder.campaign.digest, cancel=pb.Cancel())
            yield self._courier.message(node, request, _ANSWER, site=site)

    def take(self, answer: Answer) -> None:
        """Take in what came of a request; what was asked before doesn't matter any more."""
        site = next((site for site in self._open if self._members[site].node == answer.node), None)
        if site is None or kind_of(answer.request) != "cancel":
            return
        told, reply = self._open[site], answer.reply
        told.under_way = False
        if reply is None:
            told.failures += 1
            told.due = time.monotonic() + pause(told.failures)
            return
        del self._open[site]
        if reply.WhichOneof("what") == "progress":
            self._events.note("stopped", site, step=reply.progress.step, steps=reply.progress.steps)
        else:
            said = refusal(site, reply.refusal)
            self._events.note("not-stopped", site, message=said)
