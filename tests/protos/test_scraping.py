"""Scraping: over real HTTP, and through a file."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos import scraping
from protos.errors import ConfigurationError, FederationError, StorageError
from protos.metrics import Exporter
from protos.preflight import BAD, GOOD, UNCHECKED, Finding
from protos.scraping import Health, publish, serving

WELL = [Finding("SuperLink", GOOD, "answers"), Finding("other", UNCHECKED, "nobody knows")]
ILL = [Finding("SuperLink", GOOD, "answers"), Finding("reachable", BAD, "no route", "mend it")]


@pytest.fixture
def health():
    """One that is alive, but not ready."""
    return Health(lambda: ILL, lambda: WELL, "it")


@pytest.fixture
def exporter(health):
    return Exporter({"health": health.samples}, lambda said: None)


@contextmanager
def served(exporter, health, address="127.0.0.1:0"):
    """Serve, and yield a function that asks."""
    with serving(exporter, health, address) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            content = answer.read().decode()
            connection.close()
            return answer.status, answer.getheader("Content-Type", ""), content

        ask.port = server.server_address[1]
        try:
            yield ask
        finally:
            server.shutdown()
            thread.join()


def test_metrics_are_read_over_http(exporter, health):
    with served(exporter, health) as ask:
        status, kind, content = ask("/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        names = {family.name for family in text_string_to_metric_families(content)}
        assert {"onebasin_up", "onebasin_healthy", "onebasin_build_info"} <= names
        assert 'onebasin_healthy{check="reachable"} 0.0' in content
        assert "nobody knows" not in content
        assert "other" not in content  # what could not be checked is neither well nor ill
        openmetrics = ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert openmetrics[1].startswith("application/openmetrics-text")
        assert openmetrics[2].endswith("# EOF\n")


def test_liveness_and_readiness_are_two_answers(exporter, health):
    with served(exporter, health) as ask:
        assert ask("/healthz")[0] == 200
        status, kind, content = ask("/readyz")
        assert (status, kind) == (503, "application/json")
        found = json.loads(content)
        assert found["ready"] is False
        assert found["findings"][1] == {
            "what": "reachable",
            "state": "bad",
            "found": "no route",
            "fix": "mend it",
        }


@pytest.mark.parametrize("path", ["/", "/metrics/", "/favicon.ico", "/../etc/passwd", "/healthz/x"])
def test_there_is_nothing_else(exporter, health, path):
    with served(exporter, health) as ask:
        assert ask(path)[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_nothing_can_be_written(exporter, health, path):
    with served(exporter, health) as ask:
        assert ask(path, "POST")[0] == 405


def test_a_client_that_says_nothing_keeps_nobody_waiting(exporter, health):
    with served(exporter, health) as ask, socket.create_connection(("127.0.0.1", ask.port)) as silent:
        silent.sendall(b"GET /met")
        assert ask("/metrics")[0] == 200


def test_whoever_asks_often_does_not_keep_the_program_busy(monkeypatch):
    looks, now = [], [0.0]
    monkeypatch.setattr(scraping, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    health = Health(lambda: (looks.append("look"), WELL)[1], lambda: (looks.append("live"), WELL)[1], "it")
    for _ in range(5):
        health.findings()
        health.findings(live=True)
    assert sorted(looks) == ["live", "look"]
    now[0] = scraping.FRESH + 1
    health.findings()
    assert len(looks) == 3


def test_health_that_ends_in_an_error_is_a_bad_finding(exporter):
    def look():
        raise StorageError("the disk is gone", "find it")

    with served(exporter, Health(look, look, "the coordinator")) as ask:
        status, _, content = ask("/healthz")
        assert status == 503
        assert json.loads(content)["findings"][0]["found"] == "the disk is gone"


# ------------------------------------------------------------------ other ways


def test_once_prints_and_ends(exporter, health, capfdbinary):
    publish(exporter, health, "127.0.0.1:0", once=True, textfile=None)
    assert b"onebasin_up 1.0\n" in capfdbinary.readouterr().out


def test_a_textfile_is_whole_and_may_be_read_by_others(exporter, health, tmp_path):
    path = tmp_path / "onebasin.prom"
    path.write_text("old")
    publish(exporter, health, "", once=False, textfile=path)
    assert list(text_string_to_metric_families(path.read_text()))
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_textfile_that_nobody_would_read_is_refused(exporter, health, tmp_path):
    with pytest.raises(ConfigurationError, match="can't be a file of metrics"):
        publish(exporter, health, "", once=False, textfile=tmp_path / "metrics.txt")
    with pytest.raises(ConfigurationError, match="exclude each other"):
        publish(exporter, health, "", once=True, textfile=tmp_path / "a.prom")
    with pytest.raises(StorageError, match="can't write"):
        publish(exporter, health, "", once=False, textfile=tmp_path / "none" / "a.prom")


@pytest.mark.parametrize(
    "address", ["", "9109", ":9109", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1"]
)
def test_what_is_no_address_is_refused(exporter, health, address):
    with pytest.raises(ConfigurationError, match="is no address"), serving(exporter, health, address):
        pass


def test_a_port_in_use_is_named(exporter, health):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FederationError, match=f"can't listen for scrapes on {address}"):
            publish(exporter, health, address, once=False, textfile=None)
