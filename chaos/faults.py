"""What can be done to a federation: one function per fault, and the table of all of them.

Each takes a `Scene`, waits for its random moment, does it, and undoes what nobody else would undo.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from chaos import disk, hunting, wire
from chaos.federation import SITES, SUPERLINK, Federation
from chaos.keeper import Keeper
from chaos.wire import Weather, Wire
from protos import faults as points

_TICK = 0.05
_LONGEST = 100.0
"""Seconds to wait for a victim to appear, and that a site may be slow."""


@dataclass
class Scene:
    """A round, as a fault sees it.

    Attributes:
        federation: The federation.
        keeper: Who starts again what ended.
        dice: Seeded by the round's number.
        usual: Seconds that an undisturbed round takes.
        wires: To sites that are in namespaces of their own.
        armed: The file that names the fault point which ends a process.
        struck: When the fault was done (monotonic seconds); None if its moment never came.
        mended: When it was over; None as long as that is for the keeper to say.
        problem: What the fault itself saw go wrong.

    """

    federation: Federation
    keeper: Keeper
    dice: random.Random
    usual: float
    wires: dict[str, Wire]
    armed: Path
    struck: float | None = None
    mended: float | None = None
    problem: str = ""
    told: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        """Wait, unless the campaign is over before."""
        self.until(lambda: False, seconds)

    def until(self, met: Callable[[], object], seconds: float) -> bool:
        """Wait for something, and tell whether it came; not if the campaign was over before, or the time was."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if met():
                return True
            self.keeper.tend()
            if self.keeper.done:
                return False
            time.sleep(_TICK)
        return False

    def moment(self) -> None:
        """Wait for a random moment of the campaign."""
        self.wait(self.dice.uniform(0.0, self.usual))

    def strike(self, what: str) -> None:
        """Note that it happens now."""
        self.struck = time.monotonic()
        self.told.append(what)

    @contextmanager
    def lasting(self, what: str) -> Iterator[None]:
        """Note that it happens now, and when it is over."""
        self.strike(what)
        yield
        self.mended = time.monotonic()

    @property
    def folders(self) -> list[Path]:
        """The sites' folders."""
        return [self.federation.sites[name].folder for name in SITES]


Strike = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """Something that is done to a federation.

    Attributes:
        name: Its name.
        strike: Does it.
        adapts: Whether the sites adapt in that round; otherwise their updates are in their outboxes.
        needs: Says why it can't be done on this machine; nothing if it can.

    """

    name: str
    strike: Strike
    adapts: bool = False
    needs: Callable[[], str] = lambda: ""


def nothing(scene: Scene) -> None:
    """Disturb nothing: what the others are compared with."""


def killing(role: str, *, at_site: bool = False, within: float | None = None) -> Strike:
    """Kill -9 a process of a kind, at a random moment.

    Args:
        role: Which kind.
        at_site: Whether it is one of a random site's.
        within: Seconds after the first of its kind was seen; by default as many as the round takes.

    """

    def strike(scene: Scene) -> None:
        folder = scene.dice.choice(scene.folders) if at_site else scene.federation.folder
        if not scene.until(lambda: hunting.find(role, folder), _LONGEST):
            return
        scene.wait(scene.dice.uniform(0.0, scene.usual if within is None else within))
        found: list[psutil.Process] = []

        def appeared() -> bool:
            found[:] = hunting.find(role, folder)
            return bool(found)

        if scene.until(appeared, _LONGEST) and hunting.kill(found[:1]):
            scene.strike(f"kill -9 {role} {found[0].pid}{f' of {folder.name}' if at_site else ''}")

    return strike


def killing_a_passing(role: str, most: int) -> Strike:
    """Kill -9 one of a random site's processes that live for a moment only: a random one of the first few."""

    def strike(scene: Scene) -> None:
        folder, number = scene.dice.choice(scene.folders), scene.dice.randint(1, most)
        seen: set[int] = set()

        def killed() -> bool:
            for process in hunting.find(role, folder):
                seen.add(process.pid)
                if len(seen) >= number and hunting.kill([process]):
                    scene.strike(f"kill -9 {role} {process.pid} of {folder.name}")
                    return True
            return False

        scene.until(killed, _LONGEST)

    return strike


def killing_everything_at_a_site(scene: Scene) -> None:
    """Cut a site's power; it comes back after a while."""
    scene.moment()
    folder = scene.dice.choice(scene.folders)
    scene.keeper.away[folder.name] = scene.dice.uniform(2.0, 15.0)
    scene.strike(f"kill -9 all of {folder.name}")
    for role in ("watcher", "supernode", "clientapp", "adapting"):
        hunting.kill(hunting.find(role, folder))


def killing_everything_of_the_coordinator(scene: Scene) -> None:
    """Cut the coordinator's power; it comes back after a while."""
    scene.moment()
    scene.keeper.away[SUPERLINK] = scene.dice.uniform(2.0, 15.0)
    scene.strike("kill -9 all of the coordinator")
    for role in ("superlink", "serverapp", "command"):
        hunting.kill(hunting.find(role, scene.federation.folder))


