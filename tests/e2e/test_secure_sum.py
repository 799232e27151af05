"""A secure sum over a real SuperLink: the bits of a plain merge, through a drop-out and a killed coordinator."""

from __future__ import annotations

from contextlib import suppress

import psutil
import pytest

from client import adapting
from client.outbox import Outbox
from coordinator.merging import MODEL, RECEIPT
from coordinator.verifying import Evidence, verify
from protos import receipts
from protos.errors import OnebasinError

SITES = ("alpha", "beta", "gamma")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def kill_the_server_app() -> None:
    """Kill -9 the process in which the campaign runs, wherever Flower started it."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if any("flwr-serverapp" in part for part in process.cmdline()):
                process.kill()


def inputs(campaign) -> list[str]:
    return [
        one.site
        for one in receipts.read(campaign.merged / RECEIPT, campaign.campaign.message.coordinator_key).inputs
    ]


def assert_plain_bits(federation, campaign, sites) -> None:
    """Merge the sites' own updates once more, without masks, and compare every bit."""
    updates = [Outbox(federation.sites[name].joined()).model for name in sites]
    folder, key = campaign.merged, campaign.campaign.message.coordinator_key
    evidence = Evidence(campaign=campaign.campaign, updates=updates, base=campaign.base)
    verdict = verify(folder / MODEL, folder / RECEIPT, key, evidence)
    assert {check.name: check.ok for check in verdict.checks}["recomputed"] is True


def test_a_drop_out_and_a_killed_coordinator_change_no_bit_of_what_is_left(federation):
    campaign = federation.campaign(privacy="secure-sum", minimum_sites=2, patience_seconds=15, deliver=True)
    for name in SITES:
        adapting.run(federation.sites[name].joined())
    done = []

    def disturb(event):
        if event["event"] == "summing" and event["stage"] == "masking" and "gamma" not in done:
            federation.processes.kill("gamma")  # with who would start it again
            done.append("gamma")
        if event["event"] == "summing" and event["stage"] == "revealing" and "coordinator" not in done:
            kill_the_server_app()
            done.append("coordinator")

    try:
        with pytest.raises(OnebasinError) as ended:
            federation.run(campaign, disturb)
        assert done == ["gamma", "coordinator"], ended.value
        assert campaign.sum_record.exists()

        events = federation.run(campaign)
    finally:
        federation.start_node("gamma")

    assert {event["stage"] for event in events if event["event"] == "summing"} == {"revealing"}
    assert inputs(campaign) == ["alpha", "beta"]
    assert_plain_bits(federation, campaign, ("alpha", "beta"))
    # Nothing of a single update is left at the coordinator, and each site has the model with its own proof.
    assert not campaign.sum_record.exists()
    assert not campaign.arrivals.exists()
    for name in ("alpha", "beta"):
        assert (federation.sites[name].joined().folder / "merged.safetensors").exists()
