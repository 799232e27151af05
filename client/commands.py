"""``onebasin site``: what a site's operator types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from client.data_commands import check_data
from client.judging_commands import evaluate, predict

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Take part in a campaign: adapt the base to this site's images, send one update.",
)

SiteArgument = Annotated[Path, typer.Argument(help="The site's folder.", metavar="FOLDER")]
CampaignOption = Annotated[
    str, typer.Option("--campaign", help="Digest of the campaign; the last one joined if not given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_BUFFERS = {
    "pooled": "statistics pooled over the members' updates",
    "own": "the statistics of this site's own update",
    "recalibrated": "statistics that this site measures for it on its own images; they stay here",
    "pooled-recalibrated": "statistics that the members measure for it on their own images, pooled",
    "routed": "every member's statistics, among which it chooses for each image",
}
"""What statistics the merged model has here, by the campaign's rule."""


@app.command()
def init(
    folder: SiteArgument,
    name: Annotated[str, typer.Option(help="The site's name.")],
    superlink: Annotated[str, typer.Option(help="Host and port of the coordinator's SuperLink.")],
    domain: Annotated[str, typer.Option(help="Domain of the built-in scenes: clear, dusty, adverse or night.")],
) -> None:
    """Make a site: its settings and its keys, which never leave it."""
    from client.site import Site

    site = Site.init(folder, name, address=superlink, domain=domain)
    typer.echo(f"made site {name} in {folder}")
    typer.echo(f"give the coordinator this file: {site.request_path}")
    typer.echo(f"its fingerprint, to be read aloud: {site.request().fingerprint}")


@app.command()
def show(folder: SiteArgument, as_json: JsonOption = False) -> None:
    """Show the site's name, the fingerprint of its keys, and the campaign that it joined last."""
    from client.site import Site
    from protos.errors import ConfigurationError

    site = Site.open(folder)
    request = site.request()
    try:
        digest = site.joined().campaign.digest.hex()
    except ConfigurationError:
        digest = ""
    if as_json:
        content = {"site": site.name, "fingerprint": request.fingerprint, "campaign": digest or None}
        typer.echo(json.dumps(content))
        return
    typer.echo(f"site         {site.name}")
    typer.echo(f"fingerprint  {request.fingerprint}")
    typer.echo(f"campaign     {digest or 'none joined'}")


@app.command()
def join(
    folder: SiteArgument,
    campaign: Annotated[Path, typer.Option(help="The campaign's file, from the coordinator.")],
    base: Annotated[Path, typer.Option(help="The base, the same file for all sites.")],
    certificate: Annotated[
        Path | None, typer.Option(help="The coordinator's certificate, ca.crt.", show_default=False)
    ] = None,
) -> None:
    """Join a campaign: check it and its base, and keep both."""
    from client.site import Site
    from protos.campaign import MEASURED

    joined = Site.open(folder).join(campaign, base, certificate)
    rules = joined.campaign.rules
    typer.echo(f"joined campaign {joined.campaign.name}")
    typer.echo(f"  digest   {joined.campaign.digest.hex()}")
    typer.echo(f"  members  {', '.join(joined.campaign.sites)}")
    typer.echo(f"  sends    the {rules.copy}'s parameters and BatchNorm statistics")
    if rules.deliver:
        typer.echo(f"  gets     the merged model, with {_BUFFERS[rules.buffers]}")
    if rules.buffers in MEASURED:
        seen = "all members see" if rules.buffers == "routed" else "the coordinator sees"
        typer.echo(f"  measures the merged model's statistics on this site's unlabelled images; {seen} them")
    if rules.compare_single_models:
        typer.echo("  note     this campaign lets other members see this site's model (compare_single_models)")


@app.command()
def supernode(folder: SiteArgument) -> None:
    """Run the SuperNode that connects to the coordinator, and restart it if it dies; ends with Ctrl-C."""
    from client.site import Site
    from client.supernode import serve

    serve(Site.open(folder), lambda line: typer.echo(line, err=True))


@app.command()
def adapt(
    folder: SiteArgument,
    campaign: CampaignOption = "",
    lock: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Adapt now, in the foreground; continues where an earlier try stopped. Needs no network.

    A running SuperNode starts this by itself when the coordinator asks.
    """
    from client import adapting
    from client.site import Site

    joined = Site.open(folder).joined(_digest(campaign))
    adapting.run(joined, lock if lock >= 0 else None)
    typer.echo("the update is in the outbox")


@app.command()
def export(
    folder: SiteArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    campaign: CampaignOption = "",
) -> None:
    """Write the update into one file: to withdraw it, or to have the merge recomputed from it.

    It holds what was sent and nothing else: parameters and the signed header. Hand it to the coordinator only.
    """
    from client.outbox import Outbox
    from client.site import Site

    digest = Outbox(Site.open(folder).joined(_digest(campaign))).export(output)
    typer.echo(f"update {digest.hex()[:12]}, {output.stat().st_size / 1e6:.1f} MB: {output}")


@app.command()
def status(folder: SiteArgument, campaign: CampaignOption = "", as_json: JsonOption = False) -> None:
    """Say how far adapting is."""
    from dataclasses import asdict

    from client import adapting
    from client.site import Site

    joined = Site.open(folder).joined(_digest(campaign))
    found = adapting.status(joined)
    if as_json:
        typer.echo(json.dumps({"site": joined.site.name, "campaign": joined.campaign.name, **asdict(found)}))
        return
    typer.echo(f"site {joined.site.name}, campaign {joined.campaign.name}: {found.state}")
    if found.steps:
        typer.echo(f"  {found.phase}: step {found.step} of {found.steps}, {found.eta:.0f} s left")
    if found.note:
        typer.echo(f"  {found.note}{f', {found.memory} MB of GPU memory' if found.memory else ''}")
    if found.message:
        typer.echo(f"  {found.message}")
        typer.echo(f"  log: {joined.folder / 'adapt.log'}")


app.command("check-data")(check_data)
app.command()(evaluate)
app.command()(predict)


def _digest(campaign: str) -> bytes | None:
    from protos.errors import ConfigurationError

    try:
        return bytes.fromhex(campaign) or None
    except ValueError:
        raise ConfigurationError(f"{campaign!r} is no digest", "onebasin site show prints it in full") from None
