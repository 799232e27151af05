"""``onebasin site``: what a site's operator types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from client.data_commands import check_data
from client.enrolment_commands import accept, fingerprint, init, join, show
from client.health import health
from client.judging_commands import evaluate, predict
from client.metrics import metrics
from protos.options import use_passphrase_file

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


app.callback()(use_passphrase_file)

for command in (init, show, fingerprint, join, accept):
    app.command()(command)


@app.command()
def supernode(folder: SiteArgument) -> None:
    """Run the SuperNode that connects to the coordinator, and restart it if it dies; ends with Ctrl-C."""
    from client.site import Site
    from client.supernode import serve
    from protos import logs

    site = Site.open(folder)
    logs.about(site=site.name)
    serve(site, lambda said, level: logs.say(said, level=level, event="supernode", err=True))


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
    from protos import logpump, logs

    joined = Site.open(folder).joined(_digest(campaign))
    logs.about(site=joined.site.name, campaign=joined.campaign.name)
    logpump.start()
    adapting.run(joined, lock if lock >= 0 else None)
    logs.say("the update is in the outbox", event="adapted")


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
def outbox(
    folder: SiteArgument,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the updates that are receipted; pending ones always stay.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List this site's updates: those that are pending, and those for which the coordinator's receipt is here.

    A receipted update is merged, and not needed for that any more. But with nothing else can it be withdrawn from
    the merge, so it stays until you clear it; `onebasin site export` makes a copy to keep elsewhere.
    """
    from client import stock
    from client.site import Site
    from protos import printing

    site = Site.open(folder)
    if clear:
        for entry in stock.clear(site):
            freed = f"{entry.bytes / 1e6:.1f} MB"
            typer.echo(f"cleared update {entry.update[:12]} of campaign {entry.campaign}, {freed}", err=as_json)
    found = stock.stock(site)
    content = {"site": site.name, "updates": [entry.as_json() for entry in found]}
    printing.show(content if as_json else [stock.table(found)])


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


@app.command()
def preview(
    folder: SiteArgument,
    campaign: Annotated[
        str, typer.Argument(help="Name or digest of the campaign; the last one joined if not given.")
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option("--bytes", help="Write the exact bytes that would leave into this file.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that leaves with the pending update: each field, each tensor, and to whom it goes."""
    from client import preview as previews
    from client.preview_text import as_text
    from client.site import Site
    from protos import printing

    joined = Site.open(folder).find(campaign)
    found = previews.preview(joined)
    printing.show(found.as_json() if as_json else as_text(found))
    if to is not None:
        typer.echo(f"wrote {previews.write_bytes(joined, to):,} bytes that would leave, in {to}", err=as_json)


@app.command()
def preflight(folder: SiteArgument, as_json: JsonOption = False) -> None:
    """Look whether this site is ready: keys, certificates, clock, disk, GPU, settings, coordinator.

    Ends with exit code 15 if it is not.
    """
    from client.preflight import look
    from client.site import Site
    from protos import preflight as looks
    from protos import printing

    site = Site.open(folder)
    found = list(look(site))
    printing.show(looks.as_json(found) if as_json else [looks.table(found)])
    looks.check(found, f"site {site.name}")


app.command()(health)
app.command()(metrics)
app.command("check-data")(check_data)
app.command()(evaluate)
app.command()(predict)


def _digest(campaign: str) -> bytes | None:
    from protos.errors import ConfigurationError

    try:
        return bytes.fromhex(campaign) or None
    except ValueError:
        raise ConfigurationError(f"{campaign!r} is no digest", "onebasin site show prints it in full") from None
