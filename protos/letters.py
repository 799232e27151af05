"""Letters: a request or a reply, signed by who sends it and sealed to who is to read it.

A reply is bound to the letter that it answers, and sets of parameters to the letter that they travel with: the
digest of what came before is part of each seal. So whoever stands in between, as Flower's SuperLink does, reads
nothing of it, makes nothing of it up, and can pass no letter off as another: not one site's as another's, not an
old one as a new one, not one request's reply or parameters as another's.

Signatures are made over what is sealed, so what somebody else made up is refused before it is opened.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from io import BytesIO
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protos import messages_pb2 as pb
from protos import sealing, signing, update_pb2
from protos.campaign import Campaign, Keys
from protos.errors import ConfigurationError, SignatureError, UpdateRefusedError
from protos.signing import REPLY, REQUEST

NONCE = 16
"""Bytes of a request's nonce."""
LONGEST = 86_400
"""Seconds that a request may live at most: sites remember it for as long."""

_MESSAGE = "message"
M = TypeVar("M", pb.Request, pb.Reply)
Sets = MutableMapping[str, bytes]
"""Sets of parameters by name. Who seals them takes them out: they are sealed in the memory that they lie in."""


@dataclass(frozen=True)
class Question:
    """A request that is under way, as a reply to it must know it.

    Attributes:
        site: Who is asked; empty in a greeting.
        nonce: 16 random bytes.
        digest: Of its letter.

    """

    site: str
    nonce: bytes
    digest: bytes


@dataclass(frozen=True)
class Opened(Generic[M]):
    """What was in a letter.

    Attributes:
        message: The request or reply.
        site: Who is asked, or who answered; empty in a greeting.
        question: The request, or what is answered.
        expires: Of a request: seconds since 1970.

    """

    message: M
    site: str
    question: Question
    expires: int
    _seal: sealing.Seal | None
    _whose: str
    _digest: bytes

    def parameters(self, name: str, content: BytesIO) -> memoryview:
        """Open a set of parameters that came with the letter, in place.

        Args:
            name: The set's.
            content: What arrived; written over.

        Raises:
            SignatureError: It did not come with this letter, or changed on the way.

        """
        if self._seal is None:
            raise SignatureError(f"{self._whose}: parameters came with a greeting", _SAME)
        return self._seal.open(_set(name), content, self._whose, self._digest)


@dataclass(frozen=True)
class Coordinator:
    """Who asks.

    Raises:
        ConfigurationError: The campaign lists other keys for the coordinator.

    """

    campaign: Campaign
    signing_key: Ed25519PrivateKey
    agreement_key: X25519PrivateKey

    def __post_init__(self) -> None:
        message = self.campaign.message
        listed = Keys(message.coordinator_key, message.coordinator_agreement_key)
        if listed != Keys(signing.public_bytes(self.signing_key), signing.public_bytes(self.agreement_key)):
            raise ConfigurationError(
                f"campaign {self.campaign.name} lists other keys for the coordinator than these",
                "restore the keys that it was made with, or create it anew: onebasin coordinator create",
            )

    def ask(
        self, request: pb.Request, site: str, nonce: bytes, expires: float, sets: Sets | None = None
    ) -> tuple[update_pb2.Signed, dict[str, bytes], Question]:
        """Write a request's letter.

        Args:
            request: What is asked.
            site: Who is asked; empty for a greeting, which is not sealed and goes without sets.
            nonce: 16 random bytes, never used before.
            expires: Seconds since 1970 after which no site answers it.
            sets: Parameters that go with it; sealed in place and taken out.

        Returns:
            The letter, the sealed sets, and what the reply is to be read with.

        """
        letter = pb.Letter(
            campaign_digest=self.campaign.digest, site=site, nonce=nonce, expires=max(0, int(expires))
        )
        if site:
            key = self.campaign.agreement_keys[site]
            envelope, sealed = _sealed(letter, REQUEST, request, sets, key, self.signing_key)
        else:
            letter.hello.CopyFrom(request.hello)
            envelope, sealed = signing.signed(REQUEST, letter, self.signing_key), {}
        return envelope, sealed, Question(site, nonce, signing.digest(envelope))

    def read(self, envelope: update_pb2.Signed, question: Question) -> Opened[pb.Reply]:
        """Open a reply.

        Args:
            envelope: What arrived.
            question: What it must answer.

        Raises:
            SignatureError: It is not from the site that was asked (a greeting: from any member), answers another
                question, or changed on the way.
            UpdateRefusedError: What is in it is no reply.

        """
        site = question.site or signing.decode(envelope.payload, pb.Letter, "a node").site
        key = self.campaign.keys.get(site)
        if key is None:
            raise UpdateRefusedError(f"site {site} is no member of campaign {self.campaign.name}", site=site)
        letter = signing.opened(envelope, REPLY, key, pb.Letter, site)
        whose = f"site {site}"
        wanted = (self.campaign.digest, site, question.nonce, 0)
        if (letter.campaign_digest, letter.site, letter.nonce, letter.expires) != wanted:
            raise SignatureError(f"{whose}: the answer is for another campaign, site or request", _SAME, site=site)
        return _opened(letter, envelope, REPLY, pb.Reply, self.agreement_key, question, whose)


