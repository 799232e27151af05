"""Two regions over SuperLinks of their own, and a coordinator above them over a third."""

from contextlib import ExitStack

import pytest

from chaos import models
from chaos.federation import LOOPBACK, federation
from client.outbox import Outbox
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import Update
from coordinator.merging import last_receipt
from coordinator.verifying import Evidence, verify
from onebasin import region
from protos.digest import model_digest
from protos.tensorfile import TensorFile
from protos.updatefile import UpdateFile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

REGIONS = {"east": ("alpha", "beta"), "west": ("gamma", "delta")}
PARAMETERS = 200_000
PATIENT = {"deadline_seconds": 360, "patience_seconds": 180}


def flat_digest(base, outboxes, path):
    """Return the digest of the mid-point of single updates, merged at once and without regions."""
    with ExitStack() as opened:
        updates = [opened.enter_context(UpdateFile(outbox.model)) for outbox in outboxes]
        file = opened.enter_context(TensorFile(base))
        terms = [(1, Update(one.file, one.statistics, one.digest, one.header.site)) for one in updates]
        digests = write_midpoint(path, file, terms, pooled_statistics(terms, file.manifest), {})
        return model_digest(file.manifest.tensors, digests).hex()


def test_two_regions_of_two_sites_give_the_bits_of_the_four(tmp_path):
    base, outboxes, over = models.write_base(tmp_path / "base.safetensors", PARAMETERS), [], {}
    for name, sites in REGIONS.items():  # one after the other, so that they don't wait for each other's processes
        (tmp_path / name).mkdir()
        with federation(tmp_path / name, sites=sites, absent=(), weights=base) as found:
            campaign = over[name] = found.campaign(join=sites, members=sites, send_on=True, **PATIENT)
            for site in sites:
                outboxes.append(Outbox(found.sites[site].joined()))
                outboxes[-1].store(models.random_model(len(outboxes), PARAMETERS))
            found.run(campaign)
    (tmp_path / "above").mkdir()
    with federation(tmp_path / "above", sites=(), absent=(), weights=base) as above:
        address = f"{LOOPBACK}:{above.port}"
        for name, campaign in over.items():
            above.add(region.init(tmp_path / name / "region", campaign.home, name, address=address))
        merging = above.campaign(join=tuple(REGIONS), members=tuple(REGIONS), deliver=True, **PATIENT)
        for name, campaign in over.items():
            put = region.put(above.sites[name].joined(), campaign)
            assert (put.models, put.receipt) == (2, last_receipt(campaign).digest)
        events = above.run(merging)

    # Sums crossed the border, eight bytes for a parameter, and no more of them than of one site.
    arrived = {event["site"]: event["bytes"] for event in events if event["event"] == "arrived"}
    with TensorFile(base) as file:
        assert arrived == dict.fromkeys(REGIONS, 8 * sum(spec.size for spec in file.manifest.parameters.values()))
    receipt = last_receipt(merging)
    assert receipt.models == 4
    assert receipt.merged.digest == flat_digest(base, outboxes, tmp_path / "flat.safetensors")
    nested = [campaign.merged / "receipt.json" for campaign in over.values()]
    for name in REGIONS:  # each region has the model, and can have it verified down to its sites' updates
        kept = above.sites[name].joined().folder
        evidence = Evidence(merging.campaign, [one.model for one in outboxes], base, (), nested)
        key = merging.campaign.message.coordinator_key
        verdict = verify(kept / "merged.safetensors", kept / "receipt.json", key, evidence)
        assert all(check.ok for check in verdict.checks), verdict.checks
