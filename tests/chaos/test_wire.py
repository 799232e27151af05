"""What goes over the wire arrives, in good weather and in bad, but not when the wire is cut."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from chaos import wire
from chaos.wire import Weather, Wire

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as there:
    there.sendall(bytes(int(sys.argv[3])))
    there.shutdown(socket.SHUT_WR)
    assert there.recv(1) == b"!"
"""


@pytest.fixture(scope="module")
def link() -> Iterator[Wire]:
    if why := wire.why_not():
        pytest.skip(why)
    with Wire(f"ob{os.getpid() % 100000}w", "10.77.254") as found:
        yield found


def sent(link: Wire, size: int, seconds: float = 60.0) -> float:
    """Send bytes from the other end; return the seconds that it took, or raise TimeoutError."""
    with socket.create_server((link.here, 0)) as server:
        started = time.monotonic()
        command = [sys.executable, "-c", SEND, link.here, str(server.getsockname()[1]), str(size)]
        sender = subprocess.Popen([*link.inside, *command])
        try:
            server.settimeout(seconds)
            there, _ = server.accept()
            with there:
                there.settimeout(seconds)
                got = 0
                while got < size:
                    got += len(there.recv(1 << 16))
                there.sendall(b"!")
            assert sender.wait(60) == 0
        finally:
            sender.kill()
            sender.wait()
    return time.monotonic() - started


@pytest.mark.parametrize("weather", [wire.FAIR, Weather(delay=0.02, jitter=0.01, loss=0.05)])
def test_all_bytes_arrive_in_good_weather_and_in_bad(link, weather):
    with link.under(weather):
        sent(link, 200_000)


def test_a_narrow_wire_takes_at_least_as_long_as_its_rate_says(link):
    with link.under(Weather(rate=200e3)):
        assert sent(link, 300_000) > 1.5


def test_nothing_gets_through_a_wire_that_is_cut_and_all_does_once_it_is_mended(link):
    with link.under(Weather(cut=True)), pytest.raises(TimeoutError):
        sent(link, 1, seconds=2.0)

    sent(link, 1000)
