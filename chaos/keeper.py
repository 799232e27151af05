"""The keeper: starts again what ended, as systemd would, and the campaign's run, as its operator would."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from chaos.federation import SITES, SUPERLINK, Federation
from coordinator.campaign_folder import CampaignFolder

PAUSE = 2.0
"""Seconds until something is started again; systemd's ``RestartSec``."""
_COMMAND = "command"
_EVENT = re.compile(r"\d\d:\d\d:\d\d  ")


@dataclass
class Keeper:
    """Looks after one campaign on a federation.

    Attributes:
        federation: The federation.
        campaign: The campaign.
        away: Seconds that a program stays away, if longer than usual; by name.
        done: Whether the run ended well.
        runs: How often the run was started.
        lines: What the command said, and when (monotonic seconds).
        started: When which program was started again (monotonic seconds).

    """

    federation: Federation
    campaign: CampaignFolder
    away: dict[str, float] = field(default_factory=dict)
    done: bool = False
    runs: int = 0
    lines: list[tuple[float, str]] = field(default_factory=list)
    started: list[tuple[float, str]] = field(default_factory=list)
    _due: dict[str, float] = field(default_factory=dict)
    _read: int = 0

    def start(self) -> None:
        """Start the campaign's run, as its operator does."""
        home = self.federation.home.folder
        command = [sys.executable, "-m", "onebasin", "coordinator", "run", str(home), self.campaign.path.name]
        environment = {**self.federation.environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        self.federation.processes.start(_COMMAND, command, environment, self._log)
        self.runs += 1

    def tend(self) -> None:
        """Take in what has happened, and start again what is due."""
        self._listen()
        for name in (_COMMAND, SUPERLINK, *SITES):
            if name == _COMMAND and (self.done or not self.runs):
                continue
            if name in self._due:
                if time.monotonic() >= self._due[name]:
                    del self._due[name]
                    self.started.append((time.monotonic(), name))
                    self._start(name)
            elif (code := self._ended(name)) is not None:
                if name == _COMMAND and code == 0:
                    self.done = True
                else:
                    self._due[name] = time.monotonic() + self.away.pop(name, PAUSE)
        self._listen()

    def give_up(self) -> None:
        """Start the campaign's run no more."""
        if _COMMAND not in self._due and not self.done:
            self.federation.processes.kill(_COMMAND)
        self._due.pop(_COMMAND, None)
        self.done = True

    def continued(self, since: float) -> float | None:
        """Return when the campaign was first heard of after a moment; None if it was not."""
        return next((at for at, line in self.lines if at > since and _EVENT.match(line)), None)

    def _start(self, name: str) -> None:
        if name == _COMMAND:
            self.start()
        elif name == SUPERLINK:
            self.federation.start_superlink()
        else:
            self.federation.start_node(name)

    def _ended(self, name: str) -> int | None:
        try:
            return self.federation.processes.wait(name, 0)
        except subprocess.TimeoutExpired:
            return None
        except KeyError:  # it ended in an earlier round, whose keeper had no time to start it again
            return -1

    @property
    def _log(self) -> Path:
        return self.federation.folder / f"{self.campaign.path.name}.log"

    def _listen(self) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self.lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))
