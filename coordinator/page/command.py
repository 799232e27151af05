"""``onebasin coordinator serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")],
    host: Annotated[
        str,
        typer.Option(help="Where to listen. Elsewhere than on loopback the page is served over TLS only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8643,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Another host name by which browsers ask for it, such as a reverse proxy's; repeat for more.",
            show_default=False,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="A certificate (PEM) instead of the coordinator's own.", show_default=False),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).", show_default=False)] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Make another token; who has the old one can't log in again.")
    ] = False,
) -> None:
    """Serve a page that shows campaigns, sites, receipts and the audit log; ends with Ctrl-C.

    Whoever has its token, which is kept in the coordinator's folder, can approve, cancel and withdraw there.
    """
    from coordinator.home import Home
    from coordinator.page.serving import Place, Server

    place = Place(host, port, tuple(name or ()), certificate, key)
    server = Server(Home.open(folder), place, new_token=new_token)
    typer.echo(f"the page: {server.address}")
    typer.echo(f"the token that opens it is in {server.token_file}")
    server.run()
