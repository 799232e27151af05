"""Enrolment: how a site and a coordinator get to know each other.

The site hands over a request, the coordinator answers with a welcome. Each is signed by the very key that it
introduces, so the fingerprint of that one key, read from person to person, vouches for all that the file says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from protos import campaign as campaigns
from protos import dsse, files, sealing, signing, update_pb2
from protos import enrolment_pb2 as pb
from protos.campaign import WIRE_VERSION, Campaign, Keys, check_name
from protos.errors import ConfigurationError, SignatureError, UpdateRefusedError, VerificationError

M = TypeVar("M", pb.SiteRequest, pb.Welcome)


@dataclass(frozen=True)
class Request:
    """What a site hands to the coordinator: its name and its three public keys, and a region its coordinator's.

    Attributes:
        site: Its name.
        signing_key: Ed25519 public key, 32 bytes: what it sends is signed with it.
        agreement_key: X25519 public key, 32 bytes: what is sent to it is sealed to it.
        node_key: Its SuperNode's public key, in OpenSSH's one-line form.
        region_key: Of a region, its coordinator's Ed25519 public key, 32 bytes; empty if it is a site.

    """

    site: str
    signing_key: bytes
    agreement_key: bytes
    node_key: str
    region_key: bytes = b""

    @property
    def keys(self) -> Keys:
        """The keys that a campaign lists for it."""
        return Keys(self.signing_key, self.agreement_key, self.region_key)

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that the file is the site's."""
        return signing.fingerprint(self.signing_key)

    @cached_property
    def message(self) -> pb.SiteRequest:
        """What is signed."""
        return pb.SiteRequest(
            wire_version=WIRE_VERSION,
            site=self.site,
            signing_key=self.signing_key,
            agreement_key=self.agreement_key,
            node_key=self.node_key,
            region_key=self.region_key,
        )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all that it says, 32 bytes; a welcome names the request that it answers by it."""
        return signing.digest(
            update_pb2.Signed(purpose=signing.SITE_REQUEST, payload=signing.encode(self.message))
        )

    def write(self, path: Path, key: Ed25519PrivateKey) -> None:
        """Write the request file, signed."""
        files.write(path, dsse.dump(signing.signed(signing.SITE_REQUEST, self.message, key)))

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request file and check it.

        Raises:
            ConfigurationError: It is missing, or no request.
            SignatureError: Something in it was changed after it was signed.

        """
        return cls.parse(read_file(path, "request"), str(path))

    @classmethod
    def parse(cls, content: bytes, whence: str) -> Request:
        """Read and check the content of a request file; see `read`."""
        fix = "take request.json from the site's folder"
        message, envelope = _parsed(
            content, signing.SITE_REQUEST, pb.SiteRequest, f"{whence} is no site's request", fix
        )
        _check_signature(envelope, signing.SITE_REQUEST, message.signing_key, whence, fix)
        try:
            _check_agreement_key(message.agreement_key)
            _check_node_key(message.node_key)
            if len(message.region_key) not in (0, 32):
                raise ValueError("its coordinator's key is not 32 bytes long")
        except ValueError as error:
            raise ConfigurationError(f"{whence} is no site's request: {error}", fix) from None
        check_name(message.site, "site")
        return cls(message.site, message.signing_key, message.agreement_key, message.node_key, message.region_key)


