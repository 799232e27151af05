"""Having metrics scraped: over HTTP, with health and readiness beside them, or through a file.

The server has no accounts and no TLS, and listens on loopback unless it is told otherwise.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from protos import files, logs, preflight
from protos.addresses import Address
from protos.errors import ConfigurationError, FederationError
from protos.preflight import BAD, UNCHECKED, Finding

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from protos.metrics import Exporter, Sample

FRESH = 5.0
"""Seconds for which a look at the health is good enough: whoever asks often must not keep the program busy."""
_TIMEOUT = 10.0
"""Seconds that a client may be silent."""
_TEXTFILE = ".prom"
"""How a file must be called for node_exporter to read it."""

Look = Callable[[], Iterable[Finding]]


class Health:
    """A program's health, looked at when somebody asks, but not too often.

    Args:
        look: Looks at all of it.
        live: Looks only at what a restart would mend.
        what: Of whom findings speak that are errors.

    """

    def __init__(self, look: Look, live: Look, what: str) -> None:
        self._looks = {"look": look, "live": live}
        self._what = what
        self._seen: dict[str, tuple[float, list[Finding]]] = {}
        self._alone = threading.Lock()

    def findings(self, *, live: bool = False) -> list[Finding]:
        """Return what was found, at most `FRESH` seconds ago."""
        kind = "live" if live else "look"
        with self._alone:
            when, found = self._seen.get(kind, (float("-inf"), []))
            if time.monotonic() - when > FRESH:
                found = list(preflight.findings([(self._what, self._looks[kind])]))
                self._seen[kind] = time.monotonic(), found
        return found

    def samples(self) -> Iterator[Sample]:
        """Yield the health as metrics; what could not be checked is left out."""
        from protos.metrics import HEALTHY

        for finding in self.findings():
            if finding.state != UNCHECKED:
                yield HEALTHY(finding.state != BAD, finding.what)


def publish(exporter: Exporter, health: Health, address: str, *, once: bool, textfile: Path | None) -> None:
    """Show metrics in the way that a command's options ask for; a server serves until this process is told to end.

    Args:
        exporter: Gathers them.
        health: Of the program that they are about.
        address: Host and port to listen on.
        once: Print them instead.
        textfile: Write them into this file instead.

    Raises:
        ConfigurationError: The options contradict each other, or the address or the file's name is none.
        FederationError: The address can't be listened on.
        StorageError: The file can't be written.

    """
    from prometheus_client import CollectorRegistry, generate_latest

    if once and textfile is not None:
        raise ConfigurationError("--once and --textfile exclude each other", "give one of them")
    registry = CollectorRegistry()
    registry.register(exporter)
    if once:
        typer.echo(generate_latest(registry), nl=False)
    elif textfile is not None:
        if textfile.suffix != _TEXTFILE:
            raise ConfigurationError(
                f"{textfile} can't be a file of metrics", f"end its name in {_TEXTFILE}: others are not read"
            )
        with files.atomic(textfile, durable=False) as file:
            file.write(generate_latest(registry))
    else:
        with serving(exporter, health, address) as server:
            host, port = server.server_address[:2]
            logs.say(f"metrics at http://{Address(str(host), port)}/metrics", event="listening")
            server.serve_forever()


@contextmanager
def serving(exporter: Exporter, health: Health, address: str) -> Iterator[WSGIServer]:
    """Listen for scrapes of ``/metrics``, ``/healthz`` and ``/readyz``; its `serve_forever` answers them.

    Raises:
        ConfigurationError: The address is none.
        FederationError: It can't be listened on.

    """
    place = Address.parse(address)

    class Server(_Server):
        address_family = place.family

    try:
        server = make_server(place.host, place.port, application(exporter, health), Server, _Handler)
    except OSError as error:
        raise FederationError(
            f"can't listen for scrapes on {address}: {error.strerror}",
            "stop what uses the port, or choose another: --address",
        ) from error
    with server:
        yield server


def application(exporter: Exporter, health: Health) -> WSGIApplication:
    """Return what answers requests."""
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry()
    registry.register(exporter)
    metrics = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/metrics":
            answered: Iterable[bytes] = metrics(environ, start)
            return answered
        if path not in ("/healthz", "/readyz"):
            return _said(start, "404 Not Found", {"error": "there are /metrics, /healthz and /readyz"})
        if method not in ("GET", "HEAD"):
            return _said(start, "405 Method Not Allowed", {"error": "it can only be read"})
        found = preflight.as_json(health.findings(live=path == "/healthz"))
        return _said(start, "200 OK" if found["ready"] else "503 Service Unavailable", found)

    return answer


def _said(start: StartResponse, status: str, content: dict[str, object]) -> list[bytes]:
    raw = json.dumps(content).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(raw)))])
    return [raw]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread, so that a client which is slow keeps nobody waiting."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without asking the network for this machine's name as http.server does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that is gone, or was silent for too long."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(WSGIRequestHandler):
    """Says nothing of each request."""

    timeout = _TIMEOUT

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
