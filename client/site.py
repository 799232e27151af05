"""A site's folder: its keys, the campaigns that it joined, and what it keeps for each.

::

    site.toml                     settings
    request.json                  its public keys, to hand to the coordinator
    keys/signing.pem              Ed25519, signs what leaves
    keys/agreement.pem            X25519, opens what is sent to the site
    keys/node, node.pub           Flower's SuperNode authentication
    keys/ca.crt                   the coordinator's certificate authority
    campaigns/<12 digits>/        one per joined campaign, see `Joined`
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

from client.settings import SiteSettings
from protos import campaign as campaigns
from protos import files, settings, signing
from protos.campaign import Campaign
from protos.digest import file_digest, short
from protos.enrolment import Request
from protos.errors import BaseMismatchError, ConfigurationError, ModelFileError, StorageError
from protos.tensorfile import TensorFile

_TEMPLATE = """\
# A site of onebasin. Nothing in this file leaves the site, but its name.
name = "{name}"

[superlink]
address = "{address}"

# Built-in scenes. For images of your own, see docs/data.md; check them with: onebasin site check-data
[data]
domain = "{domain}"

[resources]
device = "auto"
"""


@dataclass(frozen=True)
class Site:
    """A site's folder on disk."""

    folder: Path

    @classmethod
    def init(cls, folder: Path, name: str, *, address: str, domain: str) -> Site:
        """Make a site: its folder, settings and keys. Private keys never leave it.

        Raises:
            ConfigurationError: The name is none, or there is a site already.

        """
        campaigns.check_name(name, "site")
        site = cls(folder)
        if site.settings_path.exists():
            raise ConfigurationError(f"there is a site in {folder} already", "choose another folder")
        files.make_folder(site.keys, mode=0o700)
        signing.new_key(site.keys / "signing.pem")
        signing.new_agreement_key(site.keys / "agreement.pem")
        node = ec.generate_private_key(ec.SECP384R1())
        private = node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        files.write(site.node_key, private, mode=0o600)
        files.write(site.node_key.with_suffix(".pub"), public)
        files.write(site.settings_path, _TEMPLATE.format(name=name, address=address, domain=domain))
        site.request().write(site.request_path)
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

    def request(self) -> Request:
        """Return the site's request to take part."""
        public = self.node_key.with_suffix(".pub").read_text().strip()
        signs, agrees = signing.public_bytes(self.signing_key), signing.public_bytes(self.agreement_key)
        return Request(self.name, signs, agrees, public)

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
    def agreement_key(self) -> X25519PrivateKey:
        """The key that opens what is sent to the site."""
        return signing.load_agreement_key(self.keys / "agreement.pem")

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
        campaign = campaigns.load(campaign_file)
        listed = campaign.keys.get(self.name)
        if listed is None:
            raise ConfigurationError(
                f"campaign {campaign.name} has no site {self.name}, its members are {', '.join(campaign.sites)}",
                "ask the coordinator to list this site",
            )
        own = signing.public_bytes(self.signing_key)
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
        return joined

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


@dataclass(frozen=True)
class Joined:
    """A campaign that a site joined, with what the site keeps for it.

    ::

        campaign.binpb  base.safetensors
        progress.json  adapt.log  adapt.lock  checkpoint.pt  failure.json     of the adapting process
        tensorboard/    its training logs, unless the settings forbid them
        outbox/         the finished update, until it is merged
        delivered/      models to be judged, until they are judged
        pictures/       held-out images with predictions, for people at the site
    """

    site: Site
    campaign: Campaign

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.site.folder / "campaigns" / short(self.campaign.digest)

    @property
    def base(self) -> Path:
        """The site's copy of the base."""
        return self.folder / "base.safetensors"


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def check_base(path: Path, campaign: Campaign) -> None:
    """Check that a file holds the base that a campaign names.

    Raises:
        BaseMismatchError: It is missing, damaged, or another model.

    """
    fix = "copy the base again from where the campaign came from"
    try:
        with TensorFile(path) as file:
            digest = file_digest(file)
    except ModelFileError as error:
        raise BaseMismatchError(f"the base can't be read: {error.what}", fix) from error
    if digest != campaign.message.base_digest:
        raise BaseMismatchError(
            f"{path} is model {short(digest)}, but campaign {campaign.name} starts from base "
            f"{short(campaign.message.base_digest)}",
            fix,
        )
