"""``onebasin region``: a coordinator takes part in a campaign of a coordinator above it, as someone types it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protos.options import PassphraseOption

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Take part in another coordinator's campaign as a region: send the sum of a campaign of one's own.",
)

FolderArgument = Annotated[Path, typer.Argument(help="The region's folder.", metavar="FOLDER")]
HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="COORDINATOR")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    folder: FolderArgument,
    coordinator: HomeArgument,
    name: Annotated[str, typer.Option(help="What it is called above; its folder's name if not given.")] = "",
    superlink: Annotated[
        str, typer.Option(help="Host and port of the SuperLink above, if not the one that its welcome names.")
    ] = "",
    passphrase: PassphraseOption = False,
) -> None:
    """Make a region's folder, with keys of its own. From then on `onebasin site` serves it like a site's."""
    from coordinator.home import Home
    from onebasin import region
    from protos import keyfiles

    home, name = Home.open(coordinator), name or folder.resolve().name
    lock = keyfiles.new_passphrase() if passphrase else None
    site = region.init(folder, home, name, address=superlink, passphrase=lock)
    typer.echo(f"made region {name} in {folder}, of the coordinator {home.fingerprint}")
    typer.echo(f"give the coordinator above this file: {site.request_path}")
    typer.echo(f"its fingerprint, to be read aloud: {site.request().fingerprint}")


@app.command("sum")
def put_sum(
    folder: FolderArgument,
    coordinator: HomeArgument,
    campaign: Annotated[str, typer.Argument(help="The region's own campaign, finished.", metavar="CAMPAIGN")],
    above: Annotated[
        str, typer.Option(help="Name or digest of the campaign above; the last one joined if not given.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Put the sum of a finished campaign into the region's outbox: its update for the campaign above.

    The region's SuperNode sends it when the coordinator above asks. Only sums leave: of parameters, of statistics,
    with the number of sites, a token of each, and the digest of the receipt, which stays here.
    """
    from client.site import Site
    from coordinator.home import Home
    from onebasin import region
    from protos import printing

    joined = Site.open(folder).find(above)
    found = region.put(joined, Home.open(coordinator).campaign(campaign))
    if as_json:
        printing.show(
            {
                "campaign": joined.campaign.digest.hex(),
                "update": found.digest.hex(),
                "models": found.models,
                "receipt": found.receipt,
            }
        )
        return
    typer.echo(f"the sum of {found.models} sites is in the outbox, update {found.digest.hex()[:12]}")
    typer.echo(f"look at what would leave: onebasin site preview {folder}")
