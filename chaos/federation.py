"""A real federation on this machine: a SuperLink with TLS, and SuperNodes that authenticate."""

from __future__ import annotations

import itertools
import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import tomli_w

from client import acceptance, base
from client.joined import Joined
from client.site import Site
from coordinator import roster, superlink
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.settings import SubmitSettings
from coordinator.watching import run
from onebasin.processes import Processes
from protos.addresses import Address
from protos.programs import free_port
from protos.rules import Rules

SITES = ("alpha", "beta", "gamma")
ABSENT = "delta"
"""A site that is registered but whose SuperNode never runs."""
SUPERLINK = "superlink"
LOOPBACK = "127.0.0.1"
_LET_IN = 60.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Ground:
    """What a federation stands on, if it is not this machine as it is.

    Attributes:
        environment: Variables of all its processes, beside this process's own.
        address: Where the SuperLink listens for sites.
        seen_from: Under which address a site sees the SuperLink, if not that one.
        inside: Words to put before a site's command, to run it in another place.

    """

    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = LOOPBACK
    seen_from: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass
class Federation:
    """A coordinator with its SuperLink up, and sites whose SuperNodes can be started and killed."""

    folder: Path
    home: Home
    base: Path
    sites: dict[str, Site]
    processes: Processes
    ground: Ground = field(default_factory=Ground)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, **self.ground.environment}

    @property
    def port(self) -> int:
        """The port that sites connect to."""
        return Address.parse(self.home.settings.fleet_address).port

    def start_superlink(self) -> None:
        """Start the SuperLink as its operator does; it lets all approved sites in by itself."""
        command = [sys.executable, "-m", "onebasin", "coordinator", "superlink", str(self.home.folder)]
        self.processes.start(SUPERLINK, command, self.environment, self.folder / "superlink.log")

    def start_node(self, name: str, site: Site | None = None) -> None:
        """Start a site's SuperNode as its operator does."""
        found = site or self.sites[name]
        command = [sys.executable, "-m", "onebasin", "site", "supernode", str(found.folder)]
        command = [*self.ground.inside.get(name, []), *command]
        self.processes.start(name, command, self.environment, self.folder / f"supernode-{name}.log")

    def new_site(self, folder: Path, name: str, passphrase: bytes | None = None) -> Site:
        """Make another site, which the SuperLink doesn't know yet."""
        return new_site(folder, name, self.home, passphrase=passphrase, address=self.ground.seen_from.get(name))

    def add(self, site: Site) -> None:
        """Approve a site while the SuperLink is up, and start its SuperNode."""
        self.sites[site.name] = site
        (site.keys / "ca.crt").write_bytes((self.home.keys / "ca.crt").read_bytes())
        superlink.register(self.home, roster.approve(self.home, site.request_path, site.request().fingerprint))
        self.start_node(site.name)

    def kill_node(self, name: str) -> None:
        """Kill -9 a site's SuperNode; whoever watches it starts it again."""
        watcher = psutil.Process(self.processes.pid(name))
        (node,) = [p for p in watcher.children() if "client.flower_supernode" in " ".join(p.cmdline())]
        node.kill()

    def campaign(
        self,
        *,
        join: tuple[str, ...] = SITES,
        members: tuple[str, ...] = SITES,
        base: Path | None = None,
        **rules: Any,
    ) -> CampaignFolder:
        """Lay down a campaign that ends with the merge, unless the rules say otherwise, and let sites join it."""
        brief = {"evaluate": False, "deliver": False}  # what comes after the merge takes longer than the rest
        settings = {"deadline_seconds": 240, "patience_seconds": 60, **brief, **rules}
        made = self.home.create(
            f"campaign-{next(_numbers)}",
            base or self.base,
            members={name: self.sites[name].request().keys for name in members},
            rules=Rules(**settings),
        )
        for name in join:
            self.join(name, made, base)
        return made

    def join(self, name: str, campaign: CampaignFolder, base: Path | None = None) -> Joined:
        """Let a site join a campaign, and its operator accept it."""
        joined = self.sites[name].join(campaign.campaign_file, base or self.base, self.home.keys / "ca.crt")
        acceptance.accept(joined, campaign.campaign.digest.hex())
        return joined

    def run(
        self, campaign: CampaignFolder, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> list[dict[str, Any]]:
        """Run a campaign to its end and return its events."""
        seen: list[dict[str, Any]] = []

        def note(event: dict[str, Any]) -> None:
            seen.append(event)
            if on_event is not None:
                on_event(event)

        run(campaign, note)
        return seen


@contextmanager
def federation(
    folder: Path,
    ground: Ground | None = None,
    *,
    sites: tuple[str, ...] = SITES,
    absent: tuple[str, ...] = (ABSENT,),
    weights: Path | None = None,
    passphrase: bytes | None = None,
) -> Iterator[Federation]:
    """Start a SuperLink and SuperNodes, and end them, with all that they started.

    Args:
        folder: An empty folder; those of the coordinator and of sites may be in it.
        ground: What it stands on.
        sites: Those whose SuperNodes are started.
        absent: Those that are registered, and whose SuperNodes never run.
        weights: The base, if one is there; else a small one is trained.
        passphrase: Encrypts the coordinator's keys.

    """
    ground = ground or Ground()
    home = Home.init(
        folder / "coordinator",
        hosts=("localhost", LOOPBACK, *ground.seen_from.values()),
        control_port=free_port(),
        fleet_address=f"{ground.address}:{free_port()}",
        submit=SubmitSettings(at_once=2, part_mebibytes=1),
        passphrase=passphrase,
    )
    if weights is None:
        weights = folder / "base.safetensors"
        base.make(base.recipe(steps=3, images=8), weights, cache=False, say=lambda line: None, threads=1)
    with Processes() as processes:
        found = Federation(folder, home, weights, {}, processes, ground)
        for name in (*sites, *absent):
            site = found.sites[name] = found.new_site(folder / name, name)
            roster.approve(home, site.request_path, site.request().fingerprint)
        found.start_superlink()
        superlink.wait(home, processes.check, folder / "superlink.log")
        for name in sites:
            path = roster.folder_of(home, name) / "node-id"
            _wait_for(path, processes)
            found.start_node(name)
        yield found


def new_site(
    folder: Path, name: str, home: Home, *, passphrase: bytes | None = None, address: str | None = None
) -> Site:
    """Make a site with a handful of small images and three training steps."""
    reached = Address.parse(home.settings.fleet_address)._replace(host=address or LOOPBACK)
    Site.init(folder, name, address=str(reached), domain="night", passphrase=passphrase)
    path = folder / "site.toml"
    settings = tomllib.loads(path.read_text())
    settings["data"].update(source_images=8, target_images=8, evaluation_images=2, seed=len(name))
    settings["adapt"] = {"steps": 3, "checkpoint_every": 1}
    settings["resources"] = {"device": "cpu", "threads": 1}
    path.write_text(tomli_w.dumps(settings))
    site = Site.open(folder)
    (site.keys / "ca.crt").write_bytes((home.keys / "ca.crt").read_bytes())
    return site


def _wait_for(path: Path, processes: Processes) -> None:
    until = time.monotonic() + _LET_IN
    while not path.exists():
        processes.check()
        if time.monotonic() > until:
            raise TimeoutError(f"the SuperLink did not let {path.parent.name} in")
        time.sleep(0.1)
