"""A site's folder: its keys, the campaigns that it joined, and what it keeps for each.

::

    site.toml                     settings
    request.json                  its public keys, to hand to the coordinator
    audit.jsonl                   what left, was refused, joined; audit.head.json is its end
    welcome.json                  the coordinator's answer: its keys and where it is
    keys/signing.pem              Ed25519, signs what leaves
    keys/agreement.pem            X25519, opens what is sent to the site
    keys/node, node.pub           Flower's SuperNode authentication
    keys/ca.crt                   the coordinator's certificate authority
    campaigns/<12 digits>/        one per joined campaign, see `client.joined`
    campaigns/current             the digest of the campaign that was joined last
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from client import site_file
from client.joined import Joined, check_base
from client.settings import SiteSettings
from protos import campaign as campaigns
from protos import files, keyfiles, settings, signing
from protos.audit import Audit
from protos.campaign import Campaign
from protos.digest import short
from protos.enrolment import Request, Welcome
from protos.errors import ConfigurationError, StorageError


@dataclass(frozen=True)
class Site:
    """A site's folder on disk."""

    folder: Path

    @classmethod
    def init(
        cls,
        folder: Path,
        name: str,
        *,
        address: str = "",
        domain: str = "",
        passphrase: bytes | None = None,
        region: bytes = b"",
    ) -> Site:
        """Make a site: its folder, settings and keys. Private keys never leave it.

        Args:
            folder: Where.
            name: Its name.
            address: Host and port of the SuperLink, if not what the coordinator's welcome will say.
            domain: Of the built-in scenes; if empty, the settings have a place for folders of images.
            passphrase: Encrypts the private keys.
            region: Of a region, the Ed25519 public key of its coordinator; it has no images then.

        Raises:
            ConfigurationError: The name is none, or there is a site already.

        """
        campaigns.check_name(name, "site")
        site = cls(folder)
        if site.settings_path.exists():
            raise ConfigurationError(f"there is a site in {folder} already", "choose another folder")
        files.make_folder(site.keys, mode=0o700)
        signing_key = signing.new_key(site.keys / "signing.pem", passphrase)
        agreement = X25519PrivateKey.generate()
        keyfiles.write(site.keys / "agreement.pem", agreement, passphrase)
        node = ec.generate_private_key(ec.SECP384R1())
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        if passphrase:
            keyfiles.write(site.node_key, node, passphrase)
        else:  # as Flower reads it
            files.write(site.node_key, _openssh(node), mode=0o600)
        files.write(site.node_key.with_suffix(".pub"), public)
        files.write(site.settings_path, site_file.content(name, address, domain, region=bool(region)))
        agreed = agreement.public_key().public_bytes_raw()
        request = Request(name, signing.public_bytes(signing_key), agreed, public.decode(), region)
        request.write(site.request_path, signing_key)
        audit = Audit(site.folder, lambda: signing_key)  # which may have a passphrase from now on
        audit.note("made", site=name, key=request.signing_key.hex())
        return site

    @classmethod
    def open(cls, folder: Path) -> Site:
        """Open a site's folder.

        Raises:
            ConfigurationError: There is no site in it, or its settings are wrong.

        """
        site = cls(folder.resolve())
        if not site.settings_path.exists():
            raise ConfigurationError(f"there is no site in {folder}", "make one: onebasin site init")
        campaigns.check_name(site.settings.name, "site")
        return site

    @property
    def settings_path(self) -> Path:
        """Where the settings are."""
        return self.folder / "site.toml"

    @property
    def keys(self) -> Path:
        """Where the keys are."""
        return self.folder / "keys"

    @property
    def node_key(self) -> Path:
        """The private key of the site's SuperNode; the public one is beside it, ``.pub``."""
        return self.keys / "node"

    @property
    def request_path(self) -> Path:
        """The file to hand to the coordinator."""
        return self.folder / "request.json"

    @property
    def welcome_path(self) -> Path:
        """The coordinator's answer, once it is here."""
        return self.folder / "welcome.json"

    def request(self) -> Request:
        """Return the site's request to take part. It is read, not made: no passphrase is needed for that.

        Raises:
            ConfigurationError: The file is missing or damaged.
            SignatureError: It was edited.

        """
        return Request.read(self.request_path)

    def coordinator(self) -> Welcome | None:
        """Return the coordinator's welcome, if one was taken in."""
        return Welcome.read(self.welcome_path) if self.welcome_path.exists() else None

    @property
    def address(self) -> str:
        """Host and port of the coordinator's SuperLink.

        Raises:
            ConfigurationError: Nobody has said it yet.

        """
        found = self.settings.superlink.address
        if found:
            return found
        welcome = self.coordinator()
        if welcome is None:
            raise ConfigurationError(
                f"site {self.name} doesn't know its coordinator", "take in its welcome: onebasin site join"
            )
        return welcome.message.addresses[0]

    def readable_node_key(self) -> bytes:
        """Return the node's private key as Flower reads it, without a passphrase. It must not be written down.

        Raises:
            ConfigurationError: The key is missing, can be read by others, or its passphrase is not to be had.

        """
        return _openssh(keyfiles.read(self.node_key, ec.EllipticCurvePrivateKey))  # type: ignore[type-abstract]

    @cached_property
    def settings(self) -> SiteSettings:
        """The site's settings."""
        return settings.load(self.settings_path, SiteSettings)

    @property
    def name(self) -> str:
        """The site's name."""
        return self.settings.name

    @cached_property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs what leaves."""
        return signing.load_key(self.keys / "signing.pem")

    @cached_property
    def audit(self) -> Audit:
        """The log of all that leaves, is refused or changes."""
        return Audit(self.folder, lambda: self.signing_key)

    @cached_property
    def agreement_key(self) -> X25519PrivateKey:
        """The key that agrees on secrets with others."""
        return keyfiles.read(self.keys / "agreement.pem", X25519PrivateKey)  # type: ignore[type-abstract]

    def join(self, campaign_file: Path, base_file: Path, certificate: Path | None = None) -> Joined:
        """Join a campaign: check it and its base, and keep both.

        Args:
            campaign_file: What ``onebasin coordinator create`` wrote.
            base_file: The shared pretrained weights.
            certificate: The coordinator's CA certificate, unless it is there already.

        Raises:
            ConfigurationError: The campaign doesn't list this site, or lists another key for it.
            BaseMismatchError: The file is not the base that the campaign names.

        """
        return self.join_campaign(campaigns.load(campaign_file), base_file, certificate)

    def join_campaign(self, campaign: Campaign, base_file: Path, certificate: Path | None = None) -> Joined:
        """Join a campaign; see `join`."""
        self._check_campaign(campaign)
        joined = Joined(self, campaign)
        check_base(base_file, campaign)
        files.make_folder(joined.folder)
        try:
            _copy(base_file, joined.base)
            if certificate is not None:
                _copy(certificate, self.keys / "ca.crt")
        except OSError as error:
            joined.base.unlink(missing_ok=True)
            raise StorageError(f"can't copy into {self.folder}: {error.strerror}", "free some space") from error
        files.write(joined.folder / "campaign.binpb", campaign.payload)
        files.write(self.folder / "campaigns" / "current", campaign.digest.hex())
        base = campaign.message.base_digest.hex()
        self.audit.note("joined", campaign=campaign.digest.hex(), name=campaign.name, base=base)
        return joined

    def _check_campaign(self, campaign: Campaign) -> None:
        """Make sure that a campaign is of this site's coordinator, and lists this site by its own keys."""
        coordinator = self.coordinator()
        if coordinator is not None and campaign.message.coordinator_key != coordinator.message.coordinator_key:
            raise ConfigurationError(
                f"campaign {campaign.name} is of the coordinator "
                f"{signing.fingerprint(campaign.message.coordinator_key)}, not of {coordinator.fingerprint}",
                "take in the welcome of that coordinator first, or get the campaign from the right one",
            )
        listed = campaign.keys.get(self.name)
        if listed is None:
            raise ConfigurationError(
                f"campaign {campaign.name} has no site {self.name}, its members are {', '.join(campaign.sites)}",
                "ask the coordinator to list this site",
            )
        own = self.request().signing_key
        if listed != own:
            raise ConfigurationError(
                f"campaign {campaign.name} lists the key {signing.fingerprint(listed)} for site {self.name}, "
                f"but this site's is {signing.fingerprint(own)}",
                "send the coordinator this site's key: onebasin site show",
            )
        if campaign.agreement_keys[self.name] != signing.public_bytes(self.agreement_key):
            raise ConfigurationError(
                f"campaign {campaign.name} lists another key agreement key for site {self.name} than this site's",
                "send the coordinator this site's request.json again",
            )
        if campaign.regions.get(self.name, b"") != self.request().region_key:
            raise ConfigurationError(
                f"campaign {campaign.name} lists {self.name} as another coordinator's region, or as none",
                "send the coordinator this region's request.json again, and have it lay the campaign down anew",
            )

    def all_joined(self) -> list[Joined]:
        """List the campaigns that this site joined."""
        paths = sorted((self.folder / "campaigns").glob("*/campaign.binpb"))
        return [Joined(self, campaigns.load(path)) for path in paths]

    def find(self, name: str) -> Joined:
        """Find a joined campaign by its name or digest, or the one that was joined last if neither is given.

        Raises:
            ConfigurationError: This site didn't join it, or joined several of that name.

        """
        if not name:
            return self.joined()
        found = [
            joined for joined in self.all_joined() if name in (joined.campaign.name, joined.campaign.digest.hex())
        ]
        if len(found) == 1:
            return found[0]
        raise ConfigurationError(
            f"site {self.name} has joined {'no' if not found else 'more than one'} campaign {name}",
            "join it: onebasin site join" if not found else "name it by its digest",
        )

    def joined(self, digest: bytes | None = None) -> Joined:
        """Find a joined campaign by its digest, or the one that was joined last.

        Raises:
            ConfigurationError: This site didn't join it.

        """
        if digest is None:
            try:
                digest = bytes.fromhex((self.folder / "campaigns" / "current").read_text())
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"site {self.name} has joined no campaign", "join one: onebasin site join"
                ) from None
        folder = self.folder / "campaigns" / short(digest)
        if not (folder / "campaign.binpb").exists():
            raise ConfigurationError(
                f"site {self.name} has not joined campaign {short(digest)}", "join it: onebasin site join"
            )
        campaign = campaigns.load(folder / "campaign.binpb")
        if campaign.digest != digest:
            raise ConfigurationError(f"{folder} holds another campaign than {short(digest)}", "join it again")
        return Joined(self, campaign)


def _openssh(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)
