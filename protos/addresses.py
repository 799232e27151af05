"""Addresses as people write them: host and port, an IPv6 host in brackets."""

from __future__ import annotations

import re
import socket
from typing import NamedTuple, Self

from protos.errors import ConfigurationError

_PORTS = 1 << 16


class Address(NamedTuple):
    """Where something listens, or is reached.

    Attributes:
        host: A name or an IP address, without brackets.
        port: A TCP port; 0 has the system choose one.

    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ConfigurationError: It is none. An empty host is none either: to the system it would mean every
                address that the machine has.

        """
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        if not _is_host(host) or not re.fullmatch("[0-9]{1,5}", port) or int(port) >= _PORTS:
            raise ConfigurationError(f"{text!r} is no address", "write it as host:port")
        return cls(host, int(port))

    @property
    def family(self) -> socket.AddressFamily:
        """Which kind of socket listens there."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        """Return it as `parse` reads it."""
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """Return a host as it stands in addresses: an IPv6 address has brackets."""
    return f"[{host}]" if ":" in host else host


def _is_host(text: str) -> bool:
    """Tell whether the system would look such a host up; it raises all kinds of errors about others."""
    try:
        return text.isprintable() and bool(text.encode("idna"))
    except UnicodeError:
        return False
