"""``onebasin coordinator status``: commands about a campaign that is under way, or was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
