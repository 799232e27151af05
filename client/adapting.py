"""The adapting process: started once, found again by anyone, continued after a crash.

It runs on its own, not inside a message, because it may take days. What the outside knows of it is in files:
a lock that is held as long as it lives, ``progress.json``, and in the end the outbox or ``failure.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from client import acceptance, adaptation
from client.adaptation import PROGRESS
from client.joined import Joined
from client.outbox import Outbox
from protos import faults, files
from protos import messages_pb2 as pb
from protos.errors import AdaptationError, OnebasinError, StorageError, UpdateRefusedError

PHASES = {"data": pb.PHASE_DATA, "adapt": pb.PHASE_ADAPT, "update": pb.PHASE_UPDATE}
_SHOWN = ("phase", "step", "steps", "eta", "loss", "note", "coverage", "memory")
STOP = 30.0
"""Seconds that the adapting process has to end when it is told to, until it is killed."""


@dataclass(frozen=True)
class Status:
    """How far a site is.

    Attributes:
        state: ``idle``, ``adapting``, ``ready``, ``failed``, ``stopped``, or ``cleared``: sent, merged, removed.
        phase: ``data``, ``adapt``, ``update``, or nothing before the start.
        step: Steps done.
        steps: Steps in all.
        eta: Seconds left, estimated.
        loss: The last step's loss; stays at the site.
        message: What went wrong; stays at the site.
        tensor: Which tensor is at fault, if one is.
        note: What else is worth a word, such as classes that collapse; stays at the site.
        coverage: Share of target pixels whose pseudo-label is sure; stays at the site.
        memory: The most memory of the GPU that was in use, in MB; stays at the site.

    """

    state: str
    phase: str = ""
    step: int = 0
    steps: int = 0
    eta: float = 0.0
    loss: float = 0.0
    message: str = ""
    tensor: str = ""
    note: str = ""
    coverage: float = 0.0
    memory: int = 0


def status(joined: Joined) -> Status:
    """Tell how far adapting is, from the files alone."""
    progress = _read(joined, PROGRESS)
    values = {key: progress[key] for key in _SHOWN if key in progress}
    outbox = Outbox(joined)
    if outbox.ready or outbox.cleared:
        return Status("ready" if outbox.ready else "cleared", **{**values, "eta": 0.0})
    if _locked(joined):
        return Status("adapting", **values)
    if failure := _read(joined, "failure.json"):
        return Status("failed", **values, message=failure.get("what", ""), tensor=failure.get("tensor", ""))
    return Status("stopped", **values) if progress else Status("idle")


def start(joined: Joined) -> bool:
    """Start the adapting process in the background, unless it runs or has nothing left to do.

    The lock is taken here and handed to the new process, so that two starts at once make one process.

    Returns:
        Whether a process was started.

    """
    if Outbox(joined).ready or Outbox(joined).cleared or joined.is_region:
        return False
    files.make_folder(joined.folder)
    try:
        with _lock(joined).open("a") as lock, (joined.folder / "adapt.log").open("ab") as log:
            if not _taken(lock):
                return False
            _sign(lock.fileno(), "")  # whose lock this was before
            (joined.folder / "failure.json").unlink(missing_ok=True)
            command = [sys.executable, "-m", "onebasin", "site", "adapt", str(joined.site.folder)]
            command += ["--campaign", joined.campaign.digest.hex(), "--lock", str(lock.fileno())]
            faults.point("adapt-starting")
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives whoever started it, and has a group of its own
                pass_fds=[lock.fileno()],
                cwd=joined.folder,
            )
            faults.point("adapt-started")
    except OSError as error:
        raise StorageError(
            f"can't start adapting in {joined.folder}: {error.strerror}", "check the disk"
        ) from error
    return True


def run(joined: Joined, lock: int | None = None) -> None:
    """Adapt, and put the update into the outbox. This is the adapting process.

    Args:
        joined: The campaign.
        lock: A descriptor of the lock, if whoever started this holds it already.

    Raises:
        AdaptationError: It runs already, or training failed; the reason is kept in ``failure.json`` too.
        PolicyError: The site's operator has not accepted the campaign.

    """
    acceptance.check(joined)
    if joined.is_region:
        raise AdaptationError(
            f"{joined.site.name} is a region, which adapts nothing: its update is the sum of its sites'",
            "make it: onebasin region sum",
        )
    if lock is not None:
        os.set_inheritable(lock, False)  # workers of this process must not keep the lock alive
        _sign(lock, str(os.getpid()))
        with _ending():
            _work(joined)
        return
    with _held(joined) as held, _ending():
        _sign(held.fileno(), str(os.getpid()))
        _work(joined)


def stop(joined: Joined, patience: float = STOP) -> bool:
    """End the adapting process, if one runs. Its checkpoint stays, and `start` continues from it.

    Args:
        joined: The campaign.
        patience: Seconds that it has to end by itself, until it is killed.

    Returns:
        Whether one ran.

    Raises:
        AdaptationError: It can't be ended.

    """
    if not _locked(joined):
        return False
    joined.site.audit.note("stopping", campaign=joined.campaign.digest.hex())
    for what in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + patience
        told = False
        while time.monotonic() < until:
            told = told or _tell(joined, what)  # a process that is just being started has not signed yet
            if not _locked(joined):
                return True
            time.sleep(0.05)
    raise AdaptationError(
        f"the adapting process of site {joined.site.name} can't be ended", f"whoever holds {_lock(joined)} is it"
    )


def _tell(joined: Joined, what: signal.Signals) -> bool:
    """Send a signal to the process that holds the lock, with its workers to kill it; tell whether it is known."""
    try:
        process = int(_lock(joined).read_text())
    except (OSError, ValueError):
        return False
    with suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(process)
        if what == signal.SIGKILL and group == process:
            os.killpg(group, what)
        else:
            os.kill(process, what)
    return True


@contextmanager
def _ending() -> Iterator[None]:
    """Let this process end as by Ctrl-C when it is told to: with what is open put away, and no failure noted."""
    own = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != own:  # a worker that was forked is ended by whoever forked it
            os._exit(0)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's affair
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sign(lock: int, content: str) -> None:
    """Write into a lock's file who holds it."""
    os.ftruncate(lock, 0)
    os.write(lock, content.encode())


