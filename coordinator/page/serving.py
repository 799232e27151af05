"""Serving the page: where it listens, under which names, with which certificate."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from coordinator.home import Home
from coordinator.page import access
from coordinator.page.app import make_app
from coordinator.page.desk import Desk
from protos.addresses import bracketed
from protos.errors import ConfigurationError

TOKEN = "page.token"  # noqa: S105  # the file's name
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_BUSY = 100
"""Requests at once; more are turned away."""


@dataclass(frozen=True)
class Place:
    """Where the page is.

    Attributes:
        host: The name or address that it listens on.
        port: The port; 0 for any that is free.
        names: Other names under which it is reached, that of a reverse proxy for example.
        certificate: Its certificate, PEM; None if it has none of its own.
        key: The certificate's key, PEM.

    """

    host: str = "127.0.0.1"
    port: int = 8643
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


class Server:
    """A page that has its port, and is not answering yet.

    Args:
        home: The coordinator.
        place: Where.
        new_token: Whether to make another token.

    Raises:
        ConfigurationError: The port can't be had, the certificate is none, or the signing key can't be read.
        JournalError: The coordinator's journal is damaged.
        StorageError: The token can't be written.

    """

    def __init__(self, home: Home, place: Place, *, new_token: bool = False) -> None:
        home.journal.course("")  # better said now than on each page
        _ = home.signing_key  # it may have a passphrase, and whoever clicks later can't be asked for it
        certificate, key = _certificate(home, place)
        _check_certificate(certificate, key)
        self.token_file = home.keys / TOKEN
        token = access.token(self.token_file, anew=new_token)
        self._socket = _listening(place)
        port = self._socket.getsockname()[1]
        host = bracketed(place.host)
        self.address = f"{'https' if certificate else 'http'}://{host}:{port}/"
        app = make_app(Desk(home, token, f"onebasin-{port}"), _names(home, place, host))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=_BUSY,
                timeout_graceful_shutdown=5,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )

    def run(self) -> None:
        """Answer until Ctrl-C or a signal to end."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Have `run` return soon."""
        self._server.should_exit = True


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificate(home: Home, place: Place) -> tuple[Path | None, Path | None]:
    """Return certificate and key: elsewhere than on loopback the token never travels without TLS."""
    if (place.certificate is None) != (place.key is None):
        raise ConfigurationError("a certificate needs its key, and a key its certificate", "give both")
    if place.certificate is not None or is_loopback(place.host):
        return place.certificate, place.key
    return home.keys / "server.pem", home.keys / "server.key"


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None or key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or str(error)
        raise ConfigurationError(
            f"{certificate} with {key} is no certificate that can be served: {said}",
            "give a chain and its key without a passphrase, both PEM",
        ) from error


def _names(home: Home, place: Place, host: str) -> frozenset[str]:
    """Return the names by which a browser may ask for the page; any other is a trick."""
    found = {host, *place.names}
    if not is_loopback(place.host):
        found |= {bracketed(name) for name in home.certificate_hosts}
    return _LOOPBACK | {name.lower().rstrip(".") for name in found}


def _listening(place: Place) -> socket.socket:
    found = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except (OSError, OverflowError) as error:
        if found is not None:
            found.close()
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"the page can't listen on port {place.port} of {place.host}: {said}",
            "stop what uses it, or choose another: --port, --host",
        ) from error
    return found
