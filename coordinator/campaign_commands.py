"""``onebasin coordinator status``, ``watch``, ``cancel``: commands about a campaign that is under way, or was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")]
NameArgument = Annotated[str, typer.Argument(help="The campaign's name.", metavar="CAMPAIGN")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status(folder: HomeArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Say where a campaign stands: its deadline, each member's state and whose turn it is, the last run's end."""
    from coordinator.home import Home
    from coordinator.overview import overview

    found = overview(Home.open(folder).campaign(name))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
        return
    for line in found.as_text():
        typer.echo(line)


def watch(folder: HomeArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Follow a campaign's run to its end, from its beginning; with `--json` one object per line.

    Ends with the exit code of the run. Ctrl-C ends the watching, not the run.
    """
    from coordinator.home import Home
    from coordinator.watching import watch as watch_campaign
    from protos import logs

    logs.about(campaign=name)
    watch_campaign(Home.open(folder).campaign(name), _shown(name, as_json=as_json))


def cancel(folder: HomeArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Cancel a campaign: end its run, and have the sites stop adapting. They keep their checkpoints.

    What is merged or arrived stays. Sites that can't be reached now are told by cancelling once more. Only
    `onebasin coordinator run --reopen` takes the campaign up again.
    """
    from coordinator.home import Home
    from coordinator.watching import cancel as cancel_campaign

    found = Home.open(folder).campaign(name)
    seen: list[dict[str, Any]] = []
    cancel_campaign(found, seen.append if as_json else _shown(name, as_json=False))
    if as_json:
        content = {
            "campaign": found.campaign.name,
            "digest": found.key,
            "stopped": [event["site"] for event in seen if event["event"] == "stopped"],
            "not_stopped": {e["site"]: e["message"] for e in seen if e["event"] == "not-stopped"},
        }
        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo(f"campaign {found.campaign.name} is cancelled")


def _shown(campaign: str, *, as_json: bool) -> Callable[[dict[str, Any]], None]:
    from coordinator.watching import log_line

    return lambda event: typer.echo(json.dumps(event) if as_json else log_line(event, campaign))
