"""``onebasin audit``: the log that both sides keep, as someone types it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Show and verify the audit log of a site or a coordinator: what left, arrived, was refused or changed.",
)

LogArgument = Annotated[
    Path, typer.Argument(help="The folder of a site or a coordinator, or its audit.jsonl.", metavar="FOLDER|FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    log: LogArgument,
    event: Annotated[str, typer.Option(help="Only lines of this event, e.g. `left` or `refused`.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only so many of the newest; 0: all.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the log's lines, each checked against the one before."""
    from collections import deque

    from protos.audit import Entry, brief, entries

    path = _log(log)
    wanted = (entry for entry in entries(path) if event in ("", entry.event))
    found = deque(wanted, maxlen=last or None)

    def shown(entry: Entry) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
        said = "  ".join(f"{name} {brief(value)}" for name, value in entry.fields.items())
        return f"{entry.seq:>6}  {when}  {entry.event:<14} {said}".rstrip()

    if as_json:
        lines = [
            {"seq": entry.seq, "time": entry.time, "event": entry.event, **entry.fields, "sha256": entry.sha256}
            for entry in found
        ]
        typer.echo(json.dumps({"log": str(path), "lines": lines}, indent=1))
        return
    for entry in found:
        typer.echo(shown(entry))


@app.command()
def verify(
    log: LogArgument,
    key: Annotated[
        str,
        typer.Option(help="The side's Ed25519 public key, 64 hexadecimal digits; by default that of the folder."),
    ] = "",
    receipt: Annotated[
        list[Path] | None,
        typer.Option(
            help="A receipt of this coordinator: the log must hold the line that it names. Repeat for more.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the log: no line was edited, moved, put in or taken out, at the end neither.

    Ends with 16 and names the line if one was, and with 7 if the end is not signed with the key.
    """
    from protos import audit, receipts, signing

    path = _log(log)
    public = signing.public_key(key) if key else _own_key(path)
    anchors = tuple(receipts.read(one, public).audit for one in receipt or ())
    found = audit.verify(path, public, anchors)
    if as_json:
        content = {
            "log": str(path),
            "ok": True,
            "lines": found.lines,
            "head": found.head.sha256,
            "unfinished": found.unfinished,
            "receipts": len(anchors),
            "fingerprint": signing.fingerprint(public),
        }
        typer.echo(json.dumps(content, indent=1))
        return
    typer.echo(f"{path}: {found.lines} lines, all as they were written")
    typer.echo(f"  head  {found.head.sha256}  signed by {signing.fingerprint(public)}")
    if found.unfinished:
        typer.echo("  the machine stopped while the last line was written; the head holds it")
    if anchors:
        typer.echo(f"  the lines that {len(anchors)} receipt{'s' if len(anchors) > 1 else ''} name are in it")


def _log(given: Path) -> Path:
    from protos.audit import LOG

    return given / LOG if given.is_dir() else given


def _own_key(log: Path) -> bytes:
    from protos import signing
    from protos.errors import ConfigurationError

    path = log.with_name("keys") / "signing.pem"
    if not path.exists():
        raise ConfigurationError(
            f"there is no key beside {log} to verify it with", "give the public key of whose log it is: --key"
        )
    return signing.load_public(path)
