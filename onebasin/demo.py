"""``onebasin demo``: a whole campaign of four sites on this one machine.

It does what four operators and a coordinator would do, by the same functions and programs: a base, keys and
requests that are approved, a campaign that each site accepts, a SuperLink with TLS, four authenticated
SuperNodes, one run.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w
from rich.console import Console

from client import acceptance, base, enrolment
from client.joined import Joined
from client.site import Site
from coordinator import roster, superlink
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.report.format import from_json
from coordinator.report.table import results_table
from coordinator.report.write import write_report
from coordinator.watching import run as run_campaign
from onebasin.pictures import pictures
from onebasin.processes import Processes, interruptible
from onebasin.progress import Screen
from protos import files
from protos.errors import ConfigurationError
from protos.programs import environment, free_port
from protos.rules import Rules

DOMAINS = ("clear", "dusty", "adverse", "night")
NAME = "demo"
_QUICK = {"steps": 8, "source_images": 16, "target_images": 16, "evaluation_images": 8}


def run_demo(folder: Path | None, *, quick: bool, seed: int) -> Path:
    """Run the demo and return the folder of its result.

    Args:
        folder: Where everything of the run goes; a new one under ``runs/`` if None.
        quick: Take a few training steps only.
        seed: Seed of scenes and training.

    Raises:
        ConfigurationError: The folder is there and not empty.
        OnebasinError: Something failed; nothing is left running.

    """
    console = Console()
    folder = _new_folder(folder)
    started = time.monotonic()
    say = _Steps(console)
    say(f"run folder {folder}")
    with interruptible():
        say("training the base on labelled synthetic scenes")
        recipe = base.recipe(
            steps=_QUICK["steps"] if quick else None, images=_QUICK["source_images"] if quick else 600, seed=seed
        )
        base.make(recipe, folder / "base.safetensors", cache=True, say=say.detail)

        say("making a coordinator and four sites, each with keys of its own")
        fleet, control = free_port(), free_port()
        home = Home.init(
            folder / "coordinator",
            hosts=("localhost", "127.0.0.1"),
            control_port=control,
            fleet_address=f"127.0.0.1:{fleet}",
        )
        sites = [_site(folder, domain, quick=quick, seed=seed) for domain in DOMAINS]
        for site in sites:
            roster.approve(home, site.request_path, site.request().fingerprint)
        campaign = home.create(
            NAME,
            folder / "base.safetensors",
            members={request.site: request.keys for request in roster.approved(home)},
            rules=Rules(
                deadline_seconds=3600, patience_seconds=300, compare_single_models=True, buffers="recalibrated"
            ),
        )
        joined = [_join(site, home, campaign, folder / "base.safetensors") for site in sites]
        say.detail(f"campaign {campaign.campaign.digest.hex()[:12]}, sites {', '.join(campaign.campaign.sites)}")

        with Processes() as processes:
            say("starting the SuperLink (TLS, node authentication) and four SuperNodes")
            _start(processes, home, sites, folder)
            say("running the campaign: adapt, submit, merge once, evaluate")
            with Screen(console, joined) as screen, _ticking(screen):
                run_campaign(campaign, screen.event)
    result = _finish(campaign, joined)
    console.print()
    report = from_json((result / "report.json").read_text())
    console.print(results_table(report))
    console.print(report.verdict, soft_wrap=True)
    console.print(
        f"\nfinished in {time.monotonic() - started:.0f} s; look at {result / 'report.html'}", soft_wrap=True
    )
    return result


def _start(processes: Processes, home: Home, sites: list[Site], folder: Path) -> None:
    logs = files.make_folder(folder / "logs")
    superlink.write_connection(home)
    command = superlink.superlink_command(home)
    processes.start("the SuperLink", command, environment(home.flower), logs / "superlink.log")
    superlink.wait(home, processes.check, logs / "superlink.log")
    for site in sites:
        superlink.register(home, site.request())
        command = [sys.executable, "-m", "onebasin", "site", "supernode", str(site.folder)]
        processes.start(f"the SuperNode of {site.name}", command, os.environ, logs / f"supernode-{site.name}.log")
    processes.check()


def _join(site: Site, home: Home, campaign: CampaignFolder, base: Path) -> Joined:
    """Let a site take in its welcome and accept the campaign: here one person is both operators."""
    enrolment.take(site, roster.write_welcome(home, roster.find(home, site.name)), home.fingerprint)
    joined = site.join(campaign.campaign_file, base)
    acceptance.accept(joined, campaign.campaign.digest.hex())
    return joined


def _site(folder: Path, domain: str, *, quick: bool, seed: int) -> Site:
    path = folder / "sites" / domain
    Site.init(path, domain, domain=domain)
    # The operator's part: the demo shares few cores among all sites, so each adapting process gets one thread.
    settings = tomllib.loads((path / "site.toml").read_text())
    settings["resources"] = {"device": "auto", "threads": 1}
    settings["data"]["seed"] = seed
    settings["adapt"] = {"seed": seed}
    if quick:
        settings["adapt"]["steps"] = _QUICK["steps"]
        settings["data"].update({key: value for key, value in _QUICK.items() if key != "steps"})
    files.write(path / "site.toml", tomli_w.dumps(settings))
    return Site.open(path)


def _finish(campaign: CampaignFolder, joined: list[Joined]) -> Path:
    """Write the report again, now with pictures: they are in the sites' folders, which all lie on this machine."""
    report = from_json((campaign.merged / "report.json").read_text())
    write_report(campaign.merged, report, pictures(joined))
    return campaign.merged


def _new_folder(folder: Path | None) -> Path:
    if folder is None:
        stem = time.strftime("runs/demo-%Y%m%d-%H%M%S")
        folder = Path(stem)
        number = 2
        while folder.exists():  # two started in the same second
            folder, number = Path(f"{stem}-{number}"), number + 1
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"the folder {folder} is not empty", "name another with --folder, or none")
    return files.make_folder(folder).resolve()


@contextmanager
def _ticking(screen: Screen) -> Iterator[None]:
    """Refresh the screen twice a second in the background."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.5):
            screen.tick()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Steps:
    """Prints the demo's steps."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str) -> None:
        self._console.print(f"[bold]{time.strftime('%H:%M:%S')}[/]  {text}", highlight=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}    {text}", highlight=False, soft_wrap=True)
