"""Every command in README and docs is one that the real command line takes."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import click
import pytest
import typer.main

from onebasin import cli

ROOT = Path(__file__).parents[2]


@functools.cache
def onebasin() -> click.Command:
    """Return the command line; making it takes a while."""
    return typer.main.get_command(cli.app)


def parse(words: list[str], *, whole: bool) -> None:
    """Parse words as the command line does, without running anything.

    Raises:
        click.UsageError: The command line would refuse them.

    """
    command = onebasin()
    context = click.Context(command, info_name="onebasin")
    while isinstance(command, click.Group):
        options = []
        while words and words[0].startswith("-"):
            if words[0] in ("--version", "--help", "-h", "--install-completion", "--show-completion"):
                return
            options.append(words.pop(0))
            if any(options[-1] in one.opts and not one.is_flag for one in command.params):
                words = words[1:]  # its value
        known = [option for one in command.params for option in (*one.opts, *one.secondary_opts)]
        for option in options:
            if option not in known:
                raise click.NoSuchOption(option, ctx=context)
        if not words:
            if whole:
                raise click.UsageError("a command is missing", ctx=context)
            return
        name = words.pop(0)
        if not whole and not re.fullmatch(r"[a-z][a-z-]*", name):
            return  # a placeholder
        inner = command.get_command(context, name)
        if inner is None:
            raise click.UsageError(f"no such command {name}", ctx=context)
        command, context = inner, click.Context(inner, parent=context, info_name=name)
    if whole:
        if not {"--help", "-h"} & set(words):
            command.make_context(context.info_name or "", words, parent=context.parent)
        return
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
    for word in words:
        option = word.partition("=")[0].rstrip(".,:;")
        if option.startswith("-") and option not in known:
            raise click.NoSuchOption(option, ctx=context)


def test_every_command_of_every_page_is_one_that_there_is(found):
    wrong = []
    for command in found:
        try:
            parse(list(command.words), whole=command.whole)
        except click.UsageError as error:
            wrong.append(f"{command.page}: onebasin {' '.join(command.words)}: {error.format_message()}")
    assert not wrong, "\n".join(wrong)


def test_commands_are_found_in_blocks_and_in_sentences(found):
    assert sum(command.whole for command in found) > 50
    assert sum(not command.whole for command in found) > 50
    assert {command.page for command in found} >= {"README.md", "docs/quick-start.md", "docs/enrolment.md"}


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ("stie init north", True),
        ("site init north --domian night", True),
        ("site init", True),
        ("coordinator run", True),
        ("site join north welcome.json more --base x", True),
        ("merge a b -o c --steps 3", True),
        ("site preflihgt", False),
        ("coordinator approve --renwe", False),
    ],
)
def test_a_command_that_there_is_not_would_be_found(words, whole):
    with pytest.raises(click.UsageError):
        parse(words.split(), whole=whole)


def test_links_lead_somewhere(pages):
    for page, text in pages.items():
        for link in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path
            assert target.exists(), f"{page}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


def anchors(text: str) -> set[str]:
    """Return the anchors that a forge makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_index_lists_every_page(pages):
    index = pages["docs/README.md"]
    for page in pages:
        if page.startswith("docs/") and page != "docs/README.md":
            assert f"({page.removeprefix('docs/')})" in index, page


def test_what_the_quick_start_runs_on_one_machine_is_what_the_readmes_test_runs(pages):
    """The README's blocks are run to the letter with a real federation; these are the same lines."""

    def lines(page: str) -> list[str]:
        blocks = re.findall(r"^```bash\n(.*?)^```", pages[page], re.MULTILINE | re.DOTALL)
        return [line for block in blocks for line in block.splitlines() if line.strip()]

    proven = lines("README.md")
    new = [line for line in lines("docs/quick-start.md") if line not in proven]
    assert all(line.startswith("onebasin export ") for line in new), new  # run by test_quick_start.py
