"""A round: a campaign, one fault, and what must hold once it is over."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos import disk, hunting, wire
from chaos import federation as federations
from chaos.faults import Fault, Scene, nothing
from chaos.federation import LOOPBACK, SITES, Federation, Ground
from chaos.keeper import Keeper
from chaos.models import random_model, write_base
from chaos.wire import Wire
from client.outbox import Outbox
from coordinator import superlink
from coordinator.campaign_folder import CampaignFolder
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState, Term, Update, write_sum
from coordinator.merging import MODEL, last_receipt
from protos import audit
from protos.digest import file_digest
from protos.errors import OnebasinError
from protos.faults import VARIABLE
from protos.tensorfile import TensorFile

PARAMETERS = 500_000
"""Of the random models: two parts of a mebibyte."""
LIMIT = 420.0
"""Seconds that a round may take."""
_LEFT = 45.0
"""Seconds within which a campaign's processes must be gone."""
_DISK = 96
_SETTLING = 150.0
_USUAL = 25.0
"""Seconds that a round takes, as long as nobody has measured it."""
_LASTING = {
    "superlink": 1,
    "superexec": 1,
    "supernode": len(SITES),
    "forking": 2 * len(SITES),  # and the SuperExec that is its child
    "watcher": len(SITES),
}
"""How many of those there are that don't end with a campaign."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - both loopback and the wire's end


@dataclass(frozen=True)
class Result:
    """How a round went.

    Attributes:
        number: The round's.
        fault: The fault's name.
        told: What was done.
        struck: Whether the fault's moment came.
        problem: What was wrong in the end; nothing if all held.
        seconds: That it took.
        recovery: Seconds from the restart, or the end of the disturbance, to the next sign of the campaign; None
            if there was none to come.
        runs: How often the run was started.

    """

    number: int
    fault: str
    told: str
    struck: bool
    problem: str
    seconds: float
    recovery: float | None
    runs: int


@dataclass
class Yard:
    """A federation to do faults to, and what its campaigns must end with.

    Attributes:
        federation: The federation.
        wires: To sites in namespaces of their own.
        armed: The file that names a fault point.
        bases: The base of campaigns in which sites adapt (True), and of those that have updates ready (False).
        members: Who takes part.
        parameters: Of the random models.
        expected: The digests of the merged models. Of updates that are ready it is reckoned without a federation;
            with adaptation, it is what the first campaign ends with.
        usual: Seconds that undisturbed campaigns take.

    """

    federation: Federation
    wires: dict[str, Wire]
    armed: Path
    bases: dict[bool, Path]
    members: tuple[str, ...] = SITES
    parameters: int = PARAMETERS
    expected: dict[bool, str] = field(default_factory=dict)
    usual: dict[bool, float] = field(default_factory=dict)

    def learn(self, *, adapts: bool) -> Result:
        """Run a campaign undisturbed, to know its model and how long it takes."""
        started = time.monotonic()
        result = self.round(0, Fault("none", nothing, adapts), "none")
        self.usual[adapts] = time.monotonic() - started
        return result

    def round(self, number: int, fault: Fault, seed: str) -> Result:
        """Run a campaign, do something to it, see that it ends as it must, and clean up."""
        dice = random.Random(seed)
        campaign = self.federation.campaign(
            join=self.members,
            members=self.members,
            base=self.bases[fault.adapts],
            deadline_seconds=900,
            patience_seconds=400,
        )
        updates = {} if fault.adapts else self._fill_outboxes(campaign)
        keeper = Keeper(self.federation, campaign)
        self._settle(keeper)
        scene = Scene(self.federation, keeper, dice, self.usual.get(fault.adapts, _USUAL), self.wires, self.armed)
        started = time.monotonic()
        keeper.start()
        fault.strike(scene)
        scene.wait(LIMIT - (time.monotonic() - started))
        in_time = keeper.done
        if not in_time:
            keeper.give_up()
        ended = time.monotonic()
        try:
            problem = "" if in_time else f"not over after {LIMIT:.0f} s"
            problem = (
                problem or scene.problem or self._wrong(campaign, fault.adapts, updates) or self._left(keeper)
            )
        except (OnebasinError, OSError, psutil.Error) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            hunting.kill(self._processes(*hunting.PASSING))
        else:
            self._clear(campaign)
        told = "; ".join(scene.told)
        return Result(
            number,
            fault.name,
            told,
            scene.struck is not None,
            problem,
            ended - started,
            _recovery(scene),
            keeper.runs,
        )

    def _settle(self, keeper: Keeper) -> None:
        """Wait until all sites are connected, so that each round starts alike."""
        until = time.monotonic() + _SETTLING
        while time.monotonic() < until:
            keeper.tend()
            try:
                nodes = superlink.flwr(self.federation.home, "supernode", "list", superlink.CONNECTION)["nodes"]
            except (OnebasinError, KeyError):
                nodes = []
            if sum(str(node.get("status")).endswith("online") for node in nodes) >= len(SITES):
                return
            time.sleep(1.0)

    def _fill_outboxes(self, campaign: CampaignFolder) -> dict[str, str]:
        """Put the same updates as ever into the outboxes; return their digests by site."""
        outboxes = {
            name: Outbox(self.federation.sites[name].joined(campaign.campaign.digest)) for name in self.members
        }
        found = {}
        for i, (name, outbox) in enumerate(outboxes.items()):
            found[name] = outbox.store(random_model(i + 1, self.parameters)).hex()
        if False not in self.expected:
            self.expected[False] = _reckoned(outboxes, campaign.campaign.message.base_digest)
        return found

    def _wrong(self, campaign: CampaignFolder, adapts: bool, updates: dict[str, str]) -> str:
        outcome = campaign.outcome()
        if outcome is None or not outcome["ok"]:
            return f"the campaign ended with {outcome}"
        receipt = last_receipt(campaign)
        if receipt is None:
            return "there is no receipt"
        inputs = {entry.site: entry.digest for entry in receipt.inputs}
        if set(inputs) != set(self.members) or (updates and inputs != updates) or receipt.models != len(inputs):
            return f"the receipt names {inputs} of {receipt.models} models, and not the updates {updates}"
        with MergeState(campaign.state) as state:
            state.check()
            if state.digests != set(inputs.values()) or state.models != len(inputs):
                return f"the merge state holds {sorted(state.digests)} of {state.models} models"
        audit.verify(self.federation.home.audit.path, self.federation.home.public_key)
        for site in (self.federation.sites[name] for name in self.members):
            audit.verify(site.audit.path, site.request().signing_key)
        with TensorFile(campaign.merged / MODEL) as model:
            found = file_digest(model).hex()
        if found != self.expected.setdefault(adapts, found):
            return f"the merged model is {found[:12]}, not {self.expected[adapts][:12]} as it is undisturbed"
        return ""

    def _left(self, keeper: Keeper) -> str:
        """See that nothing of the campaign still runs, and that all that should run does once."""
        until = time.monotonic() + _LEFT
        while True:
            keeper.tend()
            left = self._processes(*hunting.PASSING)
            several = [role for role, most in _LASTING.items() if len(self._processes(role)) > most]
            if not left and not several:
                return ""
            if time.monotonic() > until:
                lines = [" ".join(process.cmdline()[1:3]) for process in left]
                return f"left behind: {lines}; more than there should be: {several}"
            time.sleep(0.5)

    def _processes(self, *roles: str) -> list[psutil.Process]:
        return [process for role in roles for process in hunting.find(role, self.federation.folder)]

    def _clear(self, campaign: CampaignFolder) -> None:
        """Drop what a campaign that went well leaves: disks are small."""
        for name in self.members:
            shutil.rmtree(self.federation.sites[name].joined(campaign.campaign.digest).folder)
        shutil.rmtree(campaign.path)


def _reckoned(outboxes: Mapping[str, Outbox], base_digest: bytes) -> str:
    """Merge what is in outboxes without any federation; return the digest of the model."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = stack.enter_context(TensorFile(next(iter(outboxes.values())).joined.base))
        terms: list[tuple[int, Term]] = []
        for name, outbox in outboxes.items():
            model = stack.enter_context(TensorFile(outbox.model))
            terms.append((1, Update(model, outbox.statistics(), outbox.digest(), name)))
        write_sum(folder / "state", base.manifest, base_digest, terms)
        state = stack.enter_context(MergeState(folder / "state"))
        write_midpoint(folder / MODEL, base, [(1, state)], pooled_statistics([(1, state)], base.manifest), {})
        return file_digest(stack.enter_context(TensorFile(folder / MODEL))).hex()


