"""Seconds and bytes of signing and sealing an update, beside the plain path in the same run.

An update of the size of HRDA-DAFormer R101 (48 M float32 parameters, 115 BatchNorm layers) goes from a site's
outbox to the coordinator's merge state, part by part, without Flower in between: read and checked against the
signed header, signed and sealed, opened, checked and written down, folded. Then the whole plain path, which leads
through Flower: a campaign over a real SuperLink, less what sealing was just measured to take of it.

    python benchmarks/sealing.py
    python benchmarks/sealing.py --sites 0          # without Flower only
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from federation import model, ours
from machine import describe
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from client.outbox import Outbox
from client.site import Site
from coordinator.arrivals import Arrival
from coordinator.folding import fold
from coordinator.home import Home
from coordinator.settings import SubmitSettings
from onebasin.processes import interruptible
from protos import letters
from protos import messages_pb2 as pb
from protos.assembly import parts
from protos.campaign import Campaign
from protos.flower import PARAMETERS
from protos.manifest import Manifest
from protos.rules import Rules
from protos.tensorfile import TensorFile

PLAIN = ("site: read, hash, check", "coordinator: hash, check, write", "coordinator: fold")
SEALED = ("site: sign and seal", "coordinator: verify and open")


class Times:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def spent(self, on: str) -> Iterator[None]:
        """Add the seconds of a block."""
        start = time.perf_counter()
        yield
        self.seconds[on] += time.perf_counter() - start


def travel(
    outbox: Outbox, desks: tuple[letters.Coordinator, letters.Site], base: Manifest, folder: Path, mebibytes: int
) -> tuple[Times, int, int]:
    """Let an update travel once; return the times, the bytes of its parts and header, and those of them sealed."""
    times, plain, sealed_bytes = Times(), 0, 0
    coordinator, site = desks
    campaign: Campaign = coordinator.campaign
    arrival: Arrival | None = None
    for names in parts(base.parameters, mebibytes << 20):
        submit = pb.Submit(header=arrival is None, parameters=names)
        request = pb.Request(campaign_digest=campaign.digest, submit=submit)
        with times.spent(SEALED[0]):
            asked, _, question = coordinator.ask(
                request, site.name, secrets.token_bytes(letters.NONCE), time.time() + 60
            )
            arrived = site.read(asked)
        with times.spent(PLAIN[0]):
            header = outbox.envelope()
            reply = pb.Reply(header=header) if arrival is None else pb.Reply(parameters=pb.Parameters())
            sets = {PARAMETERS: outbox.parameters(names)}
        plain += len(sets[PARAMETERS]) + reply.ByteSize()
        with times.spent(SEALED[0]):
            letter, sealed = site.answer(arrived.question, reply, sets)
        sealed_bytes += len(sealed[PARAMETERS]) + letter.ByteSize()
        room = BytesIO(sealed.pop(PARAMETERS))
        with times.spent(SEALED[1]):
            opened = coordinator.read(letter, question)
            raw = opened.parameters(PARAMETERS, room)
        with times.spent(PLAIN[1]):
            if arrival is None:
                arrival = Arrival(folder / "arrival", campaign, base, site.name, opened.message.header)
            arrival.take(raw, names)
        del raw, room
    assert arrival is not None and not arrival.missing
    with times.spent(PLAIN[2]):
        fold(folder / "state.safetensors", base, campaign.message.base_digest, [arrival])
    (folder / "state.safetensors").unlink()
    return times, plain, sealed_bytes


def alone(
    console: Console, base: Path, update: Path, folder: Path, *, repeats: int, submit: SubmitSettings
) -> float:
    """Measure without Flower, and print it.

    Args:
        console: Where to.
        base: The model that updates begin with.
        update: A model.
        folder: An empty one.
        repeats: The least seconds of so many tries count.
        submit: Of which size parts are.

    Returns:
        Seconds that signing and sealing an update take, both ends.

    """
    home = Home.init(
        folder / "coordinator", hosts=("localhost",), control_port=9093, fleet_address="localhost:9092"
    )
    place = Site.init(folder / "site", "site", address="localhost:9092", domain="night")
    keys = place.request().keys
    campaign = home.create("benchmark", base, members={"site": keys}, rules=Rules())
    outbox = Outbox(place.join(campaign.campaign_file, base))
    outbox.store(load_file(update))
    desks = (
        letters.Coordinator(campaign.campaign, home.signing_key, home.agreement_key),
        letters.Site(campaign.campaign, "site", place.signing_key, place.agreement_key),
    )
    with TensorFile(base) as file:
        found = [travel(outbox, desks, file.manifest, folder, submit.part_mebibytes) for _ in range(repeats)]
    least = {what: min(times.seconds[what] for times, _, _ in found) for what in (*PLAIN, *SEALED)}
    _, plain, sealed = found[0]
    console.print(table(least, plain))
    path, cost = (sum(least[what] for what in group) for group in (PLAIN, SEALED))
    console.print(f"bytes: {sealed / plain:.6f} × plain ({plain / 1e6:.1f} MB, {sealed - plain} bytes more)")
    console.print(
        f"signing and sealing, both ends: {cost:.3f} s = {cost / path:.1%} of the plain path without Flower"
    )
    return cost


def through_flower(
    console: Console, base: Path, models: list[Path], folder: Path, *, cost: float, submit: SubmitSettings
) -> None:
    """Run a campaign, and print what share of an update's plain path sealing is.

    Args:
        console: Where to.
        base: The model that updates begin with.
        models: Each site's.
        folder: An empty one.
        cost: Seconds that signing and sealing an update take.
        submit: How updates are asked for.

    """
    seconds = ours(folder, base, models, submit, evaluate=False).seconds / len(models)
    console.print(
        f"through Flower, {len(models)} sites: {seconds:.2f} s for each update, sealed; "
        f"signing and sealing are {cost / (seconds - cost):.1%} of the plain path"
    )


def table(least: dict[str, float], size: int) -> Table:
    """Return the seconds, and what they mean per byte."""
    result = Table(title="one update, from the outbox to the merge state")
    for title in ("", "seconds", "GB/s"):
        result.add_column(title, justify="right" if title else "left")
    for what, seconds in least.items():
        result.add_row(what, f"{seconds:.3f}", f"{size / seconds / 1e9:.2f}")
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=48_000_000)
    parser.add_argument("--layers", type=int, default=115)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part-mebibytes", type=int, default=SubmitSettings.part_mebibytes)
    parser.add_argument("--sites", type=int, default=2, help="of the campaign through Flower; 0: none")
    options = parser.parse_args()
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    submit = SubmitSettings(part_mebibytes=options.part_mebibytes)
    console = Console(width=130, highlight=False)
    console.print(describe())
    with interruptible(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = model(folder, "base", options.parameters, options.layers, 0)
        models = [
            model(folder, f"model{i}", options.parameters, options.layers, i)
            for i in range(1, max(options.sites, 1) + 1)
        ]
        for place in ("alone", "flower"):
            (folder / place).mkdir()
        cost = alone(console, base, models[0], folder / "alone", repeats=options.repeats, submit=submit)
        if options.sites:
            through_flower(console, base, models, folder / "flower", cost=cost, submit=submit)


if __name__ == "__main__":
    sys.exit(main())
