"""Correspondence: from what Flower brings to a request, and from the reply to what Flower takes away.

A request is answered only if the campaign's coordinator signed it for this site, and only once. Whoever asks for
anything else learns the reason's number and this site's name, as greeting it would tell.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flwr.app import RecordDict

from client.answers import RefusedRequestError, answer, reason_for, refused
from client.delivered import NotDeliveredError
from client.freshness import Taken
from client.joined import Joined
from client.site import Site
from protos import faults, flower, letters, logs, signing, update_pb2
from protos import messages_pb2 as pb
from protos.errors import ConfigurationError, OnebasinError, SignatureError, UpdateRefusedError

log = logging.getLogger("onebasin.site")

_WHOSE = "the coordinator"


@dataclass(frozen=True)
class Received:
    """A request that the campaign's coordinator signed for this site.

    Attributes:
        joined: The campaign.
        opened: The request.
        content: What came with it.

    """

    joined: Joined
    opened: letters.Opened[pb.Request]
    content: RecordDict

    def parameters(self, name: str) -> memoryview:
        """Open a set of parameters that came with the request; each can be opened once.

        Raises:
            UpdateRefusedError: It isn't there.
            NotDeliveredError: It didn't come with this request, or changed on the way.

        """
        try:
            return self.opened.parameters(name, flower.taken(self.content, name, _WHOSE))
        except SignatureError as error:
            raise NotDeliveredError(error.what, error.fix) from error

    def answered(self, reply: pb.Reply, sets: dict[str, bytes]) -> RecordDict:
        """Sign a reply and seal it to the coordinator, with its sets, which are taken out."""
        letter, sealed = _desk(self.joined).answer(self.opened.question, reply, sets)
        return flower.packed(pb.Returned(letter=letter), sealed)


def receive(site: Site, content: RecordDict) -> Received:
    """Read a request.

    Raises:
        RefusedRequestError: This site has not joined its campaign, or it is no request of the coordinator's to it.
        ConfigurationError: This site's keys can't be read.

    """
    try:
        envelope = flower.message_of(content, update_pb2.Signed, _WHOSE)
        digest = signing.decode(envelope.payload, pb.Letter, _WHOSE).campaign_digest
        try:
            joined = site.joined(digest)
        except ConfigurationError as error:
            raise RefusedRequestError(error.what, pb.Refusal.REASON_CAMPAIGN) from error
        return Received(joined, _desk(joined).read(envelope), content)
    except SignatureError as error:
        raise RefusedRequestError(str(error), pb.Refusal.REASON_UNSIGNED) from error
    except UpdateRefusedError as error:
        raise RefusedRequestError(str(error), pb.Refusal.REASON_REQUEST) from error


def reply(site: Site, content: RecordDict, node_id: int) -> RecordDict:
    """Answer what arrived. Whatever goes wrong becomes a refusal and a line in the log."""
    try:
        received = receive(site, content)
    except OnebasinError as error:
        log.error("refused what arrived: %s", error)
        return unanswered(reason_for(error), site.name)
    logs.about(campaign=received.joined.campaign.name)
    request = received.opened.message
    try:
        question = received.opened.question
        Taken(received.joined.folder / "requests").take(question.nonce, received.opened.expires)
    except OnebasinError as error:
        return received.answered(*refused(site, request, error))
    faults.point("request-taken")
    replied = received.answered(*answer(site, request, node_id, received.parameters))
    faults.point("reply-leaving")
    return replied


def unanswered(reason: pb.Refusal.Reason, site: str = "") -> RecordDict:
    """Refuse in the clear: who asked, or what to sign with, isn't known."""
    return flower.packed(pb.Returned(refusal=pb.Refusal(reason=reason, site=site)))


def _desk(joined: Joined) -> letters.Site:
    site = joined.site
    return letters.Site(joined.campaign, site.name, site.signing_key, site.agreement_key)