def _recovery(scene: Scene) -> float | None:
    if scene.struck is None:
        return None
    restarts = [at for at, _ in scene.keeper.started if at > scene.struck]
    since = scene.mended if scene.mended is not None else min(restarts, default=scene.struck)
    continued = scene.keeper.continued(since)
    return None if continued is None else continued - since


@contextmanager
def yard(folder: Path, parameters: int = PARAMETERS, disks: int = _DISK) -> Iterator[Yard]:
    """Bring up a federation that can be disturbed in as many ways as this machine permits.

    One site is in a network namespace of its own, at the end of a wire; coordinator and sites have small disks.

    Args:
        folder: An empty folder.
        parameters: Of the random models.
        disks: Mebibytes of each disk.

    """
    with ExitStack() as stack:
        armed = folder / "fault"
        wires: dict[str, Wire] = {}
        if not wire.why_not():
            number = os.getpid() % 100_000
            link = Wire(f"ob{number}", f"10.{100 + number % 100}.{number // 100 % 250}")
            wires[SITES[-1]] = stack.enter_context(link)
        if not disk.why_not():
            for name in ("coordinator", *SITES):
                stack.enter_context(disk.small_disk(folder / name, disks))
        ground = Ground(
            {VARIABLE: str(armed)},
            _EVERYWHERE if wires else LOOPBACK,
            {name: link.here for name, link in wires.items()},
            {name: link.inside for name, link in wires.items()},
        )
        federation = stack.enter_context(federations.federation(folder, ground))
        bases = {True: federation.base, False: write_base(folder / "random.safetensors", parameters)}
        yield Yard(federation, wires, armed, bases, parameters=parameters)
