"""Following a run from outside: its events as they are written, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from coordinator import superlink
from coordinator.campaign_folder import CampaignFolder
from coordinator.journal import Event
from protos import faults, logs
from protos.errors import CancelledError, ConfigurationError, FederationError, OnebasinError

_POLL = 0.5
_GONE = 10.0
"""Seconds in which nobody holds a campaign until it counts as not running: one that starts takes a moment."""
REOPEN = "take it up again: onebasin coordinator run --reopen"
_ASK = 5.0
"""Seconds between two questions to Flower whether a run is alive that doesn't hold its campaign."""


class RunFailedError(OnebasinError):
    """A run ended without a merged model; carries the exit code of what went wrong there."""

    def __init__(self, what: str, fix: str, exit_code: int) -> None:
        super().__init__(what, fix)
        self.exit_code = exit_code


def run(folder: CampaignFolder, on_event: Callable[[Event], None], *, reopen: bool = False) -> None:
    """Run a campaign on the SuperLink that is up, and wait for its end.

    Args:
        folder: The campaign.
        on_event: Called with each event of the run.
        reopen: Whether to take up a campaign again that was cancelled.

    Raises:
        ConfigurationError: It is running already.
        CancelledError: It was cancelled, and is not to be taken up again.
        RunFailedError: It ended without a merged model.
        FederationError: The SuperLink can't be reached, or the run died without a word.

    """
    if folder.course().cancelled is not None and not reopen:
        raise CancelledError(f"campaign {folder.campaign.name} was cancelled", REOPEN)
    with folder.alone():
        folder.forget_outcome()
        if reopen:
            folder.cancel(cancelled=False)
    _raise_if_bad(_run(folder, on_event))


def cancel(folder: CampaignFolder, on_event: Callable[[Event], None]) -> None:
    """Cancel a campaign: end its run, and tell the sites to end their adapting processes.

    If no run is on, one is started that does nothing else. Sites that can't be reached go on adapting; whoever
    cancels once more tells them again.

    Args:
        folder: The campaign.
        on_event: Called with each event until the sites are told.

    Raises:
        ConfigurationError: It was merged just before.
        FederationError: It is cancelled, but the SuperLink can't be reached, so no site is told.

    """
    folder.cancel()
    if folder.held():
        outcome = _follow(folder, folder.home.journal.last(folder.key), on_event)
    else:
        folder.forget_outcome()
        seen = folder.home.journal.last(folder.key)
        try:
            run_id = superlink.submit(folder)
        except OnebasinError:
            folder.end(ok=False, exit_code=CancelledError.exit_code, what=_cancelled(folder), fix=REOPEN)
            raise
        outcome = _wait(folder, run_id, seen, on_event)
    if outcome["ok"]:
        folder.cancel(cancelled=False)
        raise ConfigurationError(f"campaign {folder.campaign.name} was merged before it could be cancelled")
    if outcome["exit_code"] != CancelledError.exit_code:
        folder.end(ok=False, exit_code=CancelledError.exit_code, what=_cancelled(folder), fix=REOPEN)


def watch(folder: CampaignFolder, on_event: Callable[[Event], None]) -> None:
    """Follow the run that is on, from its beginning to its end; of one that is over, show the events.

    Args:
        folder: The campaign.
        on_event: Called with each event.

    Raises:
        RunFailedError: The run ended without a merged model.
        FederationError: It died without a word, or there never was one.

    """
    _raise_if_bad(_follow(folder, folder.home.journal.last(folder.key, "started") - 1, on_event))


def _run(folder: CampaignFolder, on_event: Callable[[Event], None]) -> Mapping[str, Any]:
    """Submit a run, and return how it ended."""
    seen = folder.home.journal.last(folder.key)
    run_id = superlink.submit(folder)
    faults.point("command-submitted")
    try:
        return _wait(folder, run_id, seen, on_event)
    except KeyboardInterrupt:
        superlink.stop_run(folder.home, run_id)
        folder.end(ok=False, exit_code=130, what=f"campaign {folder.campaign.name} was interrupted", fix="")
        raise


def _wait(folder: CampaignFolder, run_id: str, seen: int, on_event: Callable[[Event], None]) -> Mapping[str, Any]:
    asked = time.monotonic()
    finished = begun = False
    while True:
        held = folder.held()  # looked at before the outcome, which a run writes before it lets go
        seen = _events(folder, seen, on_event)
        outcome = folder.outcome()
        if outcome is not None:
            _events(folder, seen, on_event)
            return outcome
        if finished or (begun and not held):
            raise FederationError(
                f"campaign {folder.campaign.name}: Flower's run {run_id} ended without a result",
                "the SuperLink's output says more; then run it again",
            )
        begun = begun or held
        # Asking Flower costs a process each time, and it takes a minute to notice that a run is dead.
        if time.monotonic() - asked > _ASK and not held:
            asked = time.monotonic()
            # The outcome is written before the run ends, so it is looked for once more after this.
            finished = superlink.run_status(folder.home, run_id).startswith("finished")
        time.sleep(_POLL)


