"""Flower's SuperExec is started again when it ends unasked, and only then."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from importlib import import_module
from types import ModuleType

import psutil
import pytest

from protos import superexec

LOG = logging.getLogger("test")
SLEEPING = (sys.executable, "-c", "import sys, time; time.sleep(60)")


@pytest.fixture
def engine(monkeypatch):
    """Return a module that starts programs, as Flower's do."""
    monkeypatch.setattr(superexec, "PAUSE", 0.05)
    found = ModuleType("engine")
    found.subprocess = subprocess
    return found


@pytest.fixture
def running():
    """Return those children of this process whose command line holds a word."""

    def look(word: str) -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if word in words(child)]

    return look


def words(process: psutil.Process) -> list[str]:
    """Return its command line, which one that ended has not, be it while it is looked at."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def until(met):
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_flowers_modules_start_it_as_expected():
    for name in ("flwr.supernode.start_client_internal", "flwr.superlink.cli.flower_superlink"):
        assert import_module(name).subprocess is subprocess


def test_it_is_started_again_when_it_is_killed_and_not_when_it_was_asked_to_end(engine, running, caplog):
    superexec.keep(engine, LOG, SLEEPING)
    kept = engine.subprocess.Popen(["flower-superexec", "--word-one"], start_new_session=True)
    (first,) = running("--word-one")
    first.kill()
    until(lambda: "the SuperExec ended (exit code -9): started again" in caplog.text)
    (second,) = running("--word-one")
    assert second.pid != first.pid
    kept.terminate()
    assert kept.wait(10) == -15
    time.sleep(0.3)
    assert not running("--word-one")


def test_one_that_is_just_being_started_again_is_asked_to_end_too(engine, running, monkeypatch):
    superexec.keep(engine, LOG, SLEEPING)
    kept = engine.subprocess.Popen(["flower-superexec", "--word-three"])
    real, starting, go_on = subprocess.Popen, threading.Event(), threading.Event()

    def slow(*words, **options):
        starting.set()
        assert go_on.wait(30)
        return real(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", slow)
    (first,) = running("--word-three")
    first.kill()
    assert starting.wait(30)
    ending = threading.Thread(target=kept.terminate)
    ending.start()
    ending.join(0.2)  # without a lock it would have asked the one that is gone, and be back by now
    go_on.set()
    ending.join(30)
    assert kept.wait(10) == -15
    until(lambda: not running("--word-three"))


def test_the_end_is_waited_for_no_longer_than_asked(engine):
    superexec.keep(engine, LOG, SLEEPING)
    kept = engine.subprocess.Popen(["flower-superexec"])
    with pytest.raises(engine.subprocess.TimeoutExpired):
        kept.wait(0.1)
    kept.terminate()
    kept.wait(10)


def test_it_is_tried_until_it_can_be_started(engine, running, monkeypatch, caplog):
    superexec.keep(engine, LOG, SLEEPING)
    kept = engine.subprocess.Popen(["flower-superexec", "--word-two"])
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError(12, "no memory")))
    (first,) = running("--word-two")
    first.kill()
    until(lambda: caplog.text.count("(exit code -9), and can't be started: [Errno 12] no memory") > 1)
    monkeypatch.setattr(subprocess, "Popen", real)
    until(lambda: running("--word-two"))
    kept.terminate()
    kept.wait(10)


def test_other_programs_are_started_as_they_are(engine):
    superexec.keep(engine, LOG)
    other = engine.subprocess.Popen([*SLEEPING[:2], "pass"])
    assert isinstance(other, subprocess.Popen)
    assert other.wait(30) == 0


def test_a_flower_that_starts_none_is_left_alone():
    engine = ModuleType("engine")
    superexec.keep(engine, LOG)
    assert not hasattr(engine, "subprocess")


def test_it_ends_with_the_process_that_keeps_it_however_that_ends():
    body = f"import logging; from protos.superexec import Kept; Kept({SLEEPING!r}, logging.getLogger()); "
    with subprocess.Popen([sys.executable, "-c", body + "import time; time.sleep(60)"]) as keeper:
        keeping = psutil.Process(keeper.pid)
        until(keeping.children)
        (kept,) = keeping.children()
        keeper.kill()
    until(lambda: not words(kept))
