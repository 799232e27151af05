"""Names that would like to be paths, options or other people's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.site import Site
from protos import campaign as campaigns
from protos import campaign_pb2 as pb
from protos.campaign import check_name
from protos.enrolment import Request
from protos.errors import ConfigurationError

BAD = [
    "",
    ".",
    "..",
    "../fog",
    "/etc/passwd",
    "fog/night",
    "fog\\night",
    "fog\0",
    "fog\n",
    "fog\n\n",
    "\nfog",
    "fog ",
    " fog",
    "--help",
    "-fog",
    "Fog",
    "fög",
    "ｆｏｇ",
    "f\u0456g",
    "fog\u202egof",
    "fog;rm -rf",
    "$(id)",
    "{fog}",
    "fog.toml",
    "con:",
    "f" * 41,
    "f" * 100_000,
]


@pytest.mark.parametrize("name", BAD, ids=lambda name: repr(name[:20]))
def test_a_bad_name_is_refused_wherever_names_come_in(world, tmp_path, name):
    with pytest.raises(ConfigurationError):
        check_name(name, "site")
    for change in ("campaign", "site"):
        message = pb.Campaign.FromString(world.campaign.payload)
        if change == "campaign":
            message.name = name
        else:
            message.members[0].site = name
        with pytest.raises(ConfigurationError):
            campaigns.parse(message.SerializeToString(deterministic=True), "campaign.binpb")
    with pytest.raises(ConfigurationError):
        Site.init(tmp_path / "site", name, address="x:1", domain="night")
    with pytest.raises(ConfigurationError):
        world.home.create(
            name, world.base, members={"fog": world.sites["fog"].request().keys}, rules=world.campaign.rules
        )
    site = world.sites["fog"]
    request = replace(site.request(), site=name)
    request.write(tmp_path / "request.json", site.signing_key)
    with pytest.raises(ConfigurationError):
        Request.read(tmp_path / "request.json")


def test_no_folder_was_made_outside(world):
    assert {path.name for path in (world.home.folder / "campaigns").iterdir()} == {"one"}
