"""Flower's SuperLink under our collector."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from types import SimpleNamespace

from coordinator import flower_superlink, roster, superlink
from protos.errors import FederationError


def test_it_is_flowers_program_with_flowers_arguments():
    command = [sys.executable, "-m", "coordinator.flower_superlink", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: flower-superlink")
    assert "--enable-supernode-auth" in done.stdout


class Request:
    """A request that holds itself, as those of the HTTP server do."""

    def __init__(self) -> None:
        self.itself = self


def test_requests_in_cycles_are_collected_as_the_process_grows(monkeypatch):
    size = SimpleNamespace(rss=100 << 20)
    looked = threading.Semaphore(0)

    def memory_info() -> SimpleNamespace:
        looked.release()
        return SimpleNamespace(rss=size.rss)

    def look(times: int = 3) -> None:
        while looked.acquire(blocking=False):
            pass
        for _ in range(times):
            assert looked.acquire(timeout=20)

    monkeypatch.setattr(flower_superlink, "EVERY", 0.01)
    monkeypatch.setattr(flower_superlink.psutil, "Process", lambda: SimpleNamespace(memory_info=memory_info))
    stop = threading.Event()
    thread = threading.Thread(target=flower_superlink.collect, args=(stop,))
    gc.disable()
    try:
        thread.start()
        look()
        gone = weakref.ref(Request())
        size.rss += flower_superlink.GROWTH  # not more than it may
        look()
        assert gone() is not None
        size.rss += 1
        look()
        assert gone() is None
        quiet = weakref.ref(Request())  # nothing grew since, so nobody collects
        look()
        assert quiet() is not None
        size.rss -= flower_superlink.GROWTH  # what was given back counts as room from now on
        look()
        size.rss += flower_superlink.GROWTH + 1
        look()
        assert quiet() is None
    finally:
        gc.enable()
        stop.set()
        thread.join()


def test_all_approved_sites_are_registered_as_soon_as_the_superlink_is_up(world, monkeypatch):
    for site in world.sites.values():
        roster.approve(world.home, site.request_path, site.request().fingerprint)
    roster.revoke(world.home, "night")
    up, asked = iter([False, False, True]), []
    monkeypatch.setattr(flower_superlink.time, "sleep", lambda _: None)
    monkeypatch.setattr(superlink, "is_running", lambda _: next(up))

    def register(_, request):
        asked.append(request.site)
        if request.site == "clear":
            raise FederationError("not now")

    monkeypatch.setattr(superlink, "register", register)
    flower_superlink.register(world.home)
    assert asked == ["clear", "fog"]  # one that fails keeps no other out, and a revoked one is left out


def test_a_superlink_that_does_not_come_up_is_not_waited_for_forever(world, monkeypatch, caplog):
    monkeypatch.setattr(superlink, "is_running", lambda _: False)
    flower_superlink.register(world.home, patience=0.0)
    assert "no site is registered" in caplog.text