def _lock(joined: Joined) -> Path:
    return joined.folder / "adapt.lock"


def _work(joined: Joined) -> None:
    if Outbox(joined).ready:
        return
    if Outbox(joined).cleared:
        raise AdaptationError(
            f"site {joined.site.name}'s update for campaign {joined.campaign.name} is merged, and was cleared",
            "a site adapts once in a campaign: join another one",
        )
    failure = joined.folder / "failure.json"
    failure.unlink(missing_ok=True)
    try:
        _ = joined.site.signing_key  # a passphrase is asked for now, and not after days of training
        adaptation.adapt(joined)
    except OnebasinError as error:
        tensor = error.tensor if isinstance(error, UpdateRefusedError) else ""
        files.write(failure, json.dumps({"what": error.what, "fix": error.fix, "tensor": tensor}))
        raise
    except Exception as error:
        files.write(failure, json.dumps({"what": f"{type(error).__name__}: {error}", "fix": "see adapt.log"}))
        raise


def _read(joined: Joined, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((joined.folder / name).read_text())
    except (OSError, ValueError):
        return {}
    return found


def _locked(joined: Joined) -> bool:
    try:
        with _lock(joined).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _taken(lock: IO[str]) -> bool:
    """Take the lock. Whoever looks whether it is held holds it for an instant, so one refusal proves nothing."""
    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


@contextmanager
def _held(joined: Joined) -> Iterator[IO[str]]:
    files.make_folder(joined.folder)
    with _lock(joined).open("a") as lock:
        if not _taken(lock):
            raise AdaptationError(
                f"site {joined.site.name} is adapting to campaign {joined.campaign.name} already",
                "watch it: onebasin site status",
            )
        yield lock
