"""A real federation on this machine: a SuperLink with TLS, and SuperNodes that authenticate."""

import itertools
import os
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from client import acceptance, base
from client.site import Joined, Site
from coordinator import superlink
from coordinator.home import CampaignFolder, Home, SubmitSettings
from coordinator.watching import run
from onebasin.processes import Processes
from protos.campaign import Rules
from protos.programs import environment, free_port

SITES = ("alpha", "beta", "gamma")
ABSENT = "delta"
"""A site that is registered but whose SuperNode never runs."""
_numbers = itertools.count(1)


@dataclass
class Federation:
    """A coordinator with its SuperLink up, and sites whose SuperNodes can be started and killed."""

    folder: Path
    home: Home
    base: Path
    sites: dict[str, Site]
    processes: Processes
    events: list[dict[str, Any]] = field(default_factory=list)

    def start_node(self, name: str, site: Site | None = None) -> None:
        found = site or self.sites[name]
        command = [sys.executable, "-m", "onebasin", "site", "supernode", str(found.folder)]
        self.processes.start(name, command, os.environ, self.folder / f"supernode-{name}.log")

    def new_site(self, folder: Path, name: str, passphrase: bytes | None = None) -> Site:
        """Make another site, which the SuperLink doesn't know yet."""
        port = int(self.home.settings.fleet_address.rpartition(":")[2])
        site = new_site(folder, name, port, passphrase=passphrase)
        (site.keys / "ca.crt").write_bytes((self.home.keys / "ca.crt").read_bytes())
        return site

    def kill_node(self, name: str) -> None:
        """Kill -9 a site's SuperNode; whoever watches it starts it again."""
        watcher = psutil.Process(self.processes.pid(name))
        (node,) = [p for p in watcher.children() if "client.flower_supernode" in " ".join(p.cmdline())]
        node.kill()

    def campaign(
        self, *, join: tuple[str, ...] = SITES, members: tuple[str, ...] = SITES, **rules: Any
    ) -> CampaignFolder:
        """Lay down a campaign that ends with the merge, unless the rules say otherwise, and let sites join it."""
        brief = {"evaluate": False, "deliver": False}  # what comes after the merge takes longer than the rest
        settings = {"deadline_seconds": 240, "patience_seconds": 60, **brief, **rules}
        made = self.home.create(
            f"campaign-{next(_numbers)}",
            self.base,
            members={name: self.sites[name].request().keys for name in members},
            rules=Rules(**settings),
        )
        for name in join:
            self.join(name, made)
        return made

    def join(self, name: str, campaign: CampaignFolder) -> Joined:
        joined = self.sites[name].join(campaign.campaign_file, self.base, self.home.keys / "ca.crt")
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


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Start a SuperLink and three SuperNodes; all tests of the session share them."""
    folder = tmp_path_factory.mktemp("federation")
    fleet = free_port()
    home = Home.init(
        folder / "coordinator",
        hosts=("localhost", "127.0.0.1"),
        control_port=free_port(),
        fleet_address=f"127.0.0.1:{fleet}",
        submit=SubmitSettings(at_once=2, part_mebibytes=1),
    )
    weights = folder / "base.safetensors"
    base.make(base.recipe(steps=3, images=8), weights, cache=False, say=lambda line: None, threads=1)
    sites = {name: new_site(folder / name, name, fleet) for name in (*SITES, ABSENT)}
    with Processes() as processes:
        found = Federation(folder, home, weights, sites, processes)
        superlink.write_connection(home)
        processes.start(
            "superlink",
            superlink.superlink_command(home),
            environment(home.flower),
            folder / "superlink.log",
        )
        wait_for_port(home.settings.control_port)
        for name, site in sites.items():
            (site.keys / "ca.crt").write_bytes((home.keys / "ca.crt").read_bytes())
            superlink.register(home, site.request())
            if name != ABSENT:
                found.start_node(name)
        yield found


def new_site(folder: Path, name: str, port: int, *, passphrase: bytes | None = None) -> Site:
    """Make a site with a handful of small images and three training steps."""
    Site.init(folder, name, address=f"127.0.0.1:{port}", domain="night", passphrase=passphrase)
    path = folder / "site.toml"
    settings = tomllib.loads(path.read_text())
    settings["data"].update(source_images=8, target_images=8, evaluation_images=2, seed=len(name))
    settings["adapt"] = {"steps": 3, "checkpoint_every": 1}
    settings["resources"] = {"device": "cpu", "threads": 1}
    path.write_text(tomli_w.dumps(settings))
    return Site.open(folder)


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(port)
