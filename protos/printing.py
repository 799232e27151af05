"""Printing what a command found: JSON for programs, text and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import typer


def show(found: dict[str, Any] | Iterable[Any]) -> None:
    """Print a dictionary as JSON, or anything else part by part."""
    if isinstance(found, dict):
        typer.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console

    # Tables that go into a file or a pipe must not be cut to the width of a terminal that isn't there.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
    for part in found:
        console.print(part)
