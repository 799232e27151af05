"""Options that commands of both sides have: apart from the rest, for any command that is typed imports them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from protos.keyfiles import PASSPHRASE_FILE

PassphraseOption = Annotated[
    bool,
    typer.Option("--passphrase", help="Encrypt the private keys: asks for a passphrase, or reads its file."),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        help="A file with the passphrase of the keys, instead of a prompt. "
        f"The variable {PASSPHRASE_FILE} names one as well.",
        show_default=False,
    ),
]

AddressOption = Annotated[str, typer.Option(help="Host and port to listen on; loopback needs no protection.")]
OnceOption = Annotated[bool, typer.Option("--once", help="Print the metrics and end.")]
TextfileOption = Annotated[
    Path | None,
    typer.Option(
        help="Write the metrics into this file (*.prom) and end: for the textfile collector of node_exporter.",
        show_default=False,
    ),
]


def use_passphrase_file(passphrase_file: PassphraseFileOption = None) -> None:
    """Have this process, and those that it starts, read the passphrase of the keys from a file."""
    if passphrase_file is not None:
        os.environ[PASSPHRASE_FILE] = str(passphrase_file.resolve())
