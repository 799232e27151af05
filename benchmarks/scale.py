#!/usr/bin/env python3
"""What a campaign costs as its sites grow: flat, and in regions of ten.

The sites are simulated, one after the other; what the coordinators do with them is not. Every update, and every
region's sum, is signed, checked, written down and folded on the coordinator's own path, in batches as a
coordinator folds what has arrived meanwhile. Each line is a process of its own. Both ways must give the same bits.
Then real campaigns, of light sites that have their updates ready, over a real SuperLink.

    PYTHONPATH=. python benchmarks/scale.py
    PYTHONPATH=. python benchmarks/scale.py --sites 10 100 --parameters 1000000 --real
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from machine import describe
from reliability import Load, load
from rich.console import Console
from rich.table import Table

from coordinator.arrivals import Arrival, clear
from coordinator.folding import fold
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState, block_sums, statistic_sum
from protos import boundary, regions, signing, update_pb2
from protos import campaign as campaigns
from protos.campaign import Campaign, Keys
from protos.digest import file_digest, sha256
from protos.manifest import COUNT, MEAN, VAR
from protos.regions import Standing
from protos.rules import Rules
from protos.tensorfile import TensorFile, write_arrays

REGION = 10
"""Sites of a region."""
LAYERS = 4
CHANNELS = 64
REAL_PARAMETERS = 1_000_000
BATCH = 8
"""Updates that are folded at once."""


def random_model(number: int, parameters: int) -> dict[str, np.ndarray]:
    """Draw a model: float32 parameters and BatchNorm statistics."""
    dice = np.random.default_rng(number)
    found = {"head.weight": dice.standard_normal(parameters, np.float32)}
    for i in range(LAYERS):
        found[f"norm{i}.{COUNT}"] = np.array(dice.integers(1, 5000))
        found[f"norm{i}.{MEAN}"] = dice.standard_normal(CHANNELS, np.float32)
        found[f"norm{i}.{VAR}"] = dice.random(CHANNELS, np.float32)
    return found


def key_of(name: str) -> Ed25519PrivateKey:
    """Make somebody's signing key of a name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def keys_of(name: str, region: bytes = b"") -> Keys:
    """Return somebody's public keys."""
    agreement = X25519PrivateKey.from_private_bytes(key_of(name).private_bytes_raw())
    return Keys(signing.public_bytes(key_of(name)), signing.public_bytes(agreement), region)


