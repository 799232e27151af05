"""Following a run from outside: its events as they are written, and its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from coordinator import superlink
from coordinator.home import CampaignFolder
from protos import faults
from protos.errors import FederationError, OnebasinError

Event = dict[str, Any]
_POLL = 0.5
_ASK = 5.0
"""Seconds between two questions to Flower whether a run is alive that doesn't hold its campaign."""


class RunFailedError(OnebasinError):
    """A run ended without a merged model; carries the exit code of what went wrong there."""

    def __init__(self, what: str, fix: str, exit_code: int) -> None:
        super().__init__(what, fix)
        self.exit_code = exit_code


def run(folder: CampaignFolder, on_event: Callable[[Event], None]) -> None:
    """Run a campaign on the SuperLink that is up, and wait for its end.

    Args:
        folder: The campaign.
        on_event: Called with each event of the run.

    Raises:
        ConfigurationError: It is running already.
        RunFailedError: It ended without a merged model.
        FederationError: The SuperLink can't be reached, or the run died without a word.

    """
    with folder.alone():
        folder.forget_outcome()
    seen = folder.events.stat().st_size if folder.events.exists() else 0
    run_id = superlink.submit(folder)
    faults.point("command-submitted")
    try:
        _wait(folder, run_id, seen, on_event)
    except KeyboardInterrupt:
        superlink.stop_run(folder.home, run_id)
        folder.end(ok=False, exit_code=130, what=f"campaign {folder.campaign.name} was interrupted", fix="")
        raise


def _wait(folder: CampaignFolder, run_id: str, seen: int, on_event: Callable[[Event], None]) -> None:
    asked = time.monotonic()
    finished = False
    while True:
        seen = _events(folder, seen, on_event)
        outcome = folder.outcome()
        if outcome is not None:
            _events(folder, seen, on_event)
            if outcome["ok"]:
                return
            raise RunFailedError(outcome["what"], outcome["fix"], outcome["exit_code"])
        if finished:
            raise FederationError(
                f"campaign {folder.campaign.name}: Flower's run {run_id} ended without a result",
                "the SuperLink's output says more; then run it again",
            )
        # Asking costs a process each time, and a run that is alive holds its campaign.
        if time.monotonic() - asked > _ASK and not folder.held():
            asked = time.monotonic()
            # The outcome is written before the run ends, so it is looked for once more after this.
            finished = superlink.run_status(folder.home, run_id).startswith("finished")
        time.sleep(_POLL)


def _events(folder: CampaignFolder, seen: int, on_event: Callable[[Event], None]) -> int:
    if not folder.events.exists():
        return seen
    with folder.events.open("rb") as file:
        file.seek(seen)
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written
            seen += len(line)
            on_event(json.loads(line))
    return seen


def sentence(event: Event) -> str:
    """Put an event into words, for a log."""
    site = f"{event['site']}: " if "site" in event else ""
    words = {
        "connected": "connected",
        "disconnected": "disconnected",
        "asked": f"asked for its update, in {event.get('parts')} parts",
        "header": f"submitting update {event.get('digest', '')[:12]}",
        "arrived": f"update arrived, {event.get('bytes', 0) / 1e6:.1f} MB",
        "folded": "folded into the merge state",
        "already-folded": "was folded in an earlier run",
        "summing": f"secure sum, {event.get('stage')}: {', '.join(event.get('sites', []))}",
        "dropped-out": f"dropped out of the secure sum, {event.get('stage')}: {event.get('message')}",
        "sum-given-up": f"the secure sum was given up, {event.get('stage')}: {event.get('message')}",
        "merging": f"merging {event.get('models')} models",
        "merged": f"merged {event.get('models')} models",
        "evaluating": f"evaluating {event.get('models')} models",
        "evaluated": f"evaluated {event.get('models')} models",
        "measuring": "asked for statistics of the merged model",
        "measured": "measured statistics of the merged model",
        "adopted": "has the merged model",
        "finished": "gave the merged model the statistics that were measured",
        "forgotten": f"dropped {event.get('updates')} single updates",
        "withdrawn": f"update {event.get('digest', '')[:12]} withdrawn",
        "completed": "a result that a crash had held up was put in its place",
        "reported": str(event.get("message", "")),
    }
    if event["event"] == "progress":
        eta = f", {event['eta']:.0f} s left" if event["eta"] else ""
        return f"{site}{event['state']} ({event['phase']}), step {event['step']} of {event['steps']}{eta}"
    return site + words.get(event["event"], f"{event['event']} {event.get('message', '')}".strip())
