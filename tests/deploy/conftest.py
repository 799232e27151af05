"""What lies in deploy/, read as programs read it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.main import get_command

from onebasin.cli import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture
def understood():
    """Return a function that parses arguments of `onebasin` as the command line does, and runs nothing."""

    def parse(arguments: list[str]) -> None:
        command, context = get_command(app), None
        rest = list(arguments)
        while True:
            group = isinstance(command, typer.core.TyperGroup)
            context = command.make_context(command.name or "onebasin", rest, parent=context)
            if not group:
                return
            rest = [*context._protected_args, *context.args]
            _, command, rest = command.resolve_command(context, rest)

    return parse
