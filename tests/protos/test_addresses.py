"""Addresses: read, written, and refused."""

from __future__ import annotations

import socket

import pytest

from protos.addresses import Address
from protos.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "host", "port", "family"),
    [
        ("127.0.0.1:9092", "127.0.0.1", 9092, socket.AF_INET),
        ("merge.example:0", "merge.example", 0, socket.AF_INET),
        ("[::1]:65535", "::1", 65535, socket.AF_INET6),
    ],
)
def test_an_address_is_read_and_written_back(text, host, port, family):
    address = Address.parse(text)
    assert address == (host, port)
    assert address.family == family
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "9092", ":9092", "[]:9092", "host:", "host:65536", "host:x", "host:²", "host:-1", "host: 1"),
        "host:" + 5000 * "1",
        *("a..b:1", 64 * "a" + ":1", "ho\x00st:1", "ho\nst:1"),
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigurationError, match="is no address") as refused:
        Address.parse(text)
    assert refused.value.fix == "write it as host:port"