@dataclass(frozen=True)
class Welcome:
    """What the coordinator answers. Its signature was checked; whose key made it is said by the fingerprint."""

    message: pb.Welcome

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that the file is the coordinator's."""
        return signing.fingerprint(self.message.coordinator_key)

    @cached_property
    def campaigns(self) -> tuple[Campaign, ...]:
        """The campaigns that it brings."""
        return tuple(campaigns.parse(payload, "a campaign of the welcome") for payload in self.message.campaigns)

    @classmethod
    def read(cls, path: Path) -> Welcome:
        """Read a welcome file and check it.

        Raises:
            ConfigurationError: It is missing, or no welcome.
            SignatureError: Something in it was changed after it was signed.

        """
        return cls.parse(read_file(path, "welcome"), str(path))

    @classmethod
    def parse(cls, content: bytes, whence: str) -> Welcome:
        """Read and check the content of a welcome file; see `read`."""
        fix = "take welcome.json from the coordinator: onebasin coordinator approve wrote it"
        message, envelope = _parsed(content, signing.WELCOME, pb.Welcome, f"{whence} is no welcome", fix)
        _check_signature(envelope, signing.WELCOME, message.coordinator_key, whence, fix)
        check_name(message.site, "site")
        try:
            _check_agreement_key(message.agreement_key)
            if not x509.load_pem_x509_certificates(message.ca_certificates) or not message.addresses:
                raise ValueError("it has no certificate or no address")
        except ValueError as error:
            raise ConfigurationError(f"{whence} is no welcome: {error}", fix) from None
        found = cls(message)
        if any(c.message.coordinator_key != message.coordinator_key for c in found.campaigns):
            raise ConfigurationError(f"{whence} brings a campaign of another coordinator", fix)
        return found


def read_file(path: Path, what: str) -> bytes:
    """Read a file that site and coordinator hand each other, to be parsed and then kept: the very bytes.

    Raises:
        ConfigurationError: It is missing, or far too large to be one.

    """
    try:
        return dsse.read(path, what)
    except VerificationError as error:
        raise ConfigurationError(error.what, error.fix) from error


def new_welcome(
    request: Request,
    *,
    key: Ed25519PrivateKey,
    agreement_key: bytes,
    ca_certificates: bytes,
    addresses: Iterable[str],
    brings: Iterable[Campaign],
) -> str:
    """Write the content of a welcome file.

    Args:
        request: The site's.
        key: The coordinator's signing key.
        agreement_key: The coordinator's X25519 public key, 32 bytes.
        ca_certificates: Its certificate authority's certificate, PEM.
        addresses: Where its SuperLink is: host and port.
        brings: Campaigns that list the site.

    """
    message = pb.Welcome(
        wire_version=WIRE_VERSION,
        site=request.site,
        request_digest=request.digest,
        coordinator_key=signing.public_bytes(key),
        agreement_key=agreement_key,
        ca_certificates=ca_certificates,
        addresses=addresses,
        campaigns=[campaign.payload for campaign in brings],
        issued_unix=int(time.time()),
    )
    return dsse.dump(signing.signed(signing.WELCOME, message, key))


def check_fingerprint(said: str, public: bytes, whose: str) -> None:
    """Make sure that the fingerprint that somebody read out is a key's.

    Raises:
        SignatureError: It is another's.

    """
    if not signing.is_fingerprint(said, public):
        raise SignatureError(
            f"the fingerprint of {whose} is {signing.fingerprint(public)}, not {said}",
            "if it was not just misheard, somebody exchanged the file on its way: get it again, another way",
        )


def _parsed(content: bytes, purpose: str, kind: type[M], otherwise: str, fix: str) -> tuple[M, update_pb2.Signed]:
    try:
        envelope = dsse.load_bare(content)
        if envelope.purpose != purpose:
            raise ConfigurationError(otherwise, fix)
        message = signing.decode(envelope.payload, kind, "the file")
    except (ValueError, UpdateRefusedError) as error:
        raise ConfigurationError(f"{otherwise}: {error}", fix) from None
    if message.wire_version != WIRE_VERSION:
        raise ConfigurationError(
            f"{otherwise} that this version understands", "run the same version of onebasin on both sides"
        )
    return message, envelope


def _check_signature(envelope: update_pb2.Signed, purpose: str, key: bytes, whence: str, fix: str) -> None:
    if len(key) != 32 or not signing.holds(envelope, purpose, key):
        raise SignatureError(f"{whence} was changed after it was signed", fix)


def _check_agreement_key(key: bytes) -> None:
    if not sealing.is_key(key):
        raise ValueError("no secret comes of its key agreement key")


def _check_node_key(key: str) -> None:
    try:
        found = load_ssh_public_key(key.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError("its node key is none") from error
    if not isinstance(found, EllipticCurvePublicKey) or not isinstance(found.curve, SECP384R1):
        raise ValueError("its node key is not on the curve P-384")
    if len(key.split()) != 2 or "\n" in key:
        raise ValueError("its node key has more than a key in it")
