"""What the demo shows while it runs: a live table on a terminal, a line per event otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from client import adapting
from client.joined import Joined
from coordinator.watching import sentence
from protos.errors import OnebasinError

_EVERY = 10.0
"""Seconds between two progress lines of a site, where there is no terminal."""


class Screen:
    """Shows how far each site is. Sites are on this machine, so their own files say it, second by second."""

    def __init__(self, console: Console, sites: Sequence[Joined]) -> None:
        self._console = console
        self._sites = sites
        self._phase = {joined.site.name: "waiting" for joined in sites}
        self._said: dict[str, tuple[str, float]] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def event(self, event: dict[str, Any]) -> None:
        """Take in an event of the coordinator."""
        site = event.get("site", "")
        if event["event"] == "progress":
            return  # the sites' own files are fresher
        if site:
            self._phase[site] = event["event"]
        if event["event"] != "reported":
            self._line(sentence(event))

    def tick(self) -> None:
        """Look at the sites again."""
        if self._console.is_terminal:
            return
        for joined in self._sites:
            name, status = joined.site.name, adapting.status(joined)
            if status.state != "adapting":
                continue
            key, said = self._said.get(name, ("", 0.0))
            if key != status.phase or time.monotonic() - said > _EVERY:
                self._said[name] = (status.phase, time.monotonic())
                steps = f"step {status.step} of {status.steps}, {status.eta:.0f} s left" if status.step else ""
                self._line(f"{name}: {_PHASES.get(status.phase, status.phase)} {steps}".rstrip())

    def _line(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}", highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("site", "phase", "", "step", "time left"):
            table.add_column(title, no_wrap=True)
        for joined in self._sites:
            name = joined.site.name
            try:
                status = adapting.status(joined)
            except OnebasinError:
                continue
            phase = self._phase[name]
            if status.state == "adapting":
                phase = _PHASES.get(status.phase, status.phase)
            table.add_row(
                name,
                _PHASES.get(phase, phase),
                ProgressBar(total=max(status.steps, 1), completed=status.step, width=30),
                f"{status.step} / {status.steps}" if status.steps else "",
                f"{status.eta:.0f} s" if status.state == "adapting" and status.eta else "",
            )
        return table


_PHASES = {
    "": "starting",
    "data": "rendering images",
    "adapt": "adapting",
    "update": "making the update",
    "header": "submitting",
}
