"""A campaign is cancelled while a site adapts, and taken up again."""

import threading
import time

import pytest

from client import adapting, stock
from coordinator import watching
from coordinator.overview import overview
from coordinator.watching import RunFailedError
from protos.errors import CancelledError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
STEPS = 40


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
    seen = []
    watching.cancel(campaign, seen.append)
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
