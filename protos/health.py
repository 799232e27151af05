"""Whether a program that should be up is up: cheap enough to be asked twice a minute, and used by both sides.

What is looked at is each side's own; the findings are those of `protos.preflight`, which looks at far more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import typer

from protos import preflight, printing
from protos.preflight import BAD, Finding

_AGAIN = 1.0
"""Seconds between two looks while one waits."""


def ask(look: Callable[[], Iterable[Finding]], whose: str, wait: float, *, as_json: bool) -> None:
    """Look, print what was found, and end with an error if anything is bad.

    Args:
        look: The look.
        whose: Of whom the error speaks.
        wait: Seconds for which to look again while anything is bad.
        as_json: Whether to print JSON.

    Raises:
        PreflightError: Something is bad still.

    """
    until = time.monotonic() + wait
    while True:
        found = list(preflight.findings([(whose, look)]))
        if time.monotonic() >= until or all(finding.state != BAD for finding in found):
            break
        time.sleep(_AGAIN)
    if as_json:
        printing.show(preflight.as_json(found))
    else:  # no table: drawing one costs more than looking does
        for finding in found:
            typer.echo(f"{finding.what}: {finding.state}, {finding.found}")
            if finding.state == BAD and finding.fix:
                typer.echo(f"  → {finding.fix}")
    preflight.check(found, whose)
