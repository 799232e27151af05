"""``onebasin site``: getting to know the coordinator, and saying yes to a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protos.options import PassphraseOption

if TYPE_CHECKING:
    from client.joined import Joined
    from client.site import Site
    from protos.campaign import Campaign

SiteArgument = Annotated[Path, typer.Argument(help="The site's folder.", metavar="FOLDER")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def init(
    folder: SiteArgument,
    name: Annotated[str, typer.Option(help="The site's name; its folder's if not given.")] = "",
    domain: Annotated[
        str,
        typer.Option(
            help="Domain of the built-in scenes: clear, dusty, adverse or night. Not given: folders of images."
        ),
    ] = "",
    superlink: Annotated[
        str,
        typer.Option(help="Host and port of the coordinator's SuperLink, if not the one that its welcome names."),
    ] = "",
    passphrase: PassphraseOption = False,
) -> None:
    """Make a site: its settings and its keys, which never leave it."""
    from client.site import Site
    from protos import keyfiles

    name = name or folder.resolve().name
    lock = keyfiles.new_passphrase() if passphrase else None
    site = Site.init(folder, name, address=superlink, domain=domain, passphrase=lock)
    typer.echo(f"made site {name} in {folder}")
    if not domain:
        typer.echo(f"say where its images are: [data] in {site.settings_path}")
    typer.echo(f"give the coordinator this file: {site.request_path}")
    typer.echo(f"its fingerprint, to be read aloud: {site.request().fingerprint}")


def fingerprint(folder: SiteArgument) -> None:
    """Print the fingerprint of the site's keys, which people read to each other."""
    from client.site import Site

    typer.echo(Site.open(folder).request().fingerprint)


def show(folder: SiteArgument, as_json: JsonOption = False) -> None:
    """Show the site's fingerprint, its coordinator's, and the campaign that it joined last, with its rules."""
    from client import acceptance
    from client.plain_words import rules
    from client.site import Site

    site = Site.open(folder)
    request, coordinator = site.request(), site.coordinator()
    joined = site.joined() if (site.folder / "campaigns" / "current").exists() else None
    if as_json:
        content = {
            "site": site.name,
            "fingerprint": request.fingerprint,
            "coordinator": coordinator.fingerprint if coordinator else None,
            "campaign": joined.campaign.digest.hex() if joined else None,
            "accepted": acceptance.accepted(joined) if joined else False,
            "rules": dict(rules(joined.campaign, site.name)) if joined else None,
        }
        typer.echo(json.dumps(content))
        return
    typer.echo(f"site         {site.name}")
    typer.echo(f"fingerprint  {request.fingerprint}")
    typer.echo(f"coordinator  {coordinator.fingerprint if coordinator else 'not known yet'}")
    typer.echo(f"joined       {joined.campaign.name if joined else 'no campaign'}")
    if joined:
        _say_rules(joined)
        yes = "yes" if acceptance.accepted(joined) else "no, so nothing is run: onebasin site accept"
        _say("accepted", yes)


def join(
    folder: SiteArgument,
    file: Annotated[
        Path,
        typer.Argument(help="What the coordinator sent: welcome.json, or a campaign.binpb.", metavar="FILE"),
    ],
    base: Annotated[
        Path | None, typer.Option(help="The base, the same file for all sites.", show_default=False)
    ] = None,
    fingerprint: Annotated[
        str, typer.Option(help="The coordinator's fingerprint, as its operator read it out; the first time only.")
    ] = "",
    accept: Annotated[
        str, typer.Option(help="Accept the campaign at once: its digest, as the coordinator displays it.")
    ] = "",
) -> None:
    """Take in what the coordinator sent, check it, show the campaign's rules, and keep it with the base.

    Nothing is run before you accept the campaign.
    """
    from client import enrolment
    from client.site import Site
    from protos import campaign as campaigns

    site = Site.open(folder)
    if _is_welcome(file):
        welcome = enrolment.take(site, file, fingerprint)
        typer.echo(f"coordinator {welcome.fingerprint} at {', '.join(welcome.message.addresses)}")
        brings = list(welcome.campaigns)
    else:
        brings = [campaigns.load(file)]
    if not brings:
        typer.echo("it brings no campaign yet: take in a new welcome when there is one")
    _accept(_joined(site, brings, base), accept)


def accept(
    folder: SiteArgument,
    campaign: Annotated[
        str, typer.Argument(help="Name or digest of the campaign; the last one joined if not given.")
    ] = "",
    digest: Annotated[
        str, typer.Option(help="Its digest as the coordinator displays it; 20 digits are enough.")
    ] = "",
) -> None:
    """Accept a campaign that was joined: without that, nothing is run and nothing leaves."""
    from client.site import Site

    joined = Site.open(folder).find(campaign)
    if not digest:
        _say_rules(joined)
        digest = typer.prompt("compare the digest with what the coordinator displays, and type 20 digits of it")
    _accept([joined], digest)


def _is_welcome(path: Path) -> bool:
    from protos.errors import ConfigurationError

    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}") from error


def _joined(site: Site, brings: list[Campaign], base: Path | None) -> list[Joined]:
    """Join what is new; a welcome may bring what was joined before, and campaigns of several bases."""
    from client.joined import Joined
    from protos.digest import short
    from protos.errors import BaseMismatchError

    known = {joined.campaign.digest: joined for joined in site.all_joined()}
    found, problem = [], None
    for campaign in brings:
        if campaign.digest in known and len(brings) > 1:
            found.append(known[campaign.digest])
            continue
        kept = Joined(site, campaign).base
        try:
            if base is None and not kept.exists():
                wanted = short(campaign.message.base_digest)
                said = f"campaign {campaign.name} starts from base {wanted}, which is not here"
                raise BaseMismatchError(said, "give it: --base FILE")
            joined = site.join_campaign(campaign, base or kept)
        except BaseMismatchError as error:
            problem = error
            typer.echo(f"not joined: {error.what}")
            continue
        typer.echo(f"joined campaign {campaign.name}")
        _say_rules(joined)
        found.append(joined)
    if problem is not None and not found:
        raise problem
    return found


def _accept(joined: list[Joined], digest: str) -> None:
    from client import acceptance
    from protos.errors import ConfigurationError

    if not digest:
        for one in joined:
            if not acceptance.accepted(one):
                typer.echo(f"not accepted yet: onebasin site accept {one.site.folder} {one.campaign.name}")
        return
    said = "".join(digest.split()).lower()
    meant = [one for one in joined if one.campaign.digest.hex().startswith(said)] or joined
    if not meant:
        raise ConfigurationError("there is no campaign to accept", "take in a welcome that brings one")
    acceptance.accept(meant[0], digest)
    typer.echo(f"accepted campaign {meant[0].campaign.name}")


def _say_rules(joined: Joined) -> None:
    from client.plain_words import rules

    for word, sentence in rules(joined.campaign, joined.site.name):
        _say(word, sentence)


def _say(word: str, sentence: str) -> None:
    typer.echo(f"  {word:<9} {sentence}")
