"""``onebasin coordinator``: what the coordinator's operator types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coordinator.backup_commands import backup, restore
from coordinator.campaign_commands import cancel, status, watch
from coordinator.enrolment_commands import (
    approve,
    digest,
    fingerprint,
    preflight,
    register,
    renew_authority,
    renew_certificate,
    revoke,
    warn,
    welcome,
)
from coordinator.health import health
from coordinator.metrics import metrics
from coordinator.page.command import serve
from protos.options import PassphraseOption, use_passphrase_file

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Lay down a campaign, collect the sites' updates, merge them once.",
)

app.callback()(use_passphrase_file)

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
    passphrase: PassphraseOption = False,
) -> None:
    """Make a coordinator: settings, certificate authority, keys."""
    from coordinator.home import Home
    from protos import keyfiles

    lock = keyfiles.new_passphrase() if passphrase else None
    home = Home.init(folder, hosts=tuple(host), control_port=control_port, fleet_address=listen, passphrase=lock)
    typer.echo(f"made a coordinator in {home.folder}")
    typer.echo(f"its fingerprint, to be read aloud: {home.fingerprint}")


@app.command()
def create(
    folder: HomeArgument,
    name: NameArgument,
    base: Annotated[Path, typer.Option(help="The base, from `onebasin base train`.")],
    site: Annotated[list[str], typer.Option(help="A member: an approved site's name; repeat for each member.")],
    minimum_sites: Annotated[int, typer.Option(min=0, help="Updates needed for a merge; 0: all.")] = 0,
    require: Annotated[
        list[str] | None,
        typer.Option(help="A member without which nothing is merged; repeat for more.", show_default=False),
    ] = None,
    deadline: Annotated[int, typer.Option(min=1, help="Seconds from the first run until it must have them.")] = 7
    * 86_400,
    at_deadline: Annotated[
        str,
        typer.Option(
            help="If members are awaited then: `merge` those that have delivered, if they are enough; `fail`; or "
            "`wait` until they are enough."
        ),
    ] = "merge",
    patience: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seconds of silence after which a site is given up; 0: a seventh of the deadline, up to a day.",
        ),
    ] = 0,
    compare_single_models: Annotated[
        bool,
        typer.Option(
            "--compare-single-models", help="Let each site's model travel to the others, to be compared there."
        ),
    ] = False,
    copy: Annotated[str, typer.Option(help="Which copy sites send: student or teacher.")] = "student",
    evaluate: Annotated[bool, typer.Option(help="Let sites judge the merged model on held-out images.")] = True,
    buffers: Annotated[
        str,
        typer.Option(
            help="The merged model's BatchNorm statistics: `pooled` (the paper's), at each site its `own`, or "
            "measured for the merged model on each site's unlabelled images: `recalibrated` (they stay there), "
            "`pooled-recalibrated` (the coordinator sees them), `routed` (all members see them; the model picks a "
            "site's for each image)."
        ),
    ] = "pooled",
    deliver: Annotated[bool, typer.Option(help="Give the merged sites the merged model.")] = True,
    privacy: Annotated[
        str, typer.Option(help="What the coordinator learns of one site: sealed (nobody else does) or secure-sum.")
    ] = "sealed",
    weighing: Annotated[
        str,
        typer.Option(
            help="What counts once in the mid-point: `sites` (a region as many as it stands for), or `members` (a "
            "region as much as a site)."
        ),
    ] = "sites",
    most_sites: Annotated[
        int, typer.Option(min=0, help="Sites that a region may stand for at most; 0: 64 if there is a region.")
    ] = 0,
    send_on: Annotated[
        bool,
        typer.Option("--send-on", help="Let the sum of all updates be sent on to a coordinator above this one."),
    ] = False,
) -> None:
    """Lay down a campaign: its base, its members, its rules."""
    from coordinator import roster
    from coordinator.home import Home
    from protos.rules import Rules

    home = Home.open(folder)
    members = {name: roster.find(home, name) for name in site}
    rules = Rules(
        minimum_sites=minimum_sites,
        deadline_seconds=deadline,
        patience_seconds=patience,
        compare_single_models=compare_single_models,
        copy=copy,
        evaluate=evaluate,
        buffers=buffers,
        deliver=deliver,
        privacy=privacy,
        at_deadline=at_deadline,
        required=tuple(require or ()),
        weighing=weighing,
        most_sites=most_sites,
        send_on=send_on,
    )
    made = home.create(name, base, members={n: found.keys for n, found in members.items()}, rules=rules)
    typer.echo(f"campaign {name}: {made.campaign.digest.hex()}")
    for member in members.values():
        typer.echo(f"give {member.site} this file: {roster.write_welcome(home, member)}")


@app.command()
def superlink(folder: HomeArgument) -> None:
    """Run the SuperLink that sites connect to, and let all approved sites in; ends with Ctrl-C."""
    import os

    from coordinator import superlink as flower
    from coordinator.home import Home
    from protos import keyfiles
    from protos.programs import environment

    home = Home.open(folder)
    _ = home.signing_key  # a passphrase is asked for now, and not when the first campaign runs
    warn(home)
    flower.write_connection(home)
    command = flower.superlink_command(home)
    with keyfiles.handed_on(home.keys / "signing.pem", "the SuperLink") as variables:
        env = {**environment(home.flower), **variables, flower.HOME: str(home.folder)}
        os.execvpe(command[0], command, env)  # noqa: S606


@app.command()
def run(
    folder: HomeArgument,
    name: NameArgument,
    reopen: Annotated[bool, typer.Option("--reopen", help="Even if the campaign was cancelled.")] = False,
) -> None:
    """Run a campaign: collect, merge, evaluate, report. Exits with 0 only if there is a merged model.

    A run continues where the one before it ended, however that ended, and takes in members that were too late.
    """
    from rich.console import Console

    from coordinator.home import Home
    from coordinator.report.format import from_json
    from coordinator.report.table import results_table
    from coordinator.watching import log_line
    from coordinator.watching import run as run_campaign
    from protos import logs

    home = Home.open(folder)
    logs.about(campaign=name)
    warn(home)
    found = home.campaign(name)
    run_campaign(found, lambda event: typer.echo(log_line(event, name)), reopen=reopen)
    if not logs.as_json():
        Console().print(results_table(from_json((found.merged / "report.json").read_text())))
    logs.say(f"merged model, card, receipt and report: {found.merged}", event="result")


@app.command()
def withdraw(
    folder: HomeArgument,
    name: NameArgument,
    site: Annotated[str, typer.Argument(help="The site.", metavar="SITE")],
    update: Annotated[
        Path | None,
        typer.Option(
            help="The update's file, from `onebasin site export`; not needed if updates are kept here.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even if fewer sites remain than the rules ask for.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a site's update out of the merge, as if it had never been there.

    The update is presented once more, compared with the one that was merged, and subtracted exactly. The merged
    model is written anew, with a receipt that supersedes the old one. Running the campaign again has it judged.
    """
    from coordinator.home import Home
    from coordinator.withdrawing import withdraw as take_out

    found = Home.open(folder).campaign(name)
    receipt = take_out(found, site, update, force=force)
    if as_json:
        content = {
            "site": site,
            "receipt": receipt.digest,
            "supersedes": receipt.supersedes,
            "digest": receipt.merged.digest,
            "sites": [entry.site for entry in receipt.inputs],
        }
        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo(f"withdrew site {site}; merged now: {', '.join(entry.site for entry in receipt.inputs)}")
    typer.echo(f"model {receipt.merged.digest[:12]}, receipt {receipt.digest[:12]}: {found.merged}")


for command in (
    backup,
    restore,
    approve,
    welcome,
    revoke,
    register,
    fingerprint,
    digest,
    health,
    metrics,
    preflight,
    renew_certificate,
    renew_authority,
    status,
    watch,
    cancel,
    serve,
):
    app.command()(command)
