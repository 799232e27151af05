"""What a coordinator looks at before a campaign; see `protos.preflight`."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from coordinator import roster, superlink
from coordinator.home import Home
from protos import preflight, validity
from protos.addresses import Address
from protos.preflight import BAD, GOOD, UNCHECKED, WARNING, Finding
from protos.rules import SECURE_SUM

_KEYS = ("signing.pem", "agreement.pem", "ca.key", "server.key")
_SUM = 6
"""Files of the base's size that a campaign needs, beside one for each site: base, merge state, merged model."""
_RENEW = "onebasin coordinator renew-certificate"
_AUTHORITY = "onebasin coordinator renew-authority"


def look(home: Home) -> Iterator[Finding]:
    """Look at everything that a campaign needs; one finding after the other, so that they can be shown at once."""
    yield from preflight.findings(
        [
            ("versions", preflight.versions),
            ("configuration", lambda: _configuration(home)),
            ("keys", lambda: preflight.keys(home.keys, _KEYS)),
            ("disk", lambda: _disk(home)),
            ("authority", lambda: preflight.certificate(home.keys / "ca.crt", "authority", _AUTHORITY)),
            ("server certificate", lambda: _server(home)),
            ("sites", lambda: _sites(home)),
            ("SuperLink", lambda: _superlink(home)),
        ]
    )


def _configuration(home: Home) -> Iterator[Finding]:
    settings = home.settings
    yield Finding("configuration", GOOD, f"sites are told {', '.join(home.addresses)}")
    if set(settings.hosts) <= {"localhost", "127.0.0.1", "::1"}:
        fix = f"name this machine under hosts in coordinator.toml, then: {_RENEW}"
        yield Finding("hosts", WARNING, "only sites on this very machine will find it", fix)


def _disk(home: Home) -> Iterator[Finding]:
    needed = preflight.LITTLE
    for folder in home.campaigns():
        if folder.base.exists() and not (folder.outcome() or {}).get("ok"):
            masked = folder.campaign.rules.privacy == SECURE_SUM  # eight bytes for each value
            needed += folder.base.stat().st_size * (_SUM + len(folder.campaign.sites) * (2 if masked else 1))
    yield from preflight.disk(home.folder, needed)


def _server(home: Home) -> Iterator[Finding]:
    (found,) = validity.certificates(home.keys / "server.pem")
    yield preflight.judged(found, "server certificate", _RENEW)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = {str(entry.value) for entry in names}
    missing = [host for host in home.certificate_hosts if host not in listed]
    if missing:
        yield Finding("server certificate", BAD, f"is not for {', '.join(missing)}", _RENEW)


def _sites(home: Home) -> Iterator[Finding]:
    names = [request.site for request in roster.approved(home)]
    if names:
        yield Finding("sites", GOOD, f"approved: {', '.join(names)}")
    else:
        yield Finding("sites", WARNING, "none is approved", "onebasin coordinator approve")


def _superlink(home: Home) -> Iterator[Finding]:
    if not superlink.is_running(home):
        yield Finding("SuperLink", UNCHECKED, "it is not running", "start it: onebasin coordinator superlink")
        return
    port = Address.parse(home.settings.fleet_address).port
    restart = f"stop the SuperLink and start it again; if that does not help: {_RENEW}"
    yield from preflight.reachable(f"localhost:{port}", home.keys / "ca.crt", restart)
