"""Programs that end together: also those that were left behind, and nobody else's."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from onebasin.processes import Processes
from protos.errors import FederationError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
LEAVES = f"import subprocess; print(subprocess.Popen({SLEEP}).pid)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP[2]}"


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(processes: Processes, name: str, command: list[str], folder: Path) -> int:
    processes.start(name, command, os.environ, folder / name)
    return processes.pid(name)


def test_what_was_started_ends_with_the_context(tmp_path):
    with Processes() as processes:
        pids = [start(processes, name, SLEEP, tmp_path) for name in ("one", "two")]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands over what a dead parent leaves")
def test_so_does_what_a_dead_program_left_behind(tmp_path):
    with Processes() as processes:
        start(processes, "leaves", [sys.executable, "-c", LEAVES], tmp_path)
        assert processes.wait("leaves", 20) == 0
        left = int((tmp_path / "leaves").read_text())
        assert alive(left)
    assert not alive(left)


def test_one_that_will_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("onebasin.processes._GRACE", 0.3)
    with Processes() as processes:
        pid = start(processes, "deaf", [sys.executable, "-c", DEAF], tmp_path)
        while not (tmp_path / "deaf").read_text():
            time.sleep(0.02)
    assert not alive(pid)


def test_an_inner_context_leaves_alone_what_programs_of_the_outer_one_start_meanwhile(tmp_path):
    waits = (
        "import signal, subprocess\n"
        "signal.sigwait({signal.SIGUSR1})\n"
        f"child = subprocess.Popen({SLEEP})\n"
        "print(child.pid, flush=True)\n"
        "child.wait()"
    )
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # inherited, so that none comes too early
    try:
        with Processes() as outer:
            pid = start(outer, "waits", [sys.executable, "-c", waits], tmp_path)
            with Processes() as inner:
                own = start(inner, "own", SLEEP, tmp_path)
                os.kill(pid, signal.SIGUSR1)
                while not (tmp_path / "waits").read_text().endswith("\n"):
                    time.sleep(0.02)
                began = time.monotonic()
            assert time.monotonic() - began < 4
            child = int((tmp_path / "waits").read_text())
            assert (alive(own), alive(pid), alive(child)) == (False, True, True)
        assert not alive(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_one_that_ended_by_itself_is_named_with_its_last_words(tmp_path):
    with Processes() as processes:
        start(processes, "short", [sys.executable, "-c", "print('no luck'); raise SystemExit(3)"], tmp_path)
        processes._started["short"][0].wait(20)
        with pytest.raises(FederationError, match="short ended with exit code 3: no luck"):
            processes.check()


def test_a_program_that_is_not_there_is_named(tmp_path):
    with Processes() as processes, pytest.raises(FederationError, match="can't start nowhere"):
        processes.start("one", ["nowhere"], os.environ, tmp_path / "one")
