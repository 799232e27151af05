"""MLflow hears of an adaptation if the site says where, and never holds it up."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from client import adaptation
from client.training import tracking
from client.training.adapt import adapt
from client.training.logbook import EVERY, Logbook
from client.training.settings import AdaptSettings
from client.training.tracking import Tracked, Tracker, TrackingSettings
from protos.errors import ConfigurationError

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="the extra `mlflow` is not installed"
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave this process's variables as they were, and let MLflow keep its runs in a folder."""
    for name in tracking._ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what is set later is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture
def tracked(tmp_path) -> Tracked:
    settings = TrackingSettings(f"file://{tmp_path / 'runs'}", "streets")
    return Tracked(
        settings, "north autumn", {"lr": 0.004, "steps": 20}, {"site": "north"}, tmp_path / "mlflow.json"
    )


def runs(tracked):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracked.settings.mlflow)
    experiment = client.get_experiment_by_name(tracked.settings.experiment)
    return client, client.search_runs([experiment.experiment_id])


@needs_mlflow
def test_numbers_of_an_adaptation_arrive(base, feed, tracked):
    settings = AdaptSettings(steps=2 * EVERY, batch=2)
    adapt(base, "tiny-resnet", 19, feed, settings, lambda progress: None, tracked=tracked)
    client, (run,) = runs(tracked)
    assert run.info.run_name == "north autumn" and run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.004", "steps": "20"}
    assert run.data.tags["onebasin.site"] == "north"
    for name in ("loss", "learning rate", "pseudo-label coverage"):
        assert [entry.step for entry in client.get_metric_history(run.info.run_id, name)] == [EVERY, 2 * EVERY]


@needs_mlflow
def test_a_continued_adaptation_continues_its_run(tracked):
    for step in (10, 20):
        tracker = Tracker(tracked)
        tracker.write(step, {"loss": 1 / step})
        tracker.close()
    client, (run,) = runs(tracked)
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "loss")] == [10, 20]
    elsewhere = replace(tracked, settings=replace(tracked.settings, mlflow=tracked.settings.mlflow + "-2"))
    tracker = Tracker(elsewhere)
    tracker.write(30, {"loss": 1.0})
    tracker.close()
    assert len(runs(elsewhere)[1]) == len(runs(tracked)[1]) == 1


@needs_mlflow
def test_mlflow_tells_its_makers_nothing(tracked):
    Tracker(tracked).close()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"


@needs_mlflow
def test_what_the_operator_set_stays(tracked, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    Tracker(tracked).close()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"


@needs_mlflow
def test_a_dead_server_ends_no_adaptation(base, feed, tracked, caplog):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        dead = replace(tracked, settings=TrackingSettings(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        settings = AdaptSettings(steps=EVERY, batch=2)
        adapted = adapt(base, "tiny-resnet", 19, feed, settings, lambda progress: None, tracked=dead)
    assert adapted.student
    (record,) = [record for record in caplog.records if record.name == tracking.__name__]
    assert "training goes on" in record.getMessage()


@needs_mlflow
def test_a_server_that_never_answers_holds_nothing_up(tracked, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "CLOSING", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(replace(tracked, settings=TrackingSettings(address)))
        begun = time.monotonic()
        for step in range(tracking.WAITING + 500):
            tracker.write(step, {"loss": 1.0})
        tracker.close()
        assert time.monotonic() - begun < 5
    assert "training goes on" in caplog.text


@needs_mlflow
def test_a_server_that_comes_back_hears_the_rest(tracked, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    first = threading.Event()
    log = tracking._Run.log

    def flaky(run, entries):
        if not first.is_set():
            first.set()
            raise OSError("gone for a moment")
        log(run, entries)

    monkeypatch.setattr(tracking._Run, "log", flaky)
    tracker = Tracker(tracked)
    tracker.write(10, {"loss": 1.0})
    assert first.wait(30)
    tracker.write(20, {"loss": 0.5})
    tracker.close()
    client, (run,) = runs(tracked)
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "loss")] == [20]
    assert "gone for a moment" in caplog.text


def test_a_missing_package_is_named_with_the_extra(tracked, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="mlflow-skinny") as caught:
        Tracker(tracked)
    assert "onebasin[mlflow]" in caught.value.fix


def test_the_logbook_gives_every_tenth_step_to_both(tmp_path):
    class Heard:
        def __init__(self):
            self.steps, self.closed = [], False

        def write(self, step, values):
            self.steps.append(step)

        def close(self):
            self.closed = True

    heard = Heard()
    logbook = Logbook(None, tracker=heard)
    for step in range(1, 2 * EVERY + 5):
        logbook.write(step, {"loss": 1.0})
    logbook.close()
    assert (heard.steps, heard.closed) == ([EVERY, 2 * EVERY], True)


def test_by_default_nothing_is_sent_anywhere(world):
    site = next(iter(world.sites.values()))
    assert adaptation.tracked(site.joined(world.campaign.digest)) is None


def test_what_is_sent_names_the_site_the_campaign_and_the_numbers(world):
    site = world.sites["fog"]
    with site.settings_path.open("a") as file:
        file.write('\n[tracking]\nmlflow = "http://localhost:5000"\n')
    joined = type(site).open(site.folder).joined(world.campaign.digest)
    found = adaptation.tracked(joined)
    assert found.name == "fog one"
    assert found.tags == {
        "site": "fog",
        "campaign": world.campaign.digest.hex(),
        "base": world.campaign.message.base_digest.hex(),
    }
    assert found.parameters["model"] == "tiny-resnet" and found.parameters["steps"] == 450
    assert found.file.parent == joined.folder
