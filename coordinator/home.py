"""The coordinator's folder: its keys, its settings, and its campaigns.

::

    coordinator.toml          settings
    audit.jsonl               what arrived, was refused, approved, merged, withdrawn; audit.head.json is its end
    journal.db                what is under way in each campaign, see `coordinator.journal`
    keys/                     CA, SuperLink certificate; signing.pem (Ed25519; signing.pub: its public half) signs
                              requests and receipts, agreement.pem (X25519) opens what sites send
    sites/<name>/             one per approved site, see `coordinator.roster`
    flower/                   Flower's own files
    campaigns/<name>/         one per campaign, see `coordinator.campaign_folder`
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator import certificates
from coordinator.campaign_folder import CampaignFolder
from coordinator.journal import FILE, Journal
from coordinator.settings import CoordinatorSettings, SubmitSettings
from protos import campaign as campaigns
from protos import code, files, keyfiles, settings, signing
from protos.addresses import Address
from protos.audit import Audit
from protos.campaign import Keys
from protos.digest import file_digest
from protos.errors import BaseMismatchError, ConfigurationError, ModelFileError, StorageError
from protos.rules import Rules
from protos.tensorfile import TensorFile

_LOOPBACK = ("localhost", "127.0.0.1")
"""The coordinator itself talks to its SuperLink over loopback."""


@dataclass(frozen=True)
class Home:
    """The coordinator's folder on disk."""

    folder: Path

    @classmethod
    def init(
        cls,
        folder: Path,
        *,
        hosts: tuple[str, ...],
        control_port: int,
        fleet_address: str,
        submit: SubmitSettings | None = None,
        passphrase: bytes | None = None,
    ) -> Home:
        """Make a coordinator: its folder, settings, CA and keys.

        Args:
            folder: Where.
            hosts: Names and addresses under which sites reach it; they go into its certificate.
            control_port: Port of Flower's Control API, on loopback.
            fleet_address: Host and port on which it listens for sites.
            submit: How updates are asked for.
            passphrase: Encrypts the private keys, but for the SuperLink's own, which Flower reads: that one
                vouches for nothing but a connection, for a year, and is made anew at any time.

        Raises:
            ConfigurationError: There is a coordinator already.

        """
        home = cls(folder)
        if home.settings_path.exists():
            raise ConfigurationError(f"there is a coordinator in {folder} already", "choose another folder")
        certificates.make(home.keys, [*hosts, *_LOOPBACK], passphrase)
        signing_key = signing.new_key(home.keys / "signing.pem", passphrase)
        keyfiles.write(home.keys / "agreement.pem", X25519PrivateKey.generate(), passphrase)
        files.make_folder(home.flower)
        made = CoordinatorSettings(control_port, fleet_address, hosts=hosts, submit=submit or SubmitSettings())
        files.write(home.settings_path, made.text())
        audit = Audit(folder, lambda: signing_key)  # which may have a passphrase from now on
        audit.note("made", hosts=list(hosts), key=home.public_key.hex())
        return home

    @classmethod
    def open(cls, folder: Path) -> Home:
        """Open a coordinator's folder.

        Raises:
            ConfigurationError: There is no coordinator in it.

        """
        home = cls(folder.resolve())
        if not home.settings_path.exists():
            raise ConfigurationError(f"there is no coordinator in {folder}", "make one: onebasin coordinator init")
        return home

    @property
    def settings_path(self) -> Path:
        """Where the settings are."""
        return self.folder / "coordinator.toml"

    @property
    def keys(self) -> Path:
        """Where the keys are."""
        return self.folder / "keys"

    @property
    def flower(self) -> Path:
        """Flower's home."""
        return self.folder / "flower"

    @cached_property
    def settings(self) -> CoordinatorSettings:
        """The coordinator's settings."""
        return settings.load(self.settings_path, CoordinatorSettings)

    @cached_property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs requests, receipts and welcomes; sites know the coordinator by it."""
        return signing.load_key(self.keys / "signing.pem")

    @cached_property
    def public_key(self) -> bytes:
        """The public half of the signing key; 32 bytes. No passphrase is needed for it."""
        return signing.load_public(self.keys / "signing.pem")

    @cached_property
    def audit(self) -> Audit:
        """The log of all that matters here."""
        return Audit(self.folder, lambda: self.signing_key)

    @cached_property
    def journal(self) -> Journal:
        """What is under way in each campaign."""
        return Journal(self.folder / FILE)

    @cached_property
    def agreement_key(self) -> X25519PrivateKey:
        """The key that opens what sites send."""
        return keyfiles.read(self.keys / "agreement.pem", X25519PrivateKey)  # type: ignore[type-abstract]

    @property
    def public_keys(self) -> Keys:
        """The keys that a campaign lists for the coordinator."""
        return Keys(self.public_key, signing.public_bytes(self.agreement_key))

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that a welcome is this coordinator's."""
        return signing.fingerprint(self.public_key)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where sites reach the SuperLink: host and port."""
        port = Address.parse(self.settings.fleet_address).port
        return tuple(str(Address(host, port)) for host in self.settings.hosts)

    @property
    def certificate_hosts(self) -> tuple[str, ...]:
        """What its certificate must be for."""
        return (*self.settings.hosts, *_LOOPBACK)

    def create(self, name: str, base: Path, *, members: Mapping[str, Keys], rules: Rules) -> CampaignFolder:
        """Lay down a campaign.

        Args:
            name: Its name; also its folder's.
            base: The base: a safetensors file whose metadata names ``model`` and ``classes``.
            members: Each site's public keys.
            rules: How it goes.

        Raises:
            ConfigurationError: There is one of that name already, or its terms make no sense.
            BaseMismatchError: The file is no base.

        """
        campaigns.check_name(name, "campaign")
        folder = CampaignFolder(self, self.folder / "campaigns" / name)
        if folder.path.exists():
            raise ConfigurationError(f"there is a campaign {name} already", "choose another name")
        try:
            with TensorFile(base) as file:
                digest, metadata = file_digest(file), file.metadata
        except ModelFileError as error:
            raise BaseMismatchError(error.what, error.fix) from error
        try:
            model, classes = metadata["model"], int(metadata["classes"])
        except (KeyError, ValueError):
            raise BaseMismatchError(
                f"{base} doesn't say in its metadata which model it is and how many classes it has",
                "make the base with `onebasin base train`",
            ) from None
        campaign = campaigns.new_campaign(
            name=name,
            base_digest=digest,
            model=model,
            classes=classes,
            members=members,
            rules=replace(rules, code_digest=code.installed_digest()),
            coordinator=self.public_keys,
        )
        files.make_folder(folder.path)
        try:
            shutil.copyfile(base, folder.base)
        except OSError as error:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise StorageError(f"can't copy the base: {error.strerror}", "free some space") from error
        files.write(folder.campaign_file, campaign.payload)
        self.audit.note("created", campaign=name, digest=campaign.digest.hex(), members=list(campaign.sites))
        return folder

    def campaigns(self) -> Iterator[CampaignFolder]:
        """List the campaigns by name."""
        for path in sorted((self.folder / "campaigns").glob("*/campaign.binpb")):
            yield CampaignFolder(self, path.parent)

    def campaign(self, name: str) -> CampaignFolder:
        """Find a campaign by name.

        Raises:
            ConfigurationError: There is none.

        """
        folder = CampaignFolder(self, self.folder / "campaigns" / name)
        if not folder.campaign_file.exists():
            raise ConfigurationError(f"there is no campaign {name}", "create it: onebasin coordinator create")
        return folder