class Simulation:
    """Coordinators, and sites that exist only while their updates are made.

    Args:
        folder: An empty folder.
        parameters: Of each model.

    Attributes:
        seconds: Of the coordinators' work; making updates doesn't count.

    """

    def __init__(self, folder: Path, parameters: int) -> None:
        self.folder = folder
        self.seconds = 0.0
        self._parameters = parameters
        path = folder / "base.safetensors"
        write_arrays(path, random_model(0, parameters), {"model": "random", "classes": "5"})
        self.base = TensorFile(path)
        self.digest = file_digest(self.base)

    def campaign(self, members: dict[str, Keys], coordinator: str) -> Campaign:
        """Lay down a campaign."""
        return campaigns.new_campaign(
            name=coordinator,
            base_digest=self.digest,
            model="random",
            classes=5,
            members=members,
            rules=Rules(most_sites=REGION if any(keys.region for keys in members.values()) else 0, send_on=True),
            coordinator=keys_of(coordinator),
        )

    def flat(self, numbers: range, coordinator: str) -> tuple[Path, int]:
        """Have a coordinator fold sites' updates; returns its merge state, and how many bytes it received."""
        names = {number: f"site-{number:05d}" for number in numbers}
        campaign = self.campaign({name: keys_of(name) for name in names.values()}, coordinator)
        return self._fold(campaign, coordinator, (self._update(campaign, *item) for item in names.items()))

    def in_regions(self, sites: int) -> tuple[Path, int]:
        """Have regional coordinators fold sites' updates, and one above them their sums."""
        starts = range(1, sites + 1, REGION)
        names = [f"region-{start:05d}" for start in starts]
        members = {name: keys_of(f"{name} above", signing.public_bytes(key_of(name))) for name in names}
        above = self.campaign(members, "above")
        return self._fold(above, "above", (self._sum(above, *item) for item in zip(names, starts, strict=True)))

    def merged(self, state: Path) -> bytes:
        """Return the digest of the merged model."""
        started = time.monotonic()
        with MergeState(state) as opened:
            terms = [(1, opened)]
            target = self.folder / "merged.safetensors"
            write_midpoint(target, self.base, terms, pooled_statistics(terms, self.base.manifest), {})
        self.seconds += time.monotonic() - started
        with TensorFile(target) as file:
            return file_digest(file)

    def _fold(
        self, campaign: Campaign, name: str, updates: Iterator[tuple[str, update_pb2.Signed, bytes]]
    ) -> tuple[Path, int]:
        state, received = self.folder / name / "state", 0
        arrivals = self.folder / name / "arrivals"
        while batch := list(islice(updates, BATCH)):
            started = time.monotonic()
            found = []
            for site, envelope, raw in batch:
                arrival = Arrival(arrivals / site, campaign, self.base.manifest, site, envelope)
                arrival.take(raw, list(self.base.manifest.parameters))
                received += len(raw) + envelope.ByteSize()
                found.append(arrival)
            fold(state, self.base.manifest, self.digest, found)
            clear(arrivals)
            self.seconds += time.monotonic() - started
        return state, received

    def _update(self, campaign: Campaign, number: int, site: str) -> tuple[str, update_pb2.Signed, bytes]:
        model = random_model(number, self._parameters)
        header = boundary.describe(model, self.base.manifest, campaign, site)
        raw = b"".join(model[name].tobytes() for name in self.base.manifest.parameters)
        return site, signing.signed(signing.UPDATE, header, key_of(site)), raw

    def _sum(self, above: Campaign, region: str, start: int) -> tuple[str, update_pb2.Signed, bytes]:
        """Have a region fold its sites' updates, and make its update of the sums."""
        state, _ = self.flat(range(start, start + REGION), region)
        started = time.monotonic()
        base, specs = self.base.manifest, regions.sum_specs(self.base.manifest)
        with MergeState(state) as opened:
            terms = [(1, opened)]
            sums = {
                name: b"".join(total.ints().tobytes() for total in block_sums(terms, name, spec.size))
                for name, spec in specs.items()
            }
            header = regions.describe(
                Standing(opened.models, opened.sites, bytes(32)),
                {name: sha256([raw]) for name, raw in sums.items()},
                {layer: statistic_sum(terms, layer, channels) for layer, channels in base.layers.items()},
                base,
                campaign=above,
                region=region,
                key=key_of(region),
            )
        clear(state.parent)
        self.seconds += time.monotonic() - started
        envelope = signing.signed(signing.UPDATE, header, key_of(f"{region} above"))
        return region, envelope, b"".join(sums.values())


@dataclass(frozen=True)
class Cost:
    """What a campaign cost.

    Attributes:
        way: ``flat`` or ``regions``.
        sites: How many.
        seconds: Of all coordinators' work, one after the other.
        border: Bytes that came to the coordinator above; flat, to the only one.
        members: It has so many.
        memory: Peak, in MB.
        digest: The merged model's.

    """

    way: str
    sites: int
    seconds: float
    border: int
    members: int
    memory: float
    digest: str


