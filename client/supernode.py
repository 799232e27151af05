"""Flower's SuperNode, as a site runs it: started, watched, and started again when it dies.

Flower refuses a node's key for up to a minute after its connection broke, so a restarted site must knock until it
is let in. A key that was never registered looks the same from here; that is why knocking ends after a while.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import NoReturn

from client import unlocking
from client.client_app import SITE_FOLDER
from client.site import Site
from protos import keyfiles, linux, logpump, logs, validity
from protos.errors import ConfigurationError, FederationError
from protos.programs import environment, free_port

KNOCKING = 120.0
"""Seconds for which a refused SuperNode tries again."""
_PAUSE = 5.0
_GRACE = 10.0
_REFUSED = "305"  # Flower's exit code: the SuperLink does not know this key, or still holds its last connection
_EXIT_CODE = re.compile(rb"Exit Code: (\d+)")
_RENEW = "ask the coordinator for a new welcome file, and: onebasin site join"


def command(site: Site, node_key: str = "") -> list[str]:
    """Return its command line: TLS by the coordinator's CA, authenticated by the site's key.

    Args:
        site: The site.
        node_key: The file with its key, if not the one in its folder.

    Raises:
        ConfigurationError: The coordinator's certificate or address is missing.

    """
    certificate = site.folder / site.settings.superlink.root_certificates
    if not certificate.exists():
        raise ConfigurationError(
            f"site {site.name} has no certificate of its coordinator ({certificate})",
            "take in the coordinator's welcome: onebasin site join",
        )
    return [
        *(sys.executable, "-m", "client.flower_supernode", str(site.folder)),
        *("--superlink", site.address),
        *("--root-certificates", str(certificate)),
        *("--auth-supernode-private-key", node_key or str(site.node_key)),
        *("--port", str(free_port())),  # between the SuperNode and its own apps, on loopback
        *("--node-config", f"{SITE_FOLDER}={json.dumps(str(site.folder))}"),
    ]


def serve(site: Site, say: Callable[[str, str], None]) -> NoReturn:
    """Run the SuperNode until this process is asked to end, which is an exception; restart it when it ends.

    It ends by itself, and says that all is well, when the SuperLink doesn't know its key: after a restart of the
    SuperLink, until the keys of all sites are registered anew.

    Args:
        site: The site.
        say: Called with a sentence and a level, as `logs.say` knows them, when something changes.

    Raises:
        ConfigurationError: The coordinator's certificate is missing, or a key of the site can't be read.
        FederationError: The SuperLink refused this site's key for two minutes.

    """
    certificate = site.folder / site.settings.superlink.root_certificates
    if certificate.exists() and (warning := validity.warning(certificate, _RENEW)):
        say(warning, "warning")
    refused_since: float | None = None
    while True:
        started = time.monotonic()
        signing_key = site.keys / "signing.pem"
        with (
            keyfiles.handed_on(signing_key, "the SuperNode") as passphrase,
            unlocking.node_key(site) as (node_key, handed),
        ):
            env = {**environment(site.folder / "flower"), **passphrase}
            code, reason = _run(command(site, node_key), env, handed)
        if reason != _REFUSED:
            refused_since = None
            say(f"the SuperNode ended (exit code {code}); starting it again in {_PAUSE:.0f} s", "error")
        else:
            refused_since = started if refused_since is None else refused_since
            if time.monotonic() - refused_since > KNOCKING:
                raise FederationError(
                    f"the SuperLink at {site.address} refuses the key of site {site.name}",
                    f"have it approved there: onebasin coordinator approve … {site.request_path.name}",
                )
            say(
                f"the SuperLink refuses the key of site {site.name}: it is not registered, or its last connection "
                f"broke less than a minute ago; trying again in {_PAUSE:.0f} s",
                "error",
            )
        time.sleep(_PAUSE)


def _run(arguments: list[str], env: dict[str, str], handed: tuple[int, ...]) -> tuple[int, str]:
    """Run a program, pass its output on, and return its exit code and the code that Flower printed."""
    reasons: list[str] = []
    process = subprocess.Popen(
        arguments,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=handed,
        preexec_fn=partial(linux.end_with_parent, os.getpid()),  # nobody would watch it any more
    )

    def pass_on() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _EXIT_CODE.search(line):
                reasons.append(found.group(1).decode())
            shown = logpump.wrapped(line, logs.about()) if logs.as_json() else None
            if shown is not None:
                line = logs.dumped(shown).encode() + b"\n"
            if shown is not None or not logs.as_json():
                sys.stdout.buffer.write(line)
                sys.stdout.flush()

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    # The SuperNode's own children hold its output open, so the end of the output does not tell its end.
    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        raise
    finally:
        # What a dead SuperNode leaves behind would work for nobody. The adapting process is not in this group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(1.0)
        signal.signal(signal.SIGTERM, before)
    return process.returncode, reasons[-1] if reasons else ""
