"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from client.base_commands import app as base_app
from client.commands import app as site_app
from client.export_command import export
from coordinator.commands import app as coordinator_app
from coordinator.offline.basin import basin
from coordinator.offline.commands import diff, inspect, merge
from coordinator.verify_command import verify
from onebasin.audit_command import app as audit_app
from onebasin.region_command import app as region_app
from onebasin.sweep_command import sweep
from protos import logs
from protos.errors import ConfigurationError, OnebasinError

app = typer.Typer(
    name="onebasin",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn segmentation models that many sites adapted to their own images into **one** model that works at "
    "all of them. No image leaves any site, and nothing is trained after the merge.",
    epilog="Start with `onebasin demo`: a whole campaign of four sites on this machine.",
)
app.add_typer(coordinator_app, name="coordinator")
app.add_typer(site_app, name="site")
app.add_typer(base_app, name="base")
app.add_typer(audit_app, name="audit")
app.add_typer(region_app, name="region")
for command in (merge, inspect, diff, basin, sweep, verify, export):
    app.command()(command)

INTERRUPTED = 130


class LogFormat(StrEnum):
    """In which form lines are."""

    TEXT = logs.TEXT
    JSON = logs.JSON


_verbose = False


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onebasin {version('onebasin')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Form of the lines that a command prints while it runs.", envvar=logs.VARIABLE),
    ] = LogFormat.TEXT,
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    global _verbose  # the one thing that the handler below must know
    _verbose = verbose
    if log_format.value != os.environ.get(logs.VARIABLE, logs.TEXT):
        os.environ[logs.VARIABLE] = log_format.value  # for the processes that are started, too


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; a new one under `runs/` if not given.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few training steps only: shows that it runs, not what it gains.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the scenes and of all training.", min=0)] = 0,
) -> None:
    """Run a whole campaign of four sites on this machine, and report.

    Starts a SuperLink with TLS and four authenticated SuperNodes as separate processes, adapts the base at each
    site to that site's unlabelled images, merges once, evaluates, and writes the report. Everything is stopped
    at the end.
    """
    from onebasin.demo import run_demo

    run_demo(folder, quick=quick, seed=seed)


_OF_A_SITE = frozenset({"torch", "cv2", "lightning_fabric", "tensorboard"})
"""Packages of the extra `site`."""


def main() -> None:
    """Run the command line; print an error of ours without a traceback and exit with its code."""
    try:
        app()
    except OnebasinError as error:
        if _verbose:
            traceback.print_exc()
        _say(error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_A_SITE:
            raise
        _say(missing := _not_a_site(error))
        sys.exit(missing.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # Typer turns Ctrl-C into this, without a word
            logs.say("interrupted", event="interrupted", err=True)
        raise


def _not_a_site(error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(
        f"this needs the package {error.name}, which is not installed here",
        "install what a site needs: pip install 'onebasin[site]' (a coordinator needs it for nothing)",
    )


def _say(error: OnebasinError) -> None:
    if logs.as_json():
        logs.say(error.what, level="error", event="error", err=True, fix=error.fix, exit_code=error.exit_code)
    else:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
