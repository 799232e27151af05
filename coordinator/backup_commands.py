"""``onebasin coordinator backup`` and ``restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def backup(
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")],
    file: Annotated[Path, typer.Argument(help="The file to write; there must be none.", metavar="FILE")],
) -> None:
    """Write all that can't be made again into one file; campaigns may be running.

    It holds the coordinator's private keys: whoever has it is the coordinator. Keep it encrypted.
    """
    from coordinator.backup import backup as write
    from coordinator.home import Home

    typer.echo(f"wrote {write(Home.open(folder), file):,} bytes to {file}: keep it secret")


def restore(
    file: Annotated[Path, typer.Argument(help="A file from `onebasin coordinator backup`.", metavar="FILE")],
    folder: Annotated[Path, typer.Argument(help="Where to; a folder that is not there yet.", metavar="FOLDER")],
) -> None:
    """Make a coordinator from a backup; every file is checked.

    The one that it was taken from must not run any more: two would write two audit logs.
    """
    from coordinator.backup import restore as read

    home = read(file, folder)
    typer.echo(f"restored the coordinator {home.fingerprint} in {home.folder}")
    typer.echo(f"go on: onebasin coordinator preflight {home.folder}")