def superlink_stays_away(scene: Scene) -> None:
    """Kill -9 the SuperLink, which is started again only after a while."""
    scene.moment()
    seconds = scene.keeper.away[SUPERLINK] = scene.dice.uniform(10.0, 40.0)
    scene.strike(f"kill -9 superlink, for {seconds:.0f} s")
    hunting.kill(hunting.find("superlink", scene.federation.folder))


def disk_full(place: Callable[[Scene], Path]) -> Strike:
    """Fill a disk for a while."""

    def strike(scene: Scene) -> None:
        folder = place(scene)
        scene.moment()
        with scene.lasting(f"disk of {folder.name} full"), disk.filled(folder):
            scene.wait(scene.dice.uniform(3.0, 20.0))

    return strike


def slow_site(scene: Scene) -> None:
    """Make one site 100 times slower until the others are folded: it must not hold them up."""
    name = scene.dice.choice(SITES)
    folder = scene.federation.sites[name].folder
    others = [f"{other}: folded" for other in SITES if other != name]
    roles = ("supernode", "clientapp", "adapting")

    def folded() -> bool:
        return all(any(said in line for _, line in scene.keeper.lines) for said in others)

    with (
        scene.lasting(f"{name} 100 times slower"),
        hunting.slowed(lambda: [process for role in roles for process in hunting.find(role, folder)]),
    ):
        if not scene.until(folded, _LONGEST) and not folded():
            scene.problem = f"the other sites were held up by {name}, which was slow"


def weather(name: str, forecast: Callable[[random.Random], Weather], seconds: tuple[float, float]) -> Strike:
    """Have bad weather on a site's wire for a while."""

    def strike(scene: Scene) -> None:
        link = scene.dice.choice(list(scene.wires.values()))
        scene.moment()
        found = forecast(scene.dice)
        with scene.lasting(f"{name}: {found}"), link.under(found):
            scene.wait(scene.dice.uniform(*seconds))

    return strike


def at_point(name: str, most: int) -> Strike:
    """End the process that comes to a named place, at a random one of its first visits."""

    def strike(scene: Scene) -> None:
        scene.armed.write_text(f"{name}:{scene.dice.randint(1, most)}")
        try:
            if scene.until(lambda: not scene.armed.exists(), 10 * _LONGEST) or not scene.armed.exists():
                scene.strike(f"ended at {name}")
        finally:
            scene.armed.unlink(missing_ok=True)

    return strike


_VISITS = {
    "file-written": 30,
    "file-renamed": 30,
    "request-sending": 11,
    "request-sent": 11,
    "reply-pulled": 11,
    "arrival-header": 3,
    "arrival-part": 6,
    "request-taken": 11,
    "reply-leaving": 11,
    "adapt-starting": 3,
    "adapt-started": 3,
    "outbox-model": 3,
    "outbox-header": 3,
}
"""How often each place is come to in an undisturbed round, or a little less; once if it is not here."""
_ADAPTING = ("adapt-starting", "adapt-started", "outbox-model", "outbox-header")
"""Places that are come to only if the sites adapt."""


def all_faults() -> dict[str, Fault]:
    """Return every fault, by name."""
    may_mount, may_wire = cache(disk.why_not), cache(wire.why_not)
    found = [
        Fault("superlink", killing("superlink")),
        Fault("serverapp", killing("serverapp")),
        Fault("superexec", killing("superexec")),
        Fault("supernode", killing("supernode", at_site=True)),
        Fault("forking", killing("forking", at_site=True)),
        Fault("clientapp", killing_a_passing("clientapp", most=3)),
        Fault("command", killing("command")),
        Fault("adapting", killing("adapting", at_site=True, within=2.0), adapts=True),
        Fault("site-power", killing_everything_at_a_site),
        Fault("site-power-adapting", killing_everything_at_a_site, adapts=True),
        Fault("coordinator-power", killing_everything_of_the_coordinator),
        Fault("superlink-away", superlink_stays_away),
        Fault("disk-coordinator", disk_full(lambda scene: scene.federation.home.folder), needs=may_mount),
        Fault("disk-site", disk_full(lambda scene: scene.dice.choice(scene.folders)), needs=may_mount),
        Fault("disk-site-adapting", disk_full(lambda scene: scene.dice.choice(scene.folders)), True, may_mount),
        Fault("slow-site", slow_site),
        Fault("net-cut", weather("cut", lambda dice: Weather(cut=True), (3.0, 40.0)), needs=may_wire),
        Fault("net-delay", weather("delay", lambda dice: Weather(0.3, 0.1), (60.0, 90.0)), needs=may_wire),
        Fault("net-loss", weather("loss", lambda dice: Weather(0.02, 0.01, 0.05), (60.0, 90.0)), needs=may_wire),
        Fault("net-narrow", weather("narrow", lambda dice: Weather(rate=150e3), (60.0, 90.0)), needs=may_wire),
    ]
    for name in points.POINTS:
        found.append(Fault(f"at:{name}", at_point(name, _VISITS.get(name, 1)), adapts=name in _ADAPTING))
    return {fault.name: fault for fault in found}