def _follow(folder: CampaignFolder, seen: int, on_event: Callable[[Event], None]) -> Mapping[str, Any]:
    """Wait for the end of a run that somebody else started, and return how it ended."""
    alive = time.monotonic()
    while True:
        seen = _events(folder, seen, on_event)
        held, outcome = folder.held(), folder.outcome()
        if outcome is not None:
            _events(folder, seen, on_event)
            return outcome
        if held:
            alive = time.monotonic()
        elif time.monotonic() - alive > _GONE:
            raise FederationError(
                f"campaign {folder.campaign.name}: no run is on", "run it: onebasin coordinator run"
            )
        time.sleep(_POLL)


def _cancelled(folder: CampaignFolder) -> str:
    return f"campaign {folder.campaign.name} was cancelled"


def _raise_if_bad(outcome: Mapping[str, Any]) -> None:
    if not outcome["ok"]:
        raise RunFailedError(outcome["what"], outcome["fix"], outcome["exit_code"])


def _events(folder: CampaignFolder, seen: int, on_event: Callable[[Event], None]) -> int:
    """Show the events after one, and return the number of the last."""
    for number, event in folder.home.journal.events(folder.key, seen):
        seen = number
        on_event(event)
    return seen


def sentence(event: Event) -> str:
    """Put an event into words, for a log."""
    site = f"{event['site']}: " if "site" in event else ""
    words = {
        "started": "started",
        "corrected": f"was {event.get('said')} by the journal, and is {event.get('state')} by the merge state",
        "connected": "connected",
        "disconnected": "disconnected",
        "asked": "asked for its update",
        "taken-up": f"{event.get('bytes', 0) / 1e6:.1f} MB of its update came before, "
        f"{event.get('left', 0) / 1e6:.1f} MB are asked for",
        "header": f"submitting update {event.get('digest', '')[:12]}",
        "arrived": f"update arrived, {event.get('bytes', 0) / 1e6:.1f} MB",
        "folded": "folded into the merge state",
        "already-folded": "was folded in an earlier run",
        "summing": f"secure sum, {event.get('stage')}: {', '.join(event.get('sites', []))}",
        "dropped-out": f"dropped out of the secure sum, {event.get('stage')}: {event.get('message')}",
        "sum-given-up": f"the secure sum was given up, {event.get('stage')}: {event.get('message')}",
        "merging": f"merging {event.get('models')} models",
        "merged": f"merged {event.get('models')} models",
        "delivered": f"was sent models, {event.get('bytes', 0) / 1e6:.1f} MB",
        "evaluating": f"evaluating {event.get('models')} models",
        "evaluated": f"evaluated {event.get('models')} models",
        "measuring": "asked for statistics of the merged model",
        "measured": "measured statistics of the merged model",
        "adopted": "has the merged model",
        "receipted": "has the receipt for its update",
        "cancelled": "cancelled: telling the sites to stop adapting",
        "stopped": f"stopped at step {event.get('step')} of {event.get('steps')}; its checkpoint is kept",
        "finished": "gave the merged model the statistics that were measured",
        "forgotten": f"dropped {event.get('updates')} single updates",
        "withdrawn": f"update {event.get('digest', '')[:12]} withdrawn",
        "sent-on": f"the sum of {event.get('models')} sites is on its way to the coordinator above",
        "completed": "a result that a crash had held up was put in its place",
        "reported": str(event.get("message", "")),
    }
    if event["event"] == "progress":
        eta = f", {event['eta']:.0f} s left" if event["eta"] else ""
        return f"{site}{event['state']} ({event['phase']}), step {event['step']} of {event['steps']}{eta}"
    return site + words.get(event["event"], f"{event['event']} {event.get('message', '')}".strip())


_WARNINGS = frozenset(
    {
        *("corrected", "disconnected", "dropped-out", "missing", "no-answer", "not-adopted", "not-evaluated"),
        *("not-measured", "not-receipted", "not-stopped", "refused", "stranger", "sum-given-up"),
    }
)


_OWN = frozenset({"at", "campaign", "event", "level", "message", "time"})
"""What a line has of its own, whatever an event may call its fields."""


def log_line(event: Event, campaign: str) -> str:
    """Put an event of a campaign into a line for a log: text, or JSON if that is asked for."""
    if not logs.as_json():
        return f"{time.strftime('%H:%M:%S', time.localtime(event['time']))}  {sentence(event)}"
    more = {key: value for key, value in event.items() if key not in _OWN}
    level = "warning" if event["event"] in _WARNINGS else "info"
    return logs.line(
        sentence(event), level=level, event=event["event"], at=event["time"], campaign=campaign, **more
    )
