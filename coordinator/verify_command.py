"""``onebasin verify``, as someone types it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protos.campaign import Campaign

MARKS = {True: "✓", False: "✗", None: "–"}


def verify(
    merged: Annotated[Path, typer.Argument(help="The merged model.", metavar="MERGED", show_default=False)],
    receipt: Annotated[Path, typer.Argument(help="Its receipt.json.", metavar="RECEIPT", show_default=False)],
    updates: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Updates: files of `onebasin site export`, or `outbox/model.safetensors` of sites. With all of "
            "them the merge is recomputed.",
            metavar="[UPDATE…]",
            show_default=False,
        ),
    ] = None,
    campaign: Annotated[
        Path | None,
        typer.Option(help="The campaign's file, which holds the coordinator's key.", show_default=False),
    ] = None,
    key: Annotated[
        str, typer.Option(help="The coordinator's Ed25519 public key, 64 hexadecimal digits, instead.")
    ] = "",
    base: Annotated[
        Path | None, typer.Option(help="The base, to compare buffers that are not merged.", show_default=False)
    ] = None,
    proof: Annotated[
        list[Path] | None,
        typer.Option(help="A proof that a site's update is inside; repeat for more.", show_default=False),
    ] = None,
    region: Annotated[
        list[Path] | None,
        typer.Option(help="The receipt of a region whose sum is inside; repeat for more.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a merged model by its receipt: who signed it, that it is this model, what went in.

    Ends with 0 if all that could be looked at is so, with 7 if the receipt is not the coordinator's, and with 16
    if something is wrong.
    """
    from coordinator.verifying import Evidence
    from coordinator.verifying import verify as check
    from protos import printing

    agreed, public = _key(campaign, key)
    verdict = check(merged, receipt, public, Evidence(agreed, updates or (), base, proof or (), region or ()))
    if json:
        printing.show(verdict.as_json())
    else:
        for one in verdict.checks:
            typer.echo(f"{MARKS[one.ok]} {one.said}")
    verdict.require()


def _key(campaign: Path | None, key: str) -> tuple[Campaign | None, bytes]:
    from protos import campaign as campaigns
    from protos import signing
    from protos.errors import ConfigurationError

    if (campaign is None) == (not key):
        raise ConfigurationError(
            "whose signature must it be?", "give the campaign's file (--campaign) or the coordinator's key (--key)"
        )
    if campaign is not None:
        agreed = campaigns.load(campaign)
        return agreed, agreed.message.coordinator_key
    return None, signing.public_key(key)
