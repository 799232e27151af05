"""A wire between this machine and a network namespace, that delays, loses, narrows and cuts.

It is two TUN devices and a thread that carries packets from one to the other, so it needs no module of the kernel
for bad weather (``tc netem`` does the same, where there is one), and what it does can change at any moment.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1400
_ROOM = 500
"""Packets that wait for their turn in one direction; more are dropped, as a router does."""
_LOOK = 0.02


@dataclass(frozen=True)
class Weather:
    """How a wire is.

    Attributes:
        delay: Seconds that each packet takes, one way.
        jitter: Seconds by which that varies, either way.
        loss: Share of packets that are lost.
        rate: Bytes per second in each direction; 0: as fast as it goes.
        cut: Whether nothing gets through.

    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 0.0
    cut: bool = False


FAIR = Weather()


class Wire:
    """A wire to a new namespace, up while the context lasts.

    Args:
        name: The namespace's; at most 10 characters, so that devices can be named after it.
        net: The first three bytes of both ends' addresses, as text.

    Attributes:
        weather: How it is now.
        here: Its end's address on this side.
        there: And on the other.
        up: Bytes that were sent from there to here, lost ones too.

    """

    def __init__(self, name: str, net: str) -> None:
        self.weather = FAIR
        self.namespace = name
        self.here, self.there = f"{net}.1", f"{net}.2"
        self.up = 0
        self._stop = threading.Event()
        self._dice = random.Random(name)

    @property
    def inside(self) -> list[str]:
        """Words to put before a command, to run it at the other end."""
        return ["ip", "netns", "exec", self.namespace]

    def __enter__(self) -> Self:
        name, near, far = self.namespace, f"{self.namespace}a", f"{self.namespace}b"
        _ip("netns", "add", name)
        try:
            self._ends = (_tun(near), _tun(far))
            _ip("link", "set", far, "netns", name)
            _ip("addr", "add", f"{self.here}/30", "dev", near)
            _ip("link", "set", near, "up", "mtu", str(_MTU))
            within = ("-n", name)
            _ip(*within, "addr", "add", f"{self.there}/30", "dev", far)
            _ip(*within, "link", "set", far, "up", "mtu", str(_MTU))
            _ip(*within, "link", "set", "lo", "up")
        except BaseException:
            _ip("netns", "delete", name)
            raise
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)
        _ip("netns", "delete", self.namespace)

    @contextmanager
    def under(self, weather: Weather) -> Iterator[None]:
        """Change the weather for a while."""
        self.weather = weather
        try:
            yield
        finally:
            self.weather = FAIR

    def _carry(self) -> None:
        across = dict(zip(self._ends, reversed(self._ends), strict=True))
        waiting: list[tuple[float, int, int, bytes]] = []
        queued, free, number = dict.fromkeys(self._ends, 0), dict.fromkeys(self._ends, 0.0), 0
        while not self._stop.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, end, packet = heapq.heappop(waiting)
                queued[end] -= 1
                if not self.weather.cut:
                    with suppress(OSError):  # the other end's device may be full, or down
                        os.write(end, packet)
            patience = min(_LOOK, max(0.0, waiting[0][0] - now)) if waiting else _LOOK
            for source in select.select(self._ends, [], [], patience)[0]:
                with suppress(OSError):
                    packet, end, now = os.read(source, 1 << 16), across[source], time.monotonic()
                    weather = self.weather
                    self.up += len(packet) * (source == self._ends[1])
                    if weather.cut or self._dice.random() < weather.loss or queued[end] >= _ROOM:
                        continue
                    due = now
                    if weather.rate:
                        due = free[end] = max(now, free[end]) + len(packet) / weather.rate
                    due += max(0.0, weather.delay + weather.jitter * self._dice.uniform(-1, 1))
                    number, queued[end] = number + 1, queued[end] + 1
                    heapq.heappush(waiting, (due, number, end, packet))


def why_not() -> str:
    """Say why there can be no wire on this machine; nothing if there can."""
    try:
        with Wire(f"ob{os.getpid() % 100000}t", "10.77.255"):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        return f"network namespaces or TUN devices are not permitted here: {said}"


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)  # noqa: S607
