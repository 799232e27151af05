"""docs/regions.md, typed as it stands: two regions on SuperLinks of their own, and a coordinator above them."""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from typed import Terminal, commands

from chaos import models
from chaos.federation import Federation, federation
from client.outbox import Outbox
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import Update
from coordinator.merging import last_receipt
from protos.digest import model_digest
from protos.tensorfile import TensorFile
from protos.updatefile import UpdateFile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

PAGE = Path(__file__).parents[2] / "docs" / "regions.md"
SITES = {"eu": ("alpha", "beta"), "us": ("gamma", "delta", "epsilon")}
PARAMETERS = 200_000


def of(region: str, line: str) -> str:
    """Return a line for another region than the page's: of three sites, and with a secure sum inside."""
    if region == "eu":
        return line
    mine = "".join(f" --site {site}" for site in SITES[region])
    line = line.replace(" --site alpha --site beta", f"{mine} --privacy secure-sum")
    return re.sub(r"\beu\b", region, line).replace("alpha", SITES[region][0])


def join_inside(inside: Federation, outboxes: list[Outbox]) -> None:
    """Let a region's sites agree to its campaign, and have something to send."""
    (campaign,) = inside.home.campaigns()
    for name in campaign.campaign.sites:
        outboxes.append(Outbox(inside.join(name, campaign)))
        outboxes[-1].store(models.random_model(len(outboxes), PARAMETERS))


def flat_digest(base: Path, outboxes: list[Outbox], path: Path) -> str:
    """Return the digest of the mid-point of single updates, merged at once and without regions."""
    with ExitStack() as opened:
        updates = [opened.enter_context(UpdateFile(outbox.model)) for outbox in outboxes]
        file = opened.enter_context(TensorFile(base))
        terms = [(1, Update(one.file, one.statistics, one.digest, one.header.site)) for one in updates]
        digests = write_midpoint(path, file, terms, pooled_statistics(terms, file.manifest), {})
        return model_digest(file.manifest.tensors, digests).hex()


def hand_out(desk: Path, region: str) -> None:
    """Give a region's sites what came back: that is not the product's to do."""
    for name in ("merged.safetensors", "receipt.json"):
        (found,) = (desk / f"{region}-region" / "campaigns").glob(f"*/{name}")
        shutil.copy(found, desk)


def test_the_commands_of_the_page_give_the_bits_of_a_flat_campaign(tmp_path):
    desk = tmp_path / "desk"
    desk.mkdir()
    base, outboxes, said = models.write_base(desk / "base.safetensors", PARAMETERS), [], {}
    with Terminal(desk) as terminal, ExitStack() as up:
        homes = {}
        for name in ("above", *SITES):
            (tmp_path / name).mkdir()
            sites = SITES.get(name, ())
            homes[name] = up.enter_context(federation(tmp_path / name, sites=sites, absent=(), weights=base))
            (desk / name).symlink_to(homes[name].home.folder)
        merging = None
        for line in commands(PAGE):
            inside = "withdraw" not in line and re.search(r"\beu-region\b|\bautumn-eu\b", line)
            for region in SITES if inside else ("eu",):
                typed = of(region, line)
                if " verify " in typed:
                    hand_out(desk, region)
                if " withdraw " in typed:
                    receipt = last_receipt(merging)
                    assert receipt.models == sum(map(len, SITES.values()))
                    assert receipt.merged.digest == flat_digest(base, outboxes, tmp_path / "flat.safetensors")
                said[" ".join(typed.split()[1:3]), region] = terminal.type(typed)
                if " create above " in typed:
                    merging = homes["above"].home.campaign("autumn")
                elif " create " in typed:
                    join_inside(homes[region], outboxes)

    # Sums crossed the border, eight bytes for a parameter, and no more of them than of one site.
    events = homes["above"].home.journal.events(merging.key)
    arrived = {event["site"]: event["bytes"] for _, event in events if event["event"] == "arrived"}
    with TensorFile(base) as file:
        assert arrived == dict.fromkeys(SITES, 8 * sum(spec.size for spec in file.manifest.parameters.values()))
    # And what is left without the region that was taken out again is the sum of the other's sites.
    left = outboxes[len(SITES["eu"]) :]
    assert last_receipt(merging).merged.digest == flat_digest(base, left, tmp_path / "left.safetensors")