@dataclass(frozen=True)
class Site:
    """Who is asked."""

    campaign: Campaign
    name: str
    signing_key: Ed25519PrivateKey
    agreement_key: X25519PrivateKey

    def read(self, envelope: update_pb2.Signed) -> Opened[pb.Request]:
        """Open a request. Whether it is fresh is the caller's to find out.

        Raises:
            SignatureError: The campaign's coordinator did not sign it for this site, or it changed on the way.
            UpdateRefusedError: What is in it is no request.

        """
        whose = "the coordinator"
        key = self.campaign.message.coordinator_key
        letter = signing.opened(envelope, REQUEST, key, pb.Letter, self.name, whose=whose, fix=_SAME)
        question = Question(letter.site, letter.nonce, signing.digest(envelope))
        if letter.campaign_digest != self.campaign.digest or len(letter.nonce) != NONCE:
            raise SignatureError(f"{whose}: the request is for another campaign, or has no nonce", _SAME)
        if letter.WhichOneof("body") == "hello" and not letter.site:
            request = pb.Request(campaign_digest=self.campaign.digest, hello=letter.hello)
            return Opened(request, "", question, letter.expires, None, whose, question.digest)
        if letter.site != self.name:
            raise SignatureError(f"{whose}: the request is for site {letter.site}, this is {self.name}", _SAME)
        found = _opened(letter, envelope, REQUEST, pb.Request, self.agreement_key, question, whose)
        if found.message.campaign_digest != self.campaign.digest or found.message.HasField("hello"):
            raise SignatureError(f"{whose}: the request contradicts its letter", _SAME)
        return found

    def answer(
        self, question: Question, reply: pb.Reply, sets: Sets | None = None
    ) -> tuple[update_pb2.Signed, dict[str, bytes]]:
        """Write a reply's letter.

        Args:
            question: What is answered.
            reply: The answer.
            sets: Parameters that go with it; sealed in place and taken out.

        """
        letter = pb.Letter(campaign_digest=self.campaign.digest, site=self.name, nonce=question.nonce)
        key = self.campaign.message.coordinator_agreement_key
        return _sealed(letter, REPLY, reply, sets, key, self.signing_key, question.digest)


_SAME = "run one campaign's coordinator and sites, of the same version; nothing was taken from what arrived"


def _sealed(
    letter: pb.Letter,
    direction: str,
    message: pb.Request | pb.Reply,
    sets: Sets | None,
    recipient: bytes,
    signing_key: Ed25519PrivateKey,
    said: bytes = b"",
) -> tuple[update_pb2.Signed, dict[str, bytes]]:
    """Put a message into a letter, sign it, and seal the sets that go with it."""
    ephemeral, seal = sealing.to(recipient, _context(letter, direction))
    content = seal.close(_MESSAGE, BytesIO(signing.encode(message)), said)
    letter.sealed.CopyFrom(pb.Sealed(ephemeral_key=ephemeral, content=content))
    envelope = signing.signed(direction, letter, signing_key)
    digest = signing.digest(envelope)
    waiting = {} if sets is None else sets
    # A set that is taken out is nobody else's any more, so it isn't copied.
    closed = {name: seal.close(_set(name), BytesIO(waiting.pop(name)), digest) for name in list(waiting)}
    return envelope, closed


def _opened(
    letter: pb.Letter,
    envelope: update_pb2.Signed,
    direction: str,
    kind: type[M],
    key: X25519PrivateKey,
    question: Question,
    whose: str,
) -> Opened[M]:
    """Open a letter whose signature and head were checked."""
    if letter.WhichOneof("body") != "sealed":
        raise SignatureError(f"{whose}: what arrived is not sealed", _SAME)
    said = question.digest if direction == REPLY else b""
    seal = sealing.of(letter.sealed.ephemeral_key, key, _context(letter, direction))
    content = seal.open(_MESSAGE, BytesIO(letter.sealed.content), whose, said)
    message = signing.decode(bytes(content), kind, whose)
    return Opened(message, letter.site, question, letter.expires, seal, whose, signing.digest(envelope))


def _context(letter: pb.Letter, direction: str) -> sealing.Context:
    return sealing.Context(letter.campaign_digest, letter.site, direction, letter.nonce)


def _set(name: str) -> str:
    return f"set:{name}"
