"""Logging an adaptation to the site's own MLflow: beside training, never in its way.

Numbers go to a thread that sends them, so a slow server costs no step and a dead one only the numbers: what can't
be sent within a while is dropped, with one warning. Nothing is sent anywhere unless the operator names a server.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from protos import files
from protos.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)

WAITING: Final = 10_000
"""Entries that may wait to be sent; later ones are dropped."""
CLOSING: Final = 10.0
"""Seconds that the last entries have at the end of an adaptation."""
PAUSE: Final = 30.0
"""Seconds after a failure until the server is tried again."""
_AT_ONCE = 200
_Entry: TypeAlias = tuple[int, int, dict[str, float]]
"""A step, the time in milliseconds, and its numbers."""
_ENVIRONMENT = {
    # MLflow reports its use to its makers unless it is told not to. Nothing goes where the operator doesn't say.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # By itself it tries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@dataclass(frozen=True)
class TrackingSettings:
    """Where training logs go besides TensorBoard's. By default nowhere."""

    mlflow: str = ""
    """An MLflow tracking URI, e.g. ``http://localhost:5000``; empty: none. What is sent there: the numbers of
    ``[adapt]``, the site's and the campaign's names, and each tenth step's loss, learning rate and coverage."""
    experiment: str = "onebasin"
    """The MLflow experiment; it is made if there is none."""


@dataclass(frozen=True)
class Tracked:
    """A run as MLflow is to know it.

    Attributes:
        settings: Where to.
        name: What to call the run.
        parameters: What the run depends on.
        tags: What it belongs to.
        file: Where MLflow's name for the run is kept, so that a continued adaptation continues it.

    """

    settings: TrackingSettings
    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    file: Path


class Tracker:
    """Sends numbers to MLflow from a thread of its own.

    Args:
        tracked: The run.

    Raises:
        ConfigurationError: The package is missing.

    """

    def __init__(self, tracked: Tracked) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise ConfigurationError(
                "tracking.mlflow is set, and the package mlflow-skinny is not installed",
                "install onebasin with its extra `mlflow` (pip install 'onebasin[mlflow]'), or unset it",
            )
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._tracked = tracked
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._warned = False
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
        self._thread.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Have a step's numbers sent.

        Args:
            step: Steps done, from 1.
            values: Numbers by name.

        """
        if self._entries.qsize() < WAITING:
            self._entries.put((step, int(time.time() * 1000), dict(values)))
        else:
            self._warn("too many entries wait to be sent")

    def close(self) -> None:
        """Give the last entries a little time, and leave."""
        self._entries.put(None)
        self._thread.join(CLOSING)
        if self._thread.is_alive():
            self._warn(f"the last entries could not be sent within {CLOSING:.0f} s")

    def _send(self) -> None:
        """Send what comes, until the end; what fails is dropped."""
        run: _Run | None = None
        silent = 0.0
        while True:
            entries, ended = self._next()
            if entries and time.monotonic() >= silent:
                try:
                    run = run or _Run(self._tracked)
                    run.log(entries)
                except Exception as error:  # whatever a server, a network or a library does: training goes on
                    silent = time.monotonic() + PAUSE
                    self._warn(f"{type(error).__name__}: {_first_line(error)}")
            if ended:
                if run is not None and time.monotonic() >= silent:
                    self._finish(run)
                return

    def _next(self) -> tuple[list[_Entry], bool]:
        """Wait for entries, and return all that are there, and whether they were the last."""
        found = [self._entries.get()]
        while len(found) < _AT_ONCE and found[-1] is not None:
            try:
                found.append(self._entries.get_nowait())
            except queue.Empty:
                break
        return [entry for entry in found if entry is not None], found[-1] is None

    def _finish(self, run: _Run) -> None:
        try:
            run.finish()
        except Exception as error:
            self._warn(f"{type(error).__name__}: {_first_line(error)}")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("numbers for MLflow are being lost, training goes on: %s", what)


class _Run:
    """A run at the server: the one that was begun before, or a new one."""

    def __init__(self, tracked: Tracked) -> None:
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        settings = tracked.settings
        self._client: MlflowClient = MlflowClient(tracking_uri=settings.mlflow)
        self._id = _kept(tracked)
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(settings.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(settings.experiment)
        self._id = self._client.create_run(experiment, run_name=tracked.name).info.run_id
        parameters = [Param(key, str(value)) for key, value in tracked.parameters.items()]
        tags = [RunTag(f"onebasin.{key}", value) for key, value in tracked.tags.items()]
        self._client.log_batch(self._id, params=parameters, tags=tags)
        _keep(tracked, self._id)

    def log(self, entries: list[_Entry]) -> None:
        """Send numbers of steps."""
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, moment, step) for step, moment, values in entries for key, value in values.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self) -> None:
        """Say that the run is over."""
        self._client.set_terminated(self._id, "FINISHED")


def _kept(tracked: Tracked) -> str:
    """Return the run that an earlier process began at this server, or nothing."""
    try:
        found = json.loads(tracked.file.read_text())
        return str(found["run"]) if found["uri"] == tracked.settings.mlflow else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _keep(tracked: Tracked, run: str) -> None:
    try:
        files.write(tracked.file, json.dumps({"uri": tracked.settings.mlflow, "run": run}) + "\n")
    except StorageError as error:
        _log.warning("a continued adaptation will be a new run for MLflow: %s", error.what)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
