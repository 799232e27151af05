"""What faults cost: rounds survived, seconds to continue, bytes sent again; and memory with many sites.

Three measurements, each on real SuperLinks with TLS and node authentication:

faults     rounds of `python -m chaos`, by fault: survived of run, and seconds from restart to continuing
drops      one site with a model of 2 M parameters in 8 parts; something breaks when half of it is sent. Bytes that
           the site sent beyond what it sends undisturbed, over the bytes of the update
sites      light sites (one process, Flower's own client) with 5 M parameters each: the peak resident memory of
           SuperLink and ServerApp, as the kernel keeps it, and seconds

    PYTHONPATH=. python benchmarks/reliability.py --rounds 40 --sites 2 16 64
    PYTHONPATH=. python benchmarks/reliability.py --results chaos.json --skip sites
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from federation import Meter
from machine import describe
from rich.console import Console
from rich.table import Table

from chaos import federation as federations
from chaos import hunting, light, models
from chaos.faults import Fault, Scene
from chaos.federation import Federation
from chaos.rounds import Result, yard
from chaos.table import table as fault_table
from chaos.wire import Weather
from client.outbox import Outbox
from coordinator import roster
from coordinator.home import Home
from coordinator.settings import SubmitSettings
from onebasin.processes import Processes
from protos.programs import free_port

PARTS, MEBIBYTE = 8, 1 << 20
WIRED = "gamma"


@dataclass(frozen=True)
class Drop:
    """What a site sent when something broke half-way.

    Attributes:
        what: Broke.
        sent: Bytes that the site sent, of all protocols.
        undisturbed: What it sends when nothing breaks.
        needed: Bytes of the update.
        seconds: That it took.
        problem: What was wrong in the end.

    """

    what: str
    sent: int
    undisturbed: int
    needed: int
    seconds: float
    problem: str

    @property
    def again(self) -> float:
        """Bytes sent again over bytes needed."""
        return (self.sent - self.undisturbed) / self.needed


@dataclass(frozen=True)
class Load:
    """What a campaign of many sites took.

    Attributes:
        sites: How many.
        seconds: From the first request to the merged model.
        superlink: Its peak resident memory; bytes.
        serverapp: Its.
        locked: How often "database is locked" stands in the logs.

    """

    sites: int
    seconds: float
    superlink: int
    serverapp: int
    locked: int


def halfway(what: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Do something when half of the update has been sent."""

    def strike(scene: Scene) -> None:
        link, half = scene.wires[WIRED], PARTS * MEBIBYTE // 2
        before = link.up
        if scene.until(lambda: link.up - before > half, 300):
            what(scene)

    return strike


def cut(scene: Scene) -> None:
    """Cut the wire for 30 s."""
    with scene.lasting("the wire was cut for 30 s"), scene.wires[WIRED].under(Weather(cut=True)):
        scene.wait(30)


def killed(role: str) -> Callable[[Scene], None]:
    """Kill -9 a process: the next of its kind, if there is none at the moment."""

    def strike(scene: Scene) -> None:
        at_site = role in ("supernode", "clientapp")
        folder = scene.federation.sites[WIRED].folder if at_site else scene.federation.folder
        if scene.until(lambda: hunting.kill(hunting.find(role, folder)[:1]), 60):
            scene.strike(f"{role} was killed")

    return strike


def drops(folder: Path, say: Callable[[str], None]) -> list[Drop]:
    """Break things when half of an update is there."""
    found: list[Drop] = []
    parameters = PARTS * MEBIBYTE // 4
    with yard(folder, parameters, disks=192) as place:
        place.members = (WIRED,)
        link, faults = place.wires[WIRED], [Fault("nothing", lambda scene: None), Fault("wire", halfway(cut))]
        faults += [
            Fault(role, halfway(killed(role))) for role in ("serverapp", "superlink", "supernode", "clientapp")
        ]
        for fault in faults:
            before = link.up
            result = place.round(0, fault, fault.name)
            sent = link.up - before
            undisturbed = found[0].undisturbed if found else sent
            what = result.told or "nothing broke"
            found.append(Drop(what, sent, undisturbed, 4 * parameters, result.seconds, result.problem))
            say(f"{what}: {sent / 1e6:.1f} MB sent, {result.seconds:.0f} s {result.problem}")
    return found


