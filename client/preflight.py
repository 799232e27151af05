"""What a site looks at before a campaign; see `protos.preflight`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from client import acceptance
from client.data.settings import FolderData
from client.joined import Joined, check_base
from client.site import Site
from protos import preflight
from protos.errors import ConfigurationError
from protos.preflight import BAD, GOOD, UNCHECKED, WARNING, Finding

_KEYS = ("signing.pem", "agreement.pem", "node")
_COPIES = 8
"""Files of the base's size that a campaign may need: base, checkpoint with optimizer, outbox, delivered models."""
_WELCOME = "take in a new welcome from the coordinator: onebasin site join"


def look(site: Site) -> Iterator[Finding]:
    """Look at everything that a campaign needs; one finding after the other, so that they can be shown at once."""
    yield from preflight.findings(
        [
            ("versions", lambda: preflight.versions("torch")),
            ("configuration", lambda: _configuration(site)),
            ("keys", lambda: preflight.keys(site.keys, _KEYS)),
            ("request", lambda: _request(site)),
            ("disk", lambda: _disk(site)),
            ("GPU", lambda: _gpu(site)),
            ("clock", lambda: _clock(site)),
            ("coordinator", lambda: _coordinator(site)),
            ("campaign", lambda: _campaign(site)),
        ]
    )


def _configuration(site: Site) -> Iterator[Finding]:
    data = site.settings.data
    if isinstance(data, FolderData):
        parts = [data.source, data.target, *([data.evaluation] if data.evaluation else [])]
        missing = [str(path) for part in parts if not (path := site.folder / Path(part.folder)).is_dir()]
        if missing:
            yield Finding("configuration", BAD, f"no folder {', '.join(missing)}", "mend [data] in site.toml")
            return
    yield Finding("configuration", GOOD, "site.toml is in order")


def _request(site: Site) -> Iterator[Finding]:
    request = site.request()
    public = (
        site.node_key.with_suffix(".pub").read_text().strip() if site.node_key.with_suffix(".pub").exists() else ""
    )
    if request.site != site.name or request.node_key != public:
        fix = "restore both from where they were made: the coordinator knows the site by them"
        yield Finding("request", BAD, "request.json is of another name or node key than this site's", fix)
    else:
        yield Finding("request", GOOD, f"fingerprint {request.fingerprint}")


def _disk(site: Site) -> Iterator[Finding]:
    joined = _joined(site)
    size = joined.base.stat().st_size if joined is not None and joined.base.exists() else 0
    yield from preflight.disk(site.folder, preflight.LITTLE + _COPIES * size)


def _gpu(site: Site) -> Iterator[Finding]:
    import torch  # takes seconds

    wanted = site.settings.resources.device
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        yield Finding("GPU", GOOD, f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    elif wanted == "cuda":
        fix = 'mend the driver or the installation of PyTorch, or set device = "auto" in site.toml'
        yield Finding("GPU", BAD, "none that PyTorch can use, and site.toml wants one", fix)
    else:
        yield Finding("GPU", WARNING, "none that PyTorch can use", "on a CPU adapting a large network takes weeks")


def _clock(site: Site) -> Iterator[Finding]:
    welcome = site.coordinator()
    if welcome is not None:
        issued = datetime.datetime.fromtimestamp(welcome.message.issued_unix, datetime.UTC)
        yield from preflight.not_before(issued, "the welcome was signed")
    yield Finding(
        "clock skew", UNCHECKED, "Flower's Fleet API tells no time; certificates' times are checked below"
    )


def _coordinator(site: Site) -> Iterator[Finding]:
    authority = site.folder / site.settings.superlink.root_certificates
    if not authority.exists():
        raise ConfigurationError("no coordinator's certificate is here", _WELCOME)
    yield from preflight.certificate(authority, "authority", _WELCOME)
    yield from preflight.reachable(site.address, authority, _WELCOME)


def _campaign(site: Site) -> Iterator[Finding]:
    joined = _joined(site)
    if joined is None:
        yield Finding("campaign", WARNING, "none joined", "onebasin site join")
        return
    check_base(joined.base, joined.campaign)
    if not acceptance.accepted(joined):
        fix = "read its rules (onebasin site show), then: onebasin site accept"
        yield Finding("campaign", WARNING, f"{joined.campaign.name} is not accepted", fix)
        return
    acceptance.check(joined)
    yield Finding("campaign", GOOD, f"{joined.campaign.name} {joined.campaign.digest.hex()[:20]}, accepted")


def _joined(site: Site) -> Joined | None:
    return site.joined() if (site.folder / "campaigns" / "current").exists() else None
