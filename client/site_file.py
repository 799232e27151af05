"""What a new site's ``site.toml`` says, before its operator changes it."""

from __future__ import annotations

_TEMPLATE = """\
# A site of onebasin. Nothing in this file leaves the site, but its name.
name = "{name}"
{superlink}
{data}
[resources]
device = "auto"
adapting = "asked"              # or "scheduled": only `onebasin site adapt` starts it, at hours of your own

# Campaigns that break this policy can't be accepted and are not run. What stands here forbids nothing.
[policy]
weakest_privacy = "sealed"      # or "secure-sum"
fewest_sites = 1                # updates that a merge must have
members = []                    # names or fingerprints of those that may take part; none: any
compare_single_models = true    # may this site's model travel to other sites, to be compared there?
counts_in_clear = true          # may the coordinator see this site's BatchNorm counts?
"""
_SUPERLINK = """
[superlink]
address = "{address}"
"""
_SCENES = """
# Built-in scenes. For images of your own, see docs/data.md; check them with: onebasin site check-data
[data]
domain = "{domain}"
"""
_FOLDERS = """
# Say here where the images are; docs/data.md tells more. Then check them with: onebasin site check-data
[data.source]        # labelled, synthetic as a rule
layout = "gta"
folder = "/data/gta"

[data.target]        # this site's own, to adapt on; nothing looks for labels there
layout = "folder"
folder = "/data/own"
split = "train"
"""
_REGION = """
# A region adapts to no images: its update is the sum of its coordinator's campaign (onebasin region sum), and what
# stands here about images is not looked at.
[data]
domain = "clear"
"""


def content(name: str, address: str, domain: str, *, region: bool = False) -> str:
    """Return the content of a new site's settings.

    Args:
        name: The site's name.
        address: Host and port of the SuperLink; empty: as the coordinator's welcome will say.
        domain: Of the built-in scenes; empty: a place for folders of images.
        region: Whether it is a region, which has none.

    """
    data = _REGION if region else _SCENES.format(domain=domain) if domain else _FOLDERS
    superlink = _SUPERLINK.format(address=address) if address else ""
    return _TEMPLATE.format(name=name, superlink=superlink, data=data)
