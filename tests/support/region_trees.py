"""A campaign above others, whose members are regions: the worlds that their coordinators belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from random_models import Model, random_model
from worlds import World

from client import acceptance
from client.outbox import Outbox
from client.site import Site
from coordinator import strategy
from coordinator.home import Home
from coordinator.merging import last_receipt
from coordinator.strategy import OneShotMerge
from onebasin import region
from protos.receipts import Receipt
from protos.rules import Rules

BASE = random_model(0)
MODELS: dict[str, Model] = {
    name: {**random_model(i + 1), "table": BASE["table"]}
    for i, name in enumerate(("clear", "dusty", "fog", "night", "rain", "snow"))
}
"""Six sites' models of one base."""
INSIDE = Rules(evaluate=False, send_on=True)
"""A region's campaign whose sum may be sent on."""


def build_above(
    folder: Path,
    regions: Mapping[str, World],
    alone: tuple[str, ...] = (),
    rules: Rules | None = None,
    *,
    campaign: str = "above",
    base: Path | None = None,
) -> World:
    """Make a coordinator above worlds, and its campaign of them and of sites of its own; all have joined it."""
    home = Home.init(
        folder / "coordinator", hosts=("localhost", "127.0.0.1"), control_port=9093, fleet_address="127.0.0.1:9092"
    )
    base = base or next(iter(regions.values())).base
    sites = {name: region.init(folder / name, world.home, name) for name, world in regions.items()}
    sites |= {name: Site.init(folder / name, name, domain="night") for name in alone}
    members = {name: site.request().keys for name, site in sites.items()}
    made = home.create(campaign, base, members=members, rules=rules or Rules(evaluate=False))
    for name, site in sites.items():
        joined = site.join(made.campaign_file, base, home.keys / "ca.crt")
        acceptance.accept(joined, made.campaign.digest.hex())
        if name in alone:
            Outbox(joined).store(MODELS[name])
    return World(home, made, base, BASE, dict(sorted(sites.items())), {name: MODELS[name] for name in alone})


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., World]:
    """Return `build_above`, in a folder of its own."""
    count = 0

    def made(*args: object, **kwargs: object) -> World:
        nonlocal count
        count += 1
        return build_above(tmp_path / f"above-{count}", *args, **kwargs)

    return made


@pytest.fixture
def run(make_grid, clock, monkeypatch) -> Callable[[World], Receipt]:
    """Return a function that runs a world's campaign to its end, without pictures, and returns the receipt."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)

    def ran(world: World, **options: object) -> Receipt:
        OneShotMerge(world.folder).start(make_grid(world, **options))
        receipt = last_receipt(world.folder)
        assert receipt is not None
        return receipt

    return ran


@pytest.fixture
def inside(make_world, run) -> Callable[..., World]:
    """Return a function that makes a region's world of sites by their names, with its campaign over."""

    def made(*names: str, rules: Rules = INSIDE, over: bool = True, **options: object) -> World:
        world = make_world(names, rules, models={name: MODELS[name] for name in names}, **options)
        if over:
            run(world)
        return world

    return made


def put(above: World, name: str, world: World) -> region.Put:
    """Put the sum of a world's campaign into the outbox of the region that it is above."""
    return region.put(above.joined(name), world.folder)


@pytest.fixture
def two_regions(inside, build) -> Iterator[tuple[World, dict[str, World]]]:
    """A campaign of two regions of two sites, whose sums are in the outboxes."""
    regions = {"east": inside("clear", "dusty"), "west": inside("fog", "night")}
    above = build(regions)
    for name, world in regions.items():
        put(above, name, world)
    yield above, regions


SECURE = replace(INSIDE, privacy="secure-sum", minimum_sites=3)
"""A region's campaign whose coordinator learns the sum alone."""
