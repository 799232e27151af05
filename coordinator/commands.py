"""``onebasin coordinator``: what the coordinator's operator types."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Lay down a campaign, collect the sites' updates, merge them once.",
)

HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")]
NameArgument = Annotated[str, typer.Argument(help="The campaign's name.", metavar="CAMPAIGN")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    folder: HomeArgument,
    host: Annotated[
        list[str], typer.Option(help="A name or address under which sites reach this machine; repeat for more.")
    ] = ["localhost", "127.0.0.1"],  # noqa: B006  # typer wants a list, and nobody changes it
    listen: Annotated[str, typer.Option(help="Host and port on which to listen for sites.")] = "0.0.0.0:9092",
    control_port: Annotated[int, typer.Option(help="Port of Flower's Control API, on loopback only.")] = 9093,
) -> None:
    """Make a coordinator: settings, certificate authority, keys."""
    from coordinator.home import Home

    home = Home.init(folder, hosts=tuple(host), control_port=control_port, fleet_address=listen)
    typer.echo(f"made a coordinator in {home.folder}")
    typer.echo(f"give sites this certificate: {home.keys / 'ca.crt'}")


@app.command()
def create(
    folder: HomeArgument,
    name: NameArgument,
    base: Annotated[Path, typer.Option(help="The base, from `onebasin base train`.")],
    site: Annotated[list[Path], typer.Option(help="A member's request.json; repeat for each member.")],
    minimum_sites: Annotated[int, typer.Option(min=0, help="Updates needed for a merge; 0: all.")] = 0,
    deadline: Annotated[int, typer.Option(min=1, help="Seconds until it must have them.")] = 7 * 86_400,
    patience: Annotated[
        int, typer.Option(min=1, help="Seconds of silence after which a site is given up.")
    ] = 86_400,
    compare_single_models: Annotated[
        bool,
        typer.Option(
            "--compare-single-models", help="Let each site's model travel to the others, to be compared there."
        ),
    ] = False,
    copy: Annotated[str, typer.Option(help="Which copy sites send: student or teacher.")] = "student",
    evaluate: Annotated[bool, typer.Option(help="Let sites judge the merged model on held-out images.")] = True,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate",
            help="Let each site measure the merged model's BatchNorm statistics on its own unlabelled images, and "
            "judge and keep that model. The statistics stay at the site.",
        ),
    ] = False,
) -> None:
    """Lay down a campaign: its base, its members, its rules."""
    from coordinator.home import Home
    from protos.campaign import Rules
    from protos.enrolment import Request

    home = Home.open(folder)
    requests = [Request.read(path) for path in site]
    rules = Rules(minimum_sites, deadline, patience, compare_single_models, copy, evaluate, recalibrate)
    members = {request.site: request.keys for request in requests}
    if len(members) < len(requests):
        from protos.errors import ConfigurationError

        raise ConfigurationError("two of the requests are from sites of the same name", "rename one of the sites")
    made = home.create(name, base, members=members, rules=rules)
    for request in requests:
        request.write(_requests(home.folder) / f"{request.site}.json")
    typer.echo(f"campaign {name}: {made.campaign.digest.hex()}")
    typer.echo(f"give sites this file: {made.campaign_file}")


@app.command()
def superlink(folder: HomeArgument) -> None:
    """Run the SuperLink that sites connect to; ends with Ctrl-C."""
    import os

    from coordinator import superlink as flower
    from coordinator.home import Home
    from protos.programs import environment

    home = Home.open(folder)
    flower.write_connection(home)
    command = flower.superlink_command(home)
    os.execvpe(command[0], command, environment(home.flower))  # noqa: S606


@app.command()
def register(
    folder: HomeArgument,
    request: Annotated[list[Path], typer.Argument(help="A site's request.json.", metavar="REQUEST…")],
) -> None:
    """Let sites' SuperNodes connect to the running SuperLink."""
    from coordinator import superlink as flower
    from coordinator.home import Home
    from protos.enrolment import Request

    home = Home.open(folder)
    for path in request:
        found = Request.read(path)
        flower.register(home, found)
        typer.echo(f"registered {found.site}, fingerprint {found.fingerprint}")


@app.command()
def run(folder: HomeArgument, name: NameArgument) -> None:
    """Run a campaign: collect, merge, evaluate, report. Exits with 0 only if there is a merged model."""
    from rich.console import Console

    from coordinator.home import Home
    from coordinator.report.format import from_json
    from coordinator.report.table import results_table
    from coordinator.watching import run as run_campaign
    from coordinator.watching import sentence

    found = Home.open(folder).campaign(name)

    def show(event: dict[str, Any]) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.localtime(event['time']))}  {sentence(event)}")

    run_campaign(found, show)
    Console().print(results_table(from_json((found.merged / "report.json").read_text())))
    typer.echo(f"merged model, card, receipt and report: {found.merged}")


@app.command()
def status(folder: HomeArgument, name: NameArgument, as_json: JsonOption = False) -> None:
    """Say how far a campaign is: the last word of each site, and how the last run ended."""
    from coordinator.home import Home
    from coordinator.watching import sentence

    found = Home.open(folder).campaign(name)
    events = found.events.read_text().splitlines() if found.events.exists() else []
    last = {event.get("site", ""): event for event in map(json.loads, events)}
    outcome = found.outcome()
    if as_json:
        content = {
            "campaign": found.campaign.name,
            "digest": found.campaign.digest.hex(),
            "sites": {site: last.get(site) for site in found.campaign.sites},
            "outcome": outcome,
        }
        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo(f"campaign {found.campaign.name}  {found.campaign.digest.hex()}")
    for site in found.campaign.sites:
        typer.echo(f"  {sentence(last[site]) if site in last else f'{site}: nothing heard yet'}")
    if outcome is not None:
        typer.echo(f"last run: {'merged' if outcome['ok'] else outcome['what']}")


def _requests(folder: Path) -> Path:
    from protos import files

    return files.make_folder(folder / "sites")
