"""A coordinator, its campaign and the sites that joined it, in folders; and a receipt of a merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from random_models import Model, digest_of, manifest_of, random_model, save

from client import acceptance
from client.joined import Joined
from client.outbox import Outbox
from client.site import Site
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from protos.audit import Anchor
from protos.campaign import Campaign
from protos.manifest import Manifest
from protos.receipts import BUFFER_RULE, PARAMETER_RULE, Input, Merged, Receipt
from protos.rules import Rules


@dataclass
class World:
    """A coordinator, its campaign, and sites that joined it and finished adapting."""

    home: Home
    folder: CampaignFolder
    base: Path
    base_model: Model
    sites: dict[str, Site]
    models: dict[str, Model]

    @property
    def campaign(self) -> Campaign:
        return self.folder.campaign

    @property
    def manifest(self) -> Manifest:
        return manifest_of(self.base_model)

    def joined(self, site: str) -> Joined:
        return self.sites[site].joined(self.campaign.digest)

    def outbox(self, site: str) -> Outbox:
        return Outbox(self.joined(site))


def _adapted(base: Model, seed: int, dtype: str) -> Model:
    """Return another model whose buffers that are no statistics are the base's."""
    return {**random_model(seed, dtype), "table": base["table"]}


def build_world(
    folder: Path,
    names: tuple[str, ...] = ("clear", "fog", "night"),
    rules: Rules | None = None,
    *,
    dtype: str = "float32",
    store: bool = True,
    campaign: str = "one",
    models: Mapping[str, Model] | None = None,
    base_model: Model | None = None,
    classes: int = 5,
) -> World:
    """Make it all in `folder`."""
    home = Home.init(
        folder / "coordinator", hosts=("localhost", "127.0.0.1"), control_port=9093, fleet_address="127.0.0.1:9092"
    )
    base_model = random_model(0, dtype) if base_model is None else base_model
    base = save(folder / "base.safetensors", base_model, {"model": "tiny-resnet", "classes": str(classes)})
    sites = {name: Site.init(folder / name, name, address="127.0.0.1:9092", domain="night") for name in names}
    members = {name: site.request().keys for name, site in sites.items()}
    made = home.create(campaign, base, members=members, rules=rules or Rules())
    found = dict(models or {name: _adapted(base_model, i + 1, dtype) for i, name in enumerate(names)})
    for name, site in sites.items():
        joined = site.join(made.campaign_file, base, home.keys / "ca.crt")
        acceptance.accept(joined, made.campaign.digest.hex())
        if store:
            Outbox(joined).store(found[name])
    return World(home, made, base, base_model, sites, found)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A coordinator and three sites that finished adapting; the test may change what it likes."""
    return build_world(tmp_path)


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    """Return a function that makes worlds of other sizes and rules."""
    count = 0

    def make(*args: object, **kwargs: object) -> World:
        nonlocal count
        count += 1
        return build_world(tmp_path / f"world-{count}", *args, **kwargs)

    return make


def receipt_of(sites: Iterable[str] = ("clear", "fog", "night"), **changes: object) -> Receipt:
    """Make a receipt of updates that there are not."""
    fields: dict[str, object] = {
        "campaign": "autumn",
        "campaign_digest": "c" * 64,
        "base_digest": "b" * 64,
        "rules": Rules(),
        "inputs": tuple(Input(site, digest_of(site).hex()) for site in sites),
        "withdrawn": (),
        "supersedes": "",
        "parameter_rule": PARAMETER_RULE,
        "buffer_rule": BUFFER_RULE,
        "models": 3,
        "merged": Merged("merged.safetensors", "e" * 64, "d" * 64),
        "audit": Anchor(3, "a" * 64),
        "created_unix": 1_790_000_000,
        "versions": {"onebasin": "1"},
    }
    return Receipt(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_receipt() -> Callable[..., Receipt]:
    """Return `receipt_of`."""
    return receipt_of