def load(folder: Path, sites: int, parameters: int, say: Callable[[str], None]) -> Load:
    """Run a campaign of light sites that have their updates ready."""
    home = Home.init(
        folder / "coordinator",
        hosts=("127.0.0.1",),
        control_port=free_port(),
        fleet_address=f"127.0.0.1:{free_port()}",
        submit=SubmitSettings(part_mebibytes=4),
    )
    base = models.write_base(folder / "base.safetensors", parameters)
    made = [federations.new_site(folder / f"site{i:02d}", f"site{i:02d}", home) for i in range(1, sites + 1)]
    for site in made:
        roster.approve(home, site.request_path, site.request().fingerprint)
    meter, times = Meter(), {}
    with Processes() as processes:
        found = Federation(folder, home, base, {site.name: site for site in made}, processes)
        names = tuple(found.sites)
        campaign = found.campaign(
            join=names, members=names, deadline_seconds=3600, patience_seconds=900, minimum_sites=sites
        )
        for i, site in enumerate(made, 1):
            Outbox(site.joined()).store(models.random_model(i, parameters))
        found.start_superlink()
        until = time.monotonic() + 60 + 10 * sites
        while not all((roster.folder_of(home, name) / "node-id").exists() for name in names):
            processes.check()
            if time.monotonic() > until:
                raise SystemExit("the SuperLink did not register all sites")
            time.sleep(0.5)
        say(f"{sites} sites are registered")

        def note(event: dict[str, object]) -> None:
            times.setdefault(str(event["event"]), float(str(event["time"])))

        with light.online(made), meter.running():
            found.run(campaign, note)
    locked = sum(path.read_text(errors="replace").count("database is locked") for path in folder.glob("*.log"))
    peaks = meter.peaks
    return Load(sites, times["merged"] - times["asked"], peaks["SuperLink"], peaks["ServerApp"], locked)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="of chaos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="take rounds that were run before: chaos's --json")
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 16, 64])
    parser.add_argument("--parameters", type=int, default=5_000_000)
    parser.add_argument("--skip", choices=["faults", "drops", "sites"], action="append", default=[])
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    logging.getLogger("flwr").setLevel(logging.ERROR)
    console = Console(width=130)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    say(describe())
    figures: dict[str, object] = {"machine": describe()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "faults" not in options.skip:
            path = options.results or folder / "chaos.json"
            if not options.results:
                command = [sys.executable, "-m", "chaos", "--rounds", str(options.rounds)]
                subprocess.run([*command, "--seed", str(options.seed), "--json", str(path)])
            results = [Result(**found) for found in json.loads(path.read_text())]
            console.print(fault_table(results))
            figures["faults"] = [asdict(result) for result in results]
        if "drops" not in options.skip:
            (folder / "drops").mkdir()
            broken = drops(folder / "drops", say)
            console.print(drop_table(broken))
            figures["drops"] = [{**asdict(drop), "again": drop.again} for drop in broken]
        if "sites" not in options.skip:
            loads = []
            for sites in options.sites:
                place = folder / f"sites-{sites}"
                place.mkdir()
                loads.append(load(place, sites, options.parameters, say))
                say(str(loads[-1]))
                subprocess.run(["rm", "-rf", str(place)], check=True)
            console.print(load_table(loads, 4 * options.parameters))
            few, many = loads[0], loads[-1]
            for role in ("superlink", "serverapp"):
                ratio = getattr(many, role) / getattr(few, role)
                say(f"{role}: peak at {many.sites} sites / at {few.sites} sites = {ratio:.2f}")
            figures["sites"] = [asdict(one) for one in loads]
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1))


def drop_table(found: list[Drop]) -> Table:
    """Return the drops side by side."""
    result = Table(title=f"one site, {found[0].needed / 1e6:.1f} MB in {PARTS} parts; it breaks when half is sent")
    for title in ("what broke", "MB sent", "MB undisturbed", "again / needed", "seconds", "survived"):
        result.add_column(title, justify="left" if title == "what broke" else "right")
    for drop in found:
        sizes = [f"{drop.sent / 1e6:.2f}", f"{drop.undisturbed / 1e6:.2f}", f"{drop.again:.2f}"]
        result.add_row(drop.what, *sizes, f"{drop.seconds:.0f}", "no" if drop.problem else "yes")
    return result


def load_table(found: list[Load], payload: int) -> Table:
    """Return the loads side by side."""
    result = Table(title=f"light sites with {payload / 1e6:.0f} MB each: peak memory in MB, and seconds")
    for title in ("sites", "SuperLink", "ServerApp", "seconds", "database is locked"):
        result.add_column(title, justify="right")
    for one in found:
        memory = [f"{one.superlink / 1e6:.0f}", f"{one.serverapp / 1e6:.0f}"]
        result.add_row(str(one.sites), *memory, f"{one.seconds:.1f}", str(one.locked))
    return result


if __name__ == "__main__":
    sys.exit(main())
