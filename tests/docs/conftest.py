"""The pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Command:
    """A command of ours in a page.

    Attributes:
        page: Where it stands.
        words: Its words, without `onebasin`.
        whole: Whether it stands in a block, to be typed as it is; in a sentence it may leave arguments out.

    """

    page: str
    words: tuple[str, ...]
    whole: bool


def commands(text: str, page: str) -> Iterator[Command]:
    """Yield the commands of a page: those in its blocks, and those in its sentences."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    for language, block in blocks:
        if language in ("", "sh", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                yield from _in_line(line, page)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for snippet in re.findall(r"`([^`]+)`", prose):
        if re.match(r"(?:\S+/)?onebasin\s+\S", snippet):
            words = snippet.replace("\n", " ").split()[1:]
            yield Command(page, tuple(words), whole=False)


def _in_line(line: str, page: str) -> Iterator[Command]:
    """Yield the commands in a line of a shell, those inside of others first."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from _in_line(inner.group(1), page)
        line = line.replace(inner.group(0), "SUBSTITUTED")
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # no shell: an excerpt of something else
    for at, word in enumerate(words):
        runs = word == "onebasin" or word.endswith("/onebasin")
        if runs and (at == 0 or words[at - 1] in ("--", "&&", "exec") or words[at - 2] == "superlink"):
            rest = words[at + 1 :]
            end = next((i for i, one in enumerate(rest) if one in ("&", "|", ">", ">>", "&&", ";")), len(rest))
            yield Command(page, tuple(rest[:end]), whole=True)
            return


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Return all pages by name."""
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}


@pytest.fixture(scope="session")
def found(pages) -> list[Command]:
    """Return all commands of all pages."""
    return [command for page, text in pages.items() for command in commands(text, page)]
