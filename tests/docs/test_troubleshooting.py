"""Troubleshooting: a section for every exit code, and messages that the code really has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from protos import errors
from protos.errors import OnebasinError

ROOT = Path(__file__).parents[2]
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OnebasinError)]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_exit_code_has_a_section(page):
    sections = re.findall(r"^## (\d+) (.+)$", page, re.MULTILINE)
    assert {(str(kind.exit_code), kind.__name__) for kind in KINDS} <= set(sections)
    listed = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    assert [code for code, _ in sections] == re.findall(r"^\| *(\d+) *\|", listed, re.MULTILINE)


def test_every_message_is_one_that_the_code_has(page):
    said = "\n".join(texts())
    messages = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert len(messages) > 40
    for message in messages:
        for quoted in re.findall(r"`([^`]+)`", message):
            for fragment in re.split(r"…", quoted):
                assert fragment.strip(" ,:().") in said, f"{quoted}: {fragment!r}"


def texts() -> list[str]:
    """Return all texts in the code, those with values in them in parts."""
    found = []
    for package in ("protos", "coordinator", "client", "onebasin"):
        for path in (ROOT / package).rglob("*.py"):
            if not path.name.endswith("_pb2.py"):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
                found += [value for value in constants if isinstance(value, str)]
    return found
