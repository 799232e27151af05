"""``onebasin coordinator metrics``: what Prometheus sees of a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protos.options import AddressOption, OnceOption, TextfileOption

ADDRESS = "127.0.0.1:9109"


def metrics(
    folder: Annotated[Path, typer.Argument(help="The coordinator's folder.", metavar="FOLDER")],
    address: AddressOption = ADDRESS,
    once: OnceOption = False,
    textfile: TextfileOption = None,
) -> None:
    """Show metrics to Prometheus, with health and readiness beside them; ends with Ctrl-C.

    `/metrics` is read from the journal and the folder at each scrape, also while campaigns run. `/healthz` and
    `/readyz` answer as the command `health`, with and without `--live`. Run it as the user whom the SuperLink runs
    as. There are no accounts and there is no encryption: to listen elsewhere than on loopback is for a management
    network.
    """
    from coordinator.health import look
    from coordinator.home import Home
    from coordinator.readings import Readings
    from protos import logs
    from protos.metrics import Exporter
    from protos.scraping import Health, publish

    home = Home.open(folder)
    health = Health(lambda: look(home), lambda: look(home, live=True), "the coordinator")
    exporter = Exporter(
        {**Readings(home).parts(), "health": health.samples},
        lambda said: logs.say(said, level="warning", event="metrics", err=True),
    )
    publish(exporter, health, address, once=once, textfile=textfile)
