"""What both sides' command ``metrics`` asks for: apart from the rest, for any command that is typed imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AddressOption = Annotated[str, typer.Option(help="Host and port to listen on; loopback needs no protection.")]
OnceOption = Annotated[bool, typer.Option("--once", help="Print the metrics and end.")]
TextfileOption = Annotated[
    Path | None,
    typer.Option(
        help="Write the metrics into this file (*.prom) and end: for the textfile collector of node_exporter.",
        show_default=False,
    ),
]