def cost(way: str, sites: int, parameters: int) -> Cost:
    """Run one campaign, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder), parameters)
        if way == "flat":
            state, received = simulation.flat(range(1, sites + 1), "coordinator")
        else:
            state, received = simulation.in_regions(sites)
        digest = simulation.merged(state).hex()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(
        way, sites, simulation.seconds, received, sites if way == "flat" else sites // REGION, memory, digest
    )


def slope(costs: list[Cost]) -> float:
    """Fit seconds = a * sites ** slope."""
    return float(np.polyfit([math.log(c.sites) for c in costs], [math.log(c.seconds) for c in costs], 1)[0])


def real(console: Console, sites: list[int], parameters: int) -> list[Load]:
    """Run real campaigns, print what they cost, and return it."""
    found = []
    for count in sites:
        with tempfile.TemporaryDirectory() as folder:
            found.append(load(Path(folder), count, parameters, lambda line: console.print(line, style="dim")))
    table = Table(title=f"real campaigns of models with {parameters:,} parameters, light sites")
    for column in ("sites", "seconds", "SuperLink, MB", "ServerApp, MB"):
        table.add_column(column, justify="right")
    for line in found:
        table.add_row(
            str(line.sites), f"{line.seconds:.1f}", f"{line.superlink / 1e6:.0f}", f"{line.serverapp / 1e6:.0f}"
        )
    console.print(table)
    if len(found) > 1:
        counts = [line.sites for line in found]
        for what in ("seconds", "superlink", "serverapp"):
            each = np.polyfit(counts, [getattr(line, what) for line in found], 1)[0] / (
                1 if what == "seconds" else 1e6
            )
            console.print(f"{what}: {each:.2f} {'s' if what == 'seconds' else 'MB'} for each further site")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sites", type=int, nargs="+", default=[10, 100, 1000, 10_000], help=f"multiples of {REGION}"
    )
    parser.add_argument("--parameters", type=int, default=100_000)
    parser.add_argument("--real", type=int, nargs="*", default=[2, 16, 64], help="sites of the real campaigns")
    parser.add_argument("--one", choices=["flat", "regions"], help="run one line in this process, and print JSON")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if any(sites % REGION for sites in options.sites):
        parser.error(f"sites come in regions of {REGION}")
    if options.one:
        print(json.dumps(asdict(cost(options.one, options.sites[0], options.parameters))))
        return
    console = Console(width=130)
    console.print(describe())
    found = []
    for sites in options.sites:
        for way in ("flat", "regions"):
            command = [sys.executable, __file__, "--one", way, "--sites", str(sites)]
            command += ["--parameters", str(options.parameters)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(Cost(**json.loads(done.stdout)))
            console.print(f"{sites} sites, {way}: {found[-1].seconds:.1f} s", style="dim")
    table = Table(title=f"a campaign of models with {options.parameters:,} parameters, simulated sites")
    for column in (
        "sites",
        "",
        "seconds",
        "ms per site",
        "MB to the top",
        "MB per member",
        "peak memory, MB",
        "model",
    ):
        table.add_column(column, justify="right")
    for line in found:
        table.add_row(
            f"{line.sites:,}",
            line.way,
            f"{line.seconds:.1f}",
            f"{1000 * line.seconds / line.sites:.1f}",
            f"{line.border / 1e6:.1f}",
            f"{line.border / line.members / 1e6:.4f}",
            f"{line.memory:.0f}",
            line.digest[:8],
        )
    console.print(table)
    for way in ("flat", "regions"):
        lines = [line for line in found if line.way == way]
        if len(lines) > 1:
            console.print(f"{way}: seconds grow with sites to the power of {slope(lines):.2f}")
    for flat, split in zip(found[::2], found[1::2], strict=True):
        same = "the same bits" if flat.digest == split.digest else "OTHER BITS"
        console.print(
            f"{flat.sites:,} sites: regions / flat, seconds {split.seconds / flat.seconds:.2f}, "
            f"bytes to the top {split.border / flat.border:.3f}, {same}"
        )
    loads = real(console, options.real, REAL_PARAMETERS)
    if options.output:
        figures = {"simulated": [asdict(line) for line in found], "real": [asdict(line) for line in loads]}
        options.output.write_text(json.dumps(figures, indent=1))
    if any(flat.digest != split.digest for flat, split in zip(found[::2], found[1::2], strict=True)):
        raise SystemExit("the models differ")


if __name__ == "__main__":
    main()
