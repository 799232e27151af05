"""Greeting: finding out which site is at the other end of each connected node.

Flower knows nodes, a campaign knows sites. A node is asked with a fresh nonce, and a site proves its name by a
signature over the nonce, the node and the campaign, so that neither an old answer nor another node's is any good.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coordinator.courier import Answer
from coordinator.events import Events
from coordinator.members import refusal, refusal_word
from coordinator.pacing import RETRY
from protos import messages_pb2 as pb
from protos import signing, update_pb2
from protos.campaign import Campaign
from protos.errors import BaseMismatchError, UpdateRefusedError

STRANGER = 60.0
"""Seconds until one that gave a wrong answer is."""


@dataclass(frozen=True)
class Greeted:
    """What a greeting brought to light.

    Attributes:
        site: The site that the node is, or says it is.
        node: Flower's id of the node.
        refusal: Why it won't take part; empty if it proved its name.
        reason: The same in one word.

    """

    site: str
    node: int
    refusal: str = ""
    reason: str = ""


class Greeter:
    """Keeps track of the connected nodes and of which site each has proved to be.

    Args:
        campaign: The campaign.
        events: Its log.
        registered: Names the site that a node was registered for; Flower let it in by its key.

    """

    def __init__(
        self, campaign: Campaign, events: Events, registered: Callable[[int], str] = lambda node: ""
    ) -> None:
        self._campaign = campaign
        self._events = events
        self._registered = registered
        self._nodes: dict[int, str] = {}  # "" until proved
        self._nonces: dict[int, bytes] = {}
        self._due: dict[int, float] = {}

    @property
    def online(self) -> set[int]:
        """The nodes that are connected and have proved who they are."""
        return {node for node, site in self._nodes.items() if site}

    def look(self, connected: set[int]) -> list[str]:
        """Take in which nodes are connected now; return the sites whose nodes are gone."""
        for node in connected - self._nodes.keys():
            self._nodes[node] = ""
        gone = [(node, self._nodes.pop(node)) for node in self._nodes.keys() - connected]
        for node, _ in gone:
            self._due.pop(node, None)
        return [site for _, site in gone if site]

    def greetings(self, busy: Callable[[int], bool]) -> Iterator[tuple[int, pb.Request]]:
        """Make a greeting for every node that is due for one and not busy with another request."""
        now = time.monotonic()
        for node in [node for node, site in self._nodes.items() if not site]:
            if now >= self._due.get(node, 0.0) and not busy(node):
                nonce = self._nonces[node] = secrets.token_bytes(16)
                yield node, pb.Request(hello=pb.Hello(nonce=nonce))

    def take(self, answer: Answer) -> Greeted | None:
        """Take in what came of a greeting; None if it proves nothing about any member."""
        node, reply = answer.node, answer.reply
        self._due[node] = time.monotonic() + RETRY
        if answer.refused_code:
            return self._without_code(node)
        if reply is None and not answer.void:
            return None
        self._due[node] = time.monotonic() + STRANGER
        refused = reply.refusal if reply is not None and reply.HasField("refusal") else answer.refusal
        # A refusal that isn't signed may name any site; whose node it is, Flower knows by the key that let it in.
        named = refused.site if refused is not None else ""
        site = answer.site or (named if named == self._registered(node) else "")
        if refused is not None and site in self._campaign.keys:
            return Greeted(site, node, refusal(site, refused), refusal_word(refused))
        try:
            if refused is not None:
                raise UpdateRefusedError(refusal(str(node), refused))
            if reply is None:
                raise UpdateRefusedError(answer.problem)
            self._prove(reply.hello, node, site)
        except (UpdateRefusedError, BaseMismatchError) as error:
            self._events.note("stranger", node=node, message=error.what)
            return None
        self._nodes[node] = site
        return Greeted(site, node)

    def replaced(self, node: int) -> None:
        """Forget a node whose site has proved to be another node now."""
        self._nodes.pop(node, None)

    def _without_code(self, node: int) -> Greeted | None:
        """Take in that a node won't run the code, so that nothing of ours could answer there."""
        self._due[node] = time.monotonic() + STRANGER
        site = self._registered(node)
        said = (
            f"site {site or f'(node {node})'} refuses to run the campaign's code "
            f"({self._campaign.rules.code_digest[:12]}): its operator has not accepted a campaign with that digest"
        )
        if site in self._campaign.keys:
            return Greeted(site, node, said, "code")
        self._events.note("stranger", node=node, message=said)
        return None

    def _prove(self, envelope: update_pb2.Signed, node: int, site: str) -> None:
        """Check the greeting of the site that signed the letter which it came in."""
        hello = signing.opened(envelope, signing.HELLO, self._campaign.keys[site], pb.HelloReply, site)
        expected = (self._campaign.digest, self._nonces.pop(node, b""), node, site)
        if (hello.campaign_digest, hello.nonce, hello.node_id, hello.site) != expected:
            raise UpdateRefusedError(
                f"site {site}: the greeting is for another campaign, site, node or time", site=site
            )
