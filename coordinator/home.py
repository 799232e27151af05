"""The coordinator's folder: its keys, its settings, and its campaigns.

::

    coordinator.toml          settings
    audit.jsonl               what arrived, was refused, approved, merged, withdrawn; audit.head.json is its end
    journal.db                what is under way in each campaign, see `coordinator.journal`
    keys/                     CA, SuperLink certificate; signing.pem (Ed25519) signs requests and receipts,
                              agreement.pem (X25519) opens what sites send
    sites/<name>/             one per approved site, see `coordinator.roster`
    flower/                   Flower's own files
    campaigns/<name>/         one per campaign, see `CampaignFolder`
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator import certificates, publishing
from coordinator.events import Events
from coordinator.journal import FILE, Course, Journal
from protos import campaign as campaigns
from protos import code, files, keyfiles, settings, signing
from protos.addresses import Address
from protos.audit import Audit
from protos.campaign import Campaign, Keys, Rules
from protos.digest import file_digest
from protos.errors import BaseMismatchError, ConfigurationError, ModelFileError, StorageError
from protos.tensorfile import TensorFile

_TEMPLATE = """\
# A coordinator of onebasin.
# The Control API has no accounts: whoever reaches it can submit code. Keep it on loopback.
control_port = {control_port}
fleet_address = "{fleet_address}"
# Single updates are dropped once a run is over: sums, digests and receipts stay.
keep_updates = false
# Where sites reach it; they are told the first one. After a change: onebasin coordinator renew-certificate
hosts = {hosts}

[submit]
# Sites send a few parts at a time, which bounds the memory of the SuperLink and of the coordinator.
at_once = {at_once}
part_mebibytes = {part_mebibytes}
"""


_LOOPBACK = ("localhost", "127.0.0.1")
"""The coordinator itself talks to its SuperLink over loopback."""


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
    ) -> Home:
        """Make a coordinator: its folder, settings, CA and keys.

        Args:
            folder: Where.
            hosts: Names and addresses under which sites reach it; they go into its certificate.
            control_port: Port of Flower's Control API, on loopback.
            fleet_address: Host and port on which it listens for sites.
            submit: How updates are asked for.

        Raises:
            ConfigurationError: There is a coordinator already.

        """
        home = cls(folder)
        if home.settings_path.exists():
            raise ConfigurationError(f"there is a coordinator in {folder} already", "choose another folder")
        certificates.make(home.keys, [*hosts, *_LOOPBACK])
        signing.new_key(home.keys / "signing.pem")
        keyfiles.write(home.keys / "agreement.pem", X25519PrivateKey.generate())
        files.make_folder(home.flower)
        submit = submit or SubmitSettings()
        text = _TEMPLATE.format(
            control_port=control_port,
            fleet_address=fleet_address,
            hosts=json.dumps(list(hosts)),
            at_once=submit.at_once,
            part_mebibytes=submit.part_mebibytes,
        )
        files.write(home.settings_path, text)
        home.audit.note("made", hosts=list(hosts), key=signing.public_bytes(home.signing_key).hex())
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
        return Keys(signing.public_bytes(self.signing_key), signing.public_bytes(self.agreement_key))

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that a welcome is this coordinator's."""
        return signing.fingerprint(signing.public_bytes(self.signing_key))

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


@dataclass(frozen=True)
class CampaignFolder:
    """What the coordinator keeps for a campaign.

    ::

        campaign.binpb  base.safetensors
        run.lock                          held while a run is on
        arrivals/<site>/                  an update on its way in, and its signed header; until the run is over
        sum.binpb                         what was heard in a secure sum; until the run is over
        state.safetensors                 the merge state
        evaluations/<site>.binpb          signed scores
        merged/                           model, card, receipt, proofs, report; earlier receipts
    """

    home: Home
    path: Path

    @property
    def campaign_file(self) -> Path:
        """The file that sites get."""
        return self.path / "campaign.binpb"

    @property
    def base(self) -> Path:
        """The base."""
        return self.path / "base.safetensors"

    @property
    def state(self) -> Path:
        """The merge state."""
        return self.path / "state.safetensors"

    @property
    def arrivals(self) -> Path:
        """The folder of single updates, each in one of its own by site."""
        return self.path / "arrivals"

    @property
    def sum_record(self) -> Path:
        """The file of a secure sum that is under way."""
        return self.path / "sum.binpb"

    @property
    def merged(self) -> Path:
        """The folder of the result."""
        return self.path / "merged"

    @property
    def key(self) -> str:
        """What the journal knows the campaign by: its digest, hexadecimal."""
        return self.campaign.digest.hex()

    def log(self) -> Events:
        """Return where events are noted; those that matter go into the audit log too."""
        return Events(self.home.journal, self.key, self.path.name, self.home.audit)

    @cached_property
    def campaign(self) -> Campaign:
        """The campaign itself."""
        return campaigns.load(self.campaign_file)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the campaign: two runs at once would write one merge state. A dead run holds nothing.

        A result that a crash kept from its place is put there first.

        Raises:
            ConfigurationError: Another run holds it.

        """
        with (self.path / "run.lock").open("a") as lock:
            if not _locked(lock):
                raise ConfigurationError(
                    f"campaign {self.path.name} is running already", "watch it: onebasin coordinator status"
                )
            if publishing.finish(self.path):
                self.log().note("completed")
            yield

    def held(self) -> bool:
        """Tell whether somebody holds the campaign: a run that is on, say."""
        with suppress(FileNotFoundError), (self.path / "run.lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def course(self) -> Course:
        """Return how the campaign went so far."""
        return self.home.journal.course(self.key)

    def begin(self) -> Course:
        """Begin a run, and return how the campaign went so far: its deadline counts from its first run."""
        return self.home.journal.begin(self.key, self.path.name, self.campaign.rules.deadline_seconds)

    def outcome(self) -> Mapping[str, Any] | None:
        """Return how the last run ended, or None if it did not."""
        return self.course().outcome

    def end(self, **outcome: Any) -> None:
        """Write down how a run ended."""
        self.home.journal.end(self.key, self.path.name, {**outcome, "time": time.time()})

    def cancel(self, *, cancelled: bool = True) -> None:
        """Write down that the campaign is cancelled, or that it is taken up again."""
        self.home.journal.cancel(self.key, self.path.name, cancelled=cancelled)

    def forget_outcome(self) -> None:
        """Start a new run."""
        self.home.journal.end(self.key, self.path.name, None)


def _locked(lock: IO[str]) -> bool:
    """Lock a file for oneself; tried more than once, for `CampaignFolder.held` locks it for an instant."""
    for _ in range(5):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False
