"""A campaign is cancelled while a site adapts, and taken up again."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from client import adapting, stock
from coordinator import watching
from coordinator.overview import overview
from coordinator.watching import RunFailedError
from protos.errors import CancelledError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
STEPS = 100


@pytest.fixture
def alpha(federation):
    """A site that has more to do than the others."""
    site = federation.sites["alpha"]
    settings = site.settings_path.read_text()
    site.settings_path.write_text(settings.replace("steps = 3", f"steps = {STEPS}"))
    site.__dict__.pop("settings", None)
    yield site
    site.settings_path.write_text(settings)
    site.__dict__.pop("settings", None)


def told_to_end(pid: int) -> bool:
    """Tell whether a process that is held has been sent SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(pending.split()[1], 16) >> signal.SIGTERM - 1 & 1)


def test_a_site_stops_adapting_when_its_campaign_is_cancelled_and_continues_when_it_is_reopened(federation, alpha):
    campaign = federation.campaign(members=("alpha",), join=("alpha",))
    joined, ends = alpha.joined(), []

    def run():
        try:
            federation.run(campaign)
        except RunFailedError as error:
            ends.append(error.exit_code)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    until = time.monotonic() + 100
    while not (adapting.status(joined).state == "adapting" and adapting.status(joined).step > 2):
        assert time.monotonic() < until, adapting.status(joined)
        time.sleep(0.05)
    # It is held until it is told to stop: otherwise it might be done before, on a quick machine.
    pid, seen = json.loads((joined.folder / "progress.json").read_text())["pid"], []
    os.kill(pid, signal.SIGSTOP)
    cancelling = threading.Thread(target=watching.cancel, args=(campaign, seen.append), daemon=True)
    cancelling.start()
    while not told_to_end(pid):
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(pid, signal.SIGCONT)
    cancelling.join(60)
    running.join(60)

    assert ends == [CancelledError.exit_code]
    (stopped,) = [event for event in seen if event["event"] == "stopped"]
    assert 0 < stopped["step"] < STEPS
    assert adapting.status(joined).state == "stopped"
    assert (joined.folder / "checkpoint.pt").exists()
    assert not (joined.folder / "failure.json").exists()
    assert overview(campaign).state == "cancelled"
    assert overview(campaign).sites["alpha"].state == "cancelled"
    with pytest.raises(CancelledError, match="was cancelled"):
        federation.run(campaign)

    events = []
    watching.run(campaign, events.append, reopen=True)
    steps = [event["step"] for event in events if event["event"] == "progress" and event["phase"] == "adapt"]
    assert steps
    assert min(steps) >= stopped["step"] - 1  # it went on where it had stopped
    assert [event["site"] for event in events if event["event"] == "receipted"] == ["alpha"]
    (entry,) = [one for one in stock.stock(alpha) if one.campaign_digest == campaign.key]
    assert entry.state == "receipted"
    assert overview(campaign).state == "merged"
