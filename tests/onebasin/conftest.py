"""The command line, run in this process."""

from __future__ import annotations

import sys

import pytest

from onebasin import cli


@pytest.fixture
def onebasin(monkeypatch, capsys):
    """Run the command line in this process; returns its exit code, standard output and standard error."""

    def ran(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["onebasin", *map(str, arguments)])
        monkeypatch.setattr(cli, "_verbose", False)
        try:
            cli.main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ran
