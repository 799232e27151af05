"""Memory, bytes and seconds of a one-shot merge over a real SuperLink, beside Flower's FedAvg in the same run.

Each site holds a model of the size of HRDA-DAFormer R101 (48 M float32 parameters, 115 BatchNorm layers) with
random values. Nothing is trained: what is measured is the way from the first request to the merged file.

    python benchmarks/federation.py --sites 2 4 8
    python benchmarks/federation.py --sites 3 8 --only onebasin "secure sum" --no-evaluation
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from machine import describe
from rich.console import Console
from rich.table import Table

from client import acceptance, supernode
from client.outbox import Outbox
from client.site import Site
from coordinator import superlink
from coordinator.home import Home
from coordinator.settings import SubmitSettings
from coordinator.watching import run as run_campaign
from onebasin.processes import Processes, interruptible
from protos.programs import environment, free_port
from protos.rules import Rules
from protos.tensorfile import write_arrays

ROLES = {
    "coordinator.flower_superlink": "SuperLink",
    "bin/flower-superlink": "SuperLink",
    "flwr-serverapp": "ServerApp",
    "client.flower_supernode": "SuperNode",
    "bin/flower-supernode": "SuperNode",
    "flwr-clientapp": "ClientApp",
}
FEDAVG = Path(__file__).parent / "fedavg"


@dataclass
class Measured:
    """What one campaign cost."""

    seconds: float = 0.0
    up: int = 0
    down: int = 0
    peaks: dict[str, int] = field(default_factory=dict)


class Meter:
    """Samples the peak resident memory of Flower's processes, as the kernel keeps it (VmHWM)."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sample in the background."""
        thread = threading.Thread(target=self._loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    line = " ".join([process.name(), *process.cmdline()])  # ClientApps are forked: a name only
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except (psutil.Error, OSError):
                    continue
                role = next((name for part, name in ROLES.items() if part in line), None)
                found = re.search(r"VmHWM:\s+(\d+) kB", status)
                if role and found:
                    self.peaks[role] = max(self.peaks.get(role, 0), int(found.group(1)) * 1024)


def model(folder: Path, name: str, parameters: int, layers: int, seed: int) -> Path:
    """Write a random model: 250 parameter tensors of different sizes, and BatchNorm layers of 512 channels."""
    dice = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    shares = dice.dirichlet(np.ones(250)) if seed == 0 else None
    sizes = np.load(folder / "sizes.npy") if shares is None else (shares * parameters).astype(int)
    if shares is not None:
        np.save(folder / "sizes.npy", sizes)
    for i, size in enumerate(sizes):
        arrays[f"backbone.layer{i:03d}.weight"] = dice.standard_normal(int(size), dtype=np.float32) * 0.05
    for i in range(layers):
        arrays[f"backbone.bn{i:03d}.running_mean"] = dice.standard_normal(512, dtype=np.float32)
        arrays[f"backbone.bn{i:03d}.running_var"] = dice.random(512, dtype=np.float32) + 0.1
        arrays[f"backbone.bn{i:03d}.num_batches_tracked"] = np.array(1000 + seed)
    path = folder / f"{name}.safetensors"
    write_arrays(path, arrays, {"model": "benchmark", "classes": "19"})
    return path


def wire(port: int) -> tuple[int, int]:
    """Return the bytes that the SuperLink received and sent on a port, by the kernel's TCP counters."""
    said = subprocess.run(["ss", "-tinH", f"sport = :{port}"], capture_output=True, text=True).stdout
    received = sum(map(int, re.findall(r"bytes_received:(\d+)", said)))
    return received, sum(map(int, re.findall(r"bytes_acked:(\d+)", said)))


@contextmanager
def federation(
    folder: Path, models: list[Path], submit: SubmitSettings, *, plain: bool = False
) -> Iterator[tuple[Home, list[Site], int]]:
    """Bring up a SuperLink (`plain`: Flower's own program) and one SuperNode per model."""
    fleet = free_port()
    home = Home.init(
        folder / "coordinator",
        hosts=("127.0.0.1",),
        control_port=free_port(),
        fleet_address=f"127.0.0.1:{fleet}",
        submit=submit,
    )
    sites = []
    for i, _ in enumerate(models):
        Site.init(folder / f"site{i}", f"site{i}", address=f"127.0.0.1:{fleet}", domain="night")
        sites.append(Site.open(folder / f"site{i}"))
    with Processes() as processes:
        superlink.write_connection(home)
        command = superlink.superlink_command(home)
        if plain:
            command[: command.index("--host")] = ["flower-superlink"]
        processes.start("superlink", command, environment(home.flower), folder / "superlink.log")
        superlink.wait(home, processes.check, folder / "superlink.log")
        for site, path in zip(sites, models, strict=True):
            (site.keys / "ca.crt").write_bytes((home.keys / "ca.crt").read_bytes())
            superlink.register(home, site.request())
            command = supernode.command(site)
            if plain:  # other code than ours: no campaign names it, so the site's gate would refuse it
                command[: command.index("--superlink")] = ["flower-supernode"]
            command[-1] += f" model={json.dumps(str(path))}"  # for FedAvg's sites
            processes.start(site.name, command, environment(site.folder / "flower"), folder / f"{site.name}.log")
        yield home, sites, fleet


def ours(
    folder: Path, base: Path, models: list[Path], submit: SubmitSettings, evaluate: bool, privacy: str = "sealed"
) -> Measured:
    """Run a campaign in which every site's update is ready.

    With `evaluate`, each site is sent the mid-point too; having random weights, none has scores for it.
    """
    with federation(folder, models, submit) as (home, sites, fleet):
        campaign = home.create(
            "benchmark",
            base,
            members={site.name: site.request().keys for site in sites},
            rules=Rules(
                deadline_seconds=3600, patience_seconds=600, evaluate=evaluate, deliver=evaluate, privacy=privacy
            ),
        )
        from safetensors.numpy import load_file

        for site, path in zip(sites, models, strict=True):
            joined = site.join(campaign.campaign_file, base, home.keys / "ca.crt")
            acceptance.accept(joined, campaign.campaign.digest.hex())
            Outbox(joined).store(load_file(path))
        meter, times = Meter(), {}

        def note(event: dict[str, object]) -> None:
            times.setdefault(str(event["event"]), float(str(event["time"])))

        before = wire(fleet)
        with meter.running():
            run_campaign(campaign, note)
            after = wire(fleet)
    seconds = times["merged"] - times["summing" if privacy == "secure-sum" else "asked"]
    return Measured(seconds, after[0] - before[0], after[1] - before[1], meter.peaks)


def summed(folder: Path, base: Path, models: list[Path], submit: SubmitSettings, evaluate: bool) -> Measured:
    """Run a campaign as `ours` does, as a secure sum."""
    return ours(folder, base, models, submit, evaluate, "secure-sum")


def fedavg(folder: Path, base: Path, models: list[Path], submit: SubmitSettings, evaluate: bool) -> Measured:
    """Run one round of FedAvg, without evaluation: FedAvg sends the model to the sites at the start."""
    with federation(folder, models, submit, plain=True) as (home, _, fleet):
        output = folder / "fedavg.safetensors"
        configuration = f"base={json.dumps(str(base))} output={json.dumps(str(output))} sites={len(models)}"
        meter, before = Meter(), wire(fleet)
        with meter.running():
            run_id = superlink.flwr(home, "run", str(FEDAVG), superlink.CONNECTION, "--run-config", configuration)[
                "run-id"
            ]
            while not superlink.run_status(home, str(run_id)).startswith("finished"):
                time.sleep(1)
            after = wire(fleet)
        if not output.with_suffix(".json").exists():
            log = ["flwr", "log", str(run_id), superlink.CONNECTION, "--show"]
            said = subprocess.run(log, env=environment(home.flower), capture_output=True, text=True)
            raise SystemExit(f"FedAvg failed: {said.stdout}{said.stderr}")
        seconds = json.loads(output.with_suffix(".json").read_text())["seconds"]
    return Measured(seconds, after[0] - before[0], after[1] - before[1], meter.peaks)


WAYS = {"onebasin": ours, "secure sum": summed, "FedAvg": fedavg}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--parameters", type=int, default=48_000_000)
    parser.add_argument("--layers", type=int, default=115)
    parser.add_argument("--part-mebibytes", type=int, default=SubmitSettings.part_mebibytes)
    parser.add_argument("--at-once", type=int, default=SubmitSettings.at_once)
    parser.add_argument("--no-evaluation", action="store_true", help="don't send the merged model to the sites")
    parser.add_argument("--only", choices=WAYS, nargs="+", default=["onebasin", "FedAvg"], help="what is measured")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    submit = SubmitSettings(options.at_once, options.part_mebibytes)
    console = Console(width=130)
    console.print(describe(), highlight=False)
    found: dict[int, dict[str, Measured]] = {}
    with interruptible(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = model(folder, "base", options.parameters, options.layers, 0)
        models = [
            model(folder, f"model{i}", options.parameters, options.layers, i)
            for i in range(1, max(options.sites) + 1)
        ]
        payload = base.stat().st_size
        console.print(f"payload {payload / 1e6:.1f} MB per site")
        console.print(f"parts of {submit.part_mebibytes} MiB, {submit.at_once} at once")
        for n in options.sites:
            found[n] = {}
            for which in options.only:
                place = folder / f"{which}-{n}"
                place.mkdir()
                found[n][which] = WAYS[which](place, base, models[:n], submit, not options.no_evaluation)
                console.print(f"{n} sites, {which}: {found[n][which].seconds:.1f} s", highlight=False)
                subprocess.run(["rm", "-rf", str(place)], check=True)
    console.print(table(found, payload))
    for line in ratios(found, payload):
        console.print(line, highlight=False)
    if options.output:
        content = {n: {which: vars(m) for which, m in row.items()} for n, row in found.items()}
        options.output.write_text(
            json.dumps({"machine": describe(), "payload": payload, "figures": content}, indent=1)
        )


def table(found: dict[int, dict[str, Measured]], payload: int) -> Table:
    """Return the figures side by side."""
    result = Table(title="peak memory in MB, wire over payload, seconds from first request to merged file")
    for title in (
        "sites",
        "",
        "SuperLink",
        "ServerApp",
        "ServerApp / payload",
        "SuperNode",
        "ClientApp",
        "up / payload",
        "down / payload",
        "seconds",
    ):
        result.add_column(title, justify="right")
    for n, row in found.items():
        for which, m in row.items():
            mb = {role: f"{m.peaks.get(role, 0) / 1e6:.0f}" for role in ROLES.values()}
            over = [f"{value / payload:.3f}" for value in (m.up / n, m.down / n)]
            share = f"{m.peaks.get('ServerApp', 0) / payload:.2f}"
            apps, nodes = [mb["SuperLink"], mb["ServerApp"], share], [mb["SuperNode"], mb["ClientApp"]]
            result.add_row(str(n), which, *apps, *nodes, *over, f"{m.seconds:.1f}")
    return result


def ratios(found: dict[int, dict[str, Measured]], payload: int) -> Iterator[str]:
    """Say what the figures mean."""
    few, many = min(found), max(found)
    for which in found[few]:
        for role in ("ServerApp", "SuperLink"):
            growth = found[many][which].peaks[role] / found[few][which].peaks[role]
            yield f"{which}: {role} peak at {many} sites / at {few} sites = {growth:.2f}"
    for n, row in found.items():
        ours = row.get("onebasin")
        if ours and "FedAvg" in row:
            yield f"{n} sites: seconds, onebasin / FedAvg = {ours.seconds / row['FedAvg'].seconds:.2f}"
        if ours and "secure sum" in row:
            hidden = row["secure sum"]
            yield (
                f"{n} sites: secure sum / sealed, seconds {hidden.seconds / ours.seconds:.2f}, "
                f"bytes up {hidden.up / ours.up:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
