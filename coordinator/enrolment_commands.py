"""``onebasin coordinator``: who may take part, and whether all is ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordinator.home import Home

HomeArgument = Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")]
SiteArgument = Annotated[str, typer.Argument(help="An approved site's name.", metavar="SITE")]


def approve(
    folder: HomeArgument,
    request: Annotated[Path, typer.Argument(help="The site's request.json.", metavar="REQUEST")],
    fingerprint: Annotated[str, typer.Option(help="The site's fingerprint, as its operator read it out.")] = "",
    renew: Annotated[
        bool, typer.Option("--renew", help="The site has new keys: they take the old ones' place.")
    ] = False,
) -> None:
    """Take a site in: check its request by the fingerprint, let its node in, and write its welcome."""
    from coordinator import roster
    from coordinator import superlink as flower
    from coordinator.home import Home

    home = Home.open(folder)
    fingerprint = fingerprint or typer.prompt(f"the fingerprint that the operator of {request} reads out")
    found = roster.approve(home, request, fingerprint, renew=renew)
    running = flower.is_running(home)
    if running:
        if renew:
            flower.unregister(home, found.site)
        flower.register(home, found)
    typer.echo(f"approved {found.site}, fingerprint {found.fingerprint}")
    if not running:
        typer.echo("it is let in when the SuperLink starts")
    typer.echo(f"give it this file: {roster.folder_of(home, found.site) / 'welcome.json'}")
    typer.echo(f"and read out your fingerprint: {home.fingerprint}")


def welcome(folder: HomeArgument, site: SiteArgument) -> None:
    """Write a site's welcome anew: with today's certificates, and the campaigns that wait for it."""
    from coordinator import roster
    from coordinator.home import Home

    home = Home.open(folder)
    typer.echo(f"give {site} this file: {roster.write_welcome(home, roster.find(home, site))}")


def revoke(folder: HomeArgument, site: SiteArgument) -> None:
    """Strike a site off: its node is let in no more, and no new campaign can list it."""
    from coordinator import roster
    from coordinator import superlink as flower
    from coordinator.home import Home

    home = Home.open(folder)
    roster.revoke(home, site)
    if flower.is_running(home):
        flower.unregister(home, site)
    typer.echo(f"revoked {site}")
    waiting = [
        found.path.name for found in home.campaigns() if site in found.campaign.keys and not found.outcome()
    ]
    if waiting:
        typer.echo(f"it is a member of {', '.join(waiting)}: lay that down anew, or it will wait for the site")


def register(
    folder: HomeArgument,
    site: Annotated[
        list[str] | None,
        typer.Argument(help="Approved sites; all if none is named.", metavar="[SITE…]", show_default=False),
    ] = None,
) -> None:
    """Let approved sites' nodes into the running SuperLink. Seldom needed: approving and starting do it."""
    from coordinator import roster
    from coordinator import superlink as flower
    from coordinator.home import Home

    home = Home.open(folder)
    for request in [roster.find(home, name) for name in site] if site else roster.approved(home):
        flower.register(home, request)
        typer.echo(f"registered {request.site}, fingerprint {request.fingerprint}")


def fingerprint(folder: HomeArgument) -> None:
    """Print the fingerprint of the coordinator's key, which people read to each other."""
    from coordinator.home import Home

    typer.echo(Home.open(folder).fingerprint)


def digest(
    folder: HomeArgument, name: Annotated[str, typer.Argument(help="The campaign's name.", metavar="CAMPAIGN")]
) -> None:
    """Print a campaign's digest, by which sites accept it."""
    from coordinator.home import Home

    typer.echo(Home.open(folder).campaign(name).campaign.digest.hex())


def preflight(
    folder: HomeArgument, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Look whether the coordinator is ready: keys, certificates, disk, settings, sites, and its SuperLink.

    Ends with exit code 15 if it is not.
    """
    from coordinator.home import Home
    from coordinator.preflight import look
    from protos import preflight as looks
    from protos import printing

    found = list(look(Home.open(folder)))
    printing.show(looks.as_json(found) if as_json else [looks.table(found)])
    looks.check(found, "the coordinator")


def renew_certificate(folder: HomeArgument) -> None:
    """Make a new certificate for the SuperLink, for the hosts in coordinator.toml. Sites notice nothing."""
    from coordinator import certificates
    from coordinator.home import Home

    home = Home.open(folder)
    certificates.renew(home.keys, home.certificate_hosts)
    typer.echo(f"renewed {home.keys / 'server.pem'}, for {', '.join(dict.fromkeys(home.certificate_hosts))}")
    typer.echo("stop the SuperLink and start it again")


def renew_authority(
    folder: HomeArgument,
    finish: Annotated[
        bool, typer.Option("--finish", help="All sites have their new welcome: trust the old authority no more.")
    ] = False,
) -> None:
    """Make a new certificate authority, in two steps, so that no site is locked out.

    First, it writes welcomes with both authorities, for all sites to take in. When they have: --finish.
    """
    from coordinator import certificates, roster
    from coordinator.home import Home

    home = Home.open(folder)
    if finish:
        certificates.switch_authority(home.keys, home.certificate_hosts)
        typer.echo("the new authority has taken over; stop the SuperLink and start it again")
    else:
        certificates.stage_authority(home.keys)
    for request in roster.approved(home):
        typer.echo(f"give {request.site} this file: {roster.write_welcome(home, request)}")
    if not finish:
        typer.echo("when all have taken it in: onebasin coordinator renew-authority --finish")


def warn(home: Home) -> None:
    """Say on standard error which of the coordinator's certificates end soon."""
    from protos import logs, validity

    for name, fix in (("server.pem", "renew-certificate"), ("ca.crt", "renew-authority")):
        if said := validity.warning(home.keys / name, f"renew it: onebasin coordinator {fix}"):
            logs.say(said, level="warning", event="certificate", err=True)
