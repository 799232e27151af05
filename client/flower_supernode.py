"""Flower's SuperNode, with a gate: a bundle of code runs only if an accepted campaign names its digest.

Flower fetches the bundle of each run that it hears of, and has a gate of its own, for signed bundles. This stands
in that gate: what is refused never reaches Flower's hands, so not a line of it is unpacked or run, and Flower
itself answers the coordinator that the bundle is invalid.

Two more things differ from Flower's own, and make a campaign of short messages quick: it looks for messages more
often while the coordinator talks to this site, and its ClientApps are forked, by a SuperExec that is kept running.

    python -m client.flower_supernode SITE-FOLDER [arguments of flower-supernode]
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.common.config import get_fab_config, get_metadata_from_config
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal

from client import acceptance
from client.site import Site
from protos import ending, superexec
from protos.errors import FederationError, OnebasinError

PROGRAM = "flower-supernode"
FORKING = "client.forking"
TALKING = 10.0
"""Seconds after a message in which the next one is looked for often: one thing is asked after the other."""
OFTEN = 0.5
"""Seconds between two looks then."""
_LICENSE = "valid_license"  # Flower looks for this key before it asks who signed
_ACCEPTED = "accepted by the operator of this site"
_FETCHING = ("pull_object", "confirm_message_received")

log = logging.getLogger("flwr")  # so that it stands between Flower's own lines


class Gate:
    """Hands Flower the bundles that the operator accepted, and in place of others none.

    Args:
        folder: The site's folder; it is read anew for each bundle.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: Run | None = None

    def runs(self, get_run: Callable[[int], Run]) -> Callable[[int], Run]:
        """Wrap the function by which Flower asks for a run, to remember what the SuperLink says of it."""

        def asked(run_id: int) -> Run:
            self._run = get_run(run_id)
            return self._run

        return asked

    def bundles(self, get_fab: Callable[[str, int], Fab]) -> Callable[[str, int], Fab]:
        """Wrap the function by which Flower fetches a bundle."""

        def fetched(fab_hash: str, run_id: int) -> Fab:
            fab = get_fab(fab_hash, run_id)
            problem = self.problem(fab)
            if not problem:
                return Fab(fab.hash_str, fab.content, {_LICENSE: _ACCEPTED})
            log.error("refused the code of run %s: %s", run_id, problem)
            return Fab(fab.hash_str, b"", {})

        return fetched

    def problem(self, fab: Fab) -> str:
        """Say why a bundle may not run; nothing if it may."""
        digest = hashlib.sha256(fab.content).hexdigest()
        try:
            accepted = acceptance.codes(Site.open(self._folder))
        except OnebasinError as error:
            return error.what
        if digest not in accepted:
            return f"its digest is {digest}, which no campaign names that this site's operator accepted"
        # Now the content is known. Flower will look for what it unpacked under names that the SuperLink gives.
        run, known = self._run, get_metadata_from_config(get_fab_config(fab.content))
        if run is None or (run.fab_id, run.fab_version) != known or {fab.hash_str, run.fab_hash} != {digest}:
            return "the SuperLink calls it by other names than it has"
        return ""


def install(gate: Gate, engine: ModuleType) -> None:
    """Put the gate into Flower's module that pulls messages.

    Raises:
        FederationError: That module is not the one that this was written for, so nothing would be checked.

    """
    pull = getattr(engine, "_pull_and_store_message", None)
    wanted = {"get_run", "get_fab", "trusted_entities", *_FETCHING}
    if pull is None or not wanted <= set(inspect.signature(pull).parameters) or not hasattr(engine, "_verify_fab"):
        raise FederationError(
            "this version of Flower fetches code in another way, so it can't be checked before it runs",
            "install the version of flwr that onebasin asks for",
        )

    def pulled(**options: Any) -> Any:
        options["get_run"] = gate.runs(options["get_run"])
        options["get_fab"] = gate.bundles(options["get_fab"])
        options["trusted_entities"] = {_ACCEPTED: ""}  # or Flower would ask nobody
        options.update({name: _failing_at_the_end(options[name]) for name in _FETCHING})
        return pull(**options)

    def verified(fab: Fab, trusted: dict[str, str]) -> bool:
        return fab.verifications.get(_LICENSE) == _ACCEPTED

    engine.__dict__.update(_pull_and_store_message=pulled, _verify_fab=verified)


def listen_often(engine: ModuleType) -> None:
    """Have Flower look for the next message often for a while after each; else it looks every three seconds."""
    pull, heard = engine._pull_and_store_message, -math.inf

    def pulled(**options: Any) -> Any:
        nonlocal heard
        while (run_id := pull(**options)) is None and time.monotonic() - heard < TALKING:
            time.sleep(OFTEN)
        if run_id is not None:
            heard = time.monotonic()
        return run_id

    engine.__dict__.update(_pull_and_store_message=pulled)


def _failing_at_the_end(fetch: Callable[..., Any]) -> Callable[..., Any]:
    """Make an error of it when a run ends while a message of it is fetched.

    Flower cleans up after an error, but not after the end of a run: the ClientApp that is started for the message
    would wait for the rest of it for two hours.
    """

    def fetched(*args: Any) -> Any:
        try:
            return fetch(*args)
        except RunNotRunningException:
            raise FederationError("the run ended before all of the message was there", "nothing") from None

    return fetched


def main() -> None:
    """Run it."""
    folder = Path(sys.argv.pop(1))
    (program,) = entry_points(group="console_scripts", name=PROGRAM)
    run = program.load()
    install(Gate(folder), start_client_internal)
    listen_often(start_client_internal)
    superexec.keep(start_client_internal, log, (sys.executable, "-m", FORKING))
    sys.argv[0] = PROGRAM
    ending.end_with(run)


if __name__ == "__main__":
    main()
