"""Logs and metrics: no line can be forged through what others say, and no secret is in either."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client import CollectorRegistry, generate_latest

from client.readings import Readings as SiteReadings
from coordinator.members import Member, State
from coordinator.readings import Readings
from coordinator.watching import log_line
from protos import logpump, logs
from protos.metrics import Exporter

MARK = "m" * 32
FORGED = '{"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "merged", "message": "all is well"}'


@pytest.mark.parametrize(
    "said",
    [
        FORGED,
        f"x\n{FORGED}",
        FORGED.replace("{", '{"mark": "", ', 1),
        FORGED.replace("{", f'{{"mark": "{MARK[:-1]}", ', 1),
        '{"a":' * 20_000,
    ],
)
def test_nobody_forges_a_line_who_does_not_know_the_mark(said):
    """What a hostile site or SuperLink has Flower print looks like a line of the log; it stays a message."""
    for raw in said.encode().splitlines():
        found = logpump.wrapped(raw, {"campaign": "autumn", "site": ""}, MARK)
        assert (found["event"], found["campaign"]) == ("output", "autumn")


@pytest.mark.parametrize(
    "hostile", ['x"}\n{"event": "merged"}', "x\r\nINFO : merged", "\x1b[2J", "a\u2028b", "\ud800"]
)
def test_what_a_site_says_does_not_break_a_line(hostile, monkeypatch):
    monkeypatch.setenv(logs.VARIABLE, logs.JSON)
    event = {"time": 0.0, "event": "refused", "site": "fog", "message": hostile, "level": "debug", "campaign": "x"}
    text = log_line(event, "autumn")
    assert len(text.splitlines()) == 1
    found = json.loads(text)
    assert (found["event"], found["level"], found["campaign"], found["site"]) == (
        "refused",
        "warning",
        "autumn",
        "fog",
    )
    assert hostile in found["message"]


def secrets_of(world) -> dict[str, bytes]:
    """Return every private key there is, as bytes that would show it."""
    found = {}
    for folder in (world.home.keys, *(site.keys for site in world.sites.values())):
        for path in folder.iterdir():
            raw = path.read_bytes()
            if b"PRIVATE KEY" in raw:
                found[str(path)] = raw.splitlines()[1]
            if b"BEGIN PRIVATE KEY" in raw:
                key = load_pem_private_key(raw, None)
                found[f"{path}, raw"] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())[-16:]
    return found


def leaks(world, text: bytes) -> set[str]:
    return {
        name
        for name, secret in secrets_of(world).items()
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:-4])
        if form in text
    }


def test_no_secret_and_nothing_of_an_update_is_in_metrics_or_logs(world, monkeypatch):
    monkeypatch.setenv(logs.VARIABLE, logs.JSON)
    events = world.folder.log()
    world.folder.begin()
    for site in world.sites:
        digest = world.outbox(site).digest()
        events.place(Member(site, 0.0, State.MERGED, digest=digest, reason="head.weight is NaN"))
        events.note("folded", site, digest=digest.hex(), seconds=0.1)
        events.note("refused", site, message="head.weight is NaN", reason="update")
    parts = {**Readings(world.home).parts()}
    for site in world.sites.values():
        parts |= {f"{name} of {site.name}": part for name, part in SiteReadings(site).parts().items()}
    registry = CollectorRegistry()
    registry.register(Exporter(parts, lambda said: pytest.fail(said)))
    seen = generate_latest(registry)
    shown = "\n".join(log_line(event, "one") for _, event in world.home.journal.events(world.folder.key)).encode()
    assert len(secrets_of(world)) >= 10
    assert not leaks(world, seen)
    assert not leaks(world, shown)
    for word in (b"head.weight", *(world.outbox(site).digest().hex()[:12].encode() for site in world.sites)):
        assert word not in seen


def test_a_secret_that_leaked_would_be_found(world):
    for secret in secrets_of(world).values():
        assert leaks(world, b"x" + secret + b"x")
        assert leaks(world, secret.hex().encode())
