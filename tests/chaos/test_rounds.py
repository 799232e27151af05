"""Which rounds there are, what a round needs from its keeper, and how rounds are counted."""

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from chaos import faults as chaos_faults
from chaos import keeper as keepers
from chaos.__main__ import _plan
from chaos.faults import Scene, all_faults, at_point, killing_a_passing
from chaos.federation import SITES, SUPERLINK
from chaos.keeper import Keeper
from chaos.rounds import Result
from chaos.table import table
from onebasin.processes import Processes
from protos import faults as points


def test_every_named_point_and_every_program_has_a_fault():
    faults = all_faults()

    assert {name.removeprefix("at:") for name in faults if name.startswith("at:")} == set(points.POINTS)
    assert {"superlink", "serverapp", "supernode", "clientapp", "adapting", "command"} <= set(faults)


def test_rounds_of_one_seed_are_the_same_and_take_all_faults_in_turn():
    faults = {name: fault for name, fault in all_faults().items() if not name.startswith("at:")}
    again = [[fault.name for _, fault in _plan(faults, 2 * len(faults) + 3, seed)] for seed in (1, 1, 2)]

    assert again[0] == again[1] != again[2]
    assert set(Counter(again[0]).values()) == {2, 3}
    assert [number for number, _ in _plan(faults, 5, 1)] == [1, 2, 3, 4, 5]


def test_the_table_counts_rounds_and_those_survived():
    results = [
        Result(1, "superlink", "killed", True, "", 10.0, 4.0, 2),
        Result(2, "superlink", "killed", True, "left behind", 10.0, 8.0, 1),
        Result(3, "disk-site", "full", False, "", 10.0, None, 1),
    ]
    rows = list(zip(*(list(column.cells) for column in table(results).columns), strict=True))

    assert rows == [
        ("disk-site", "1", "0", "1", "1", "", ""),
        ("superlink", "2", "2", "1", "3", "6.0", "8.0"),
        ("all", "3", "2", "2", "4", "6.0", "8.0"),
    ]


@dataclass
class Programs:
    """A federation of programs that end when their files are there."""

    folder: Path
    processes: Processes

    def __post_init__(self) -> None:
        self.home = SimpleNamespace(folder=self.folder)
        self.environment = {}

    def start(self, name: str) -> None:
        end = self.folder / f"{name}.end"
        wait = f"import pathlib, time\nend = pathlib.Path({str(end)!r})\nwhile not end.exists(): time.sleep(0.01)"
        self.processes.start(name, [sys.executable, "-c", wait], {}, self.folder / f"{name}.log")

    def start_superlink(self) -> None:
        self.start(SUPERLINK)

    def start_node(self, name: str) -> None:
        self.start(name)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setattr(keepers, "PAUSE", 0.05)
    with Processes() as processes:
        found = Programs(tmp_path, processes)
        for name in (SUPERLINK, *SITES):
            found.start(name)
        yield found


def tended(keeper: Keeper, until, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        keeper.tend()
        time.sleep(0.01)


def test_the_keeper_starts_again_what_was_killed_and_only_that(programs):
    keeper = Keeper(programs, SimpleNamespace(path=Path("one")))
    before = programs.processes.pid(SUPERLINK)
    keeper.tend()
    assert not keeper.started

    psutil.Process(before).kill()
    tended(keeper, lambda: keeper.started)

    assert [name for _, name in keeper.started] == [SUPERLINK]
    assert programs.processes.pid(SUPERLINK) != before


def test_the_keeper_runs_a_campaign_until_it_went_well(programs, monkeypatch):
    keeper = Keeper(programs, SimpleNamespace(path=Path("one")))
    codes = iter([1, 137, 0])

    def start(self):
        self.runs += 1
        said = f"print('12:00:0{self.runs}  merged')\nraise SystemExit({next(codes)})"
        programs.processes.start("command", [sys.executable, "-c", said], {}, self._log)

    monkeypatch.setattr(Keeper, "start", start)
    started = time.monotonic()
    keeper.start()
    tended(keeper, lambda: keeper.done)

    assert keeper.runs == 3
    assert [line for _, line in keeper.lines] == [f"12:00:0{i}  merged" for i in (1, 2, 3)]
    assert keeper.continued(started) == keeper.lines[0][0]
    assert keeper.continued(keeper.lines[-1][0]) is None


def test_a_point_counts_as_reached_once_a_process_took_the_file_away(tmp_path):
    armed = tmp_path / "fault"
    keeper = SimpleNamespace(done=False, tend=lambda: armed.unlink(missing_ok=True), started=[])
    scene = Scene(None, keeper, random.Random(1), 1.0, {}, armed)
    at_point("fold-after", 1)(scene)
    assert scene.struck is not None

    keeper = SimpleNamespace(done=False, tend=lambda: setattr(keeper, "done", True), started=[])
    scene = Scene(None, keeper, random.Random(1), 1.0, {}, armed)
    at_point("fold-after", 1)(scene)
    assert scene.struck is None
    assert not armed.exists()


def test_of_processes_that_pass_one_that_was_still_there_is_killed(tmp_path, monkeypatch):
    passing = [[SimpleNamespace(pid=pid) for pid in pids] for pids in ([1], [], [1, 2], [3], [4], [5])]
    killed = []
    monkeypatch.setattr(chaos_faults.hunting, "find", lambda role, folder: passing.pop(0))

    def kill(found):
        killed.extend(process.pid for process in found if process.pid >= 4)  # the others ended meanwhile
        return len(killed)

    monkeypatch.setattr(chaos_faults.hunting, "kill", kill)
    site = SimpleNamespace(folder=tmp_path)
    keeper = SimpleNamespace(done=False, tend=lambda: None, started=[])
    scene = Scene(SimpleNamespace(sites=dict.fromkeys(SITES, site)), keeper, random.Random(1), 1.0, {}, tmp_path)
    killing_a_passing("clientapp", 3)(scene)
    assert killed == [4]
    assert scene.struck is not None
