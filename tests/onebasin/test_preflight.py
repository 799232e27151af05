"""Both sides' preflight, as it is typed."""

from __future__ import annotations

import json

import pytest

from client import enrolment
from coordinator import roster


@pytest.fixture
def ready(world):
    """Return a world whose site fog knows its coordinator."""
    site = world.sites["fog"]
    roster.approve(world.home, site.request_path, site.request().fingerprint)
    enrolment.take(site, world.home.folder / "sites" / "fog" / "welcome.json", world.home.fingerprint)
    return world


def looked(onebasin, side, folder):
    code, out, err = onebasin(side, "preflight", folder, "--json")
    found = json.loads(out)
    states = {finding["what"]: finding["state"] for finding in found["findings"]}
    assert found["ready"] == (code == 0) == ("bad" not in states.values())
    assert code in (0, 15)
    assert all(finding["fix"] for finding in found["findings"] if finding["state"] == "bad")
    return states, err


def test_a_site_is_ready_but_for_the_superlink_that_is_not_up(onebasin, ready):
    states, err = looked(onebasin, "site", ready.sites["fog"].folder)
    assert {what for what, state in states.items() if state == "bad"} == {"reachable"}
    assert states["clock skew"] == "not checked"
    assert states["campaign"] == states["keys"] == states["authority"] == states["clock"] == "ok"
    assert "site fog is not ready: reachable" in err


def test_a_site_is_told_all_that_is_wrong_at_once(onebasin, ready):
    site = ready.sites["fog"]
    (site.keys / "signing.pem").chmod(0o644)
    (ready.joined("fog").folder / "accepted.json").unlink()
    (site.keys / "node.pub").write_text("another")
    (site.keys / "ca.crt").write_text("none")
    states, _ = looked(onebasin, "site", site.folder)
    assert {what for what, state in states.items() if state == "bad"} == {"permissions", "request", "coordinator"}
    assert states["campaign"] == "warning"


def test_folders_of_images_that_are_not_there_are_found(onebasin, tmp_path):
    onebasin("site", "init", tmp_path / "north")
    states, _ = looked(onebasin, "site", tmp_path / "north")
    assert states["configuration"] == "bad"


def test_a_coordinator_is_ready_before_its_superlink_runs(onebasin, ready):
    states, _ = looked(onebasin, "coordinator", ready.home.folder)
    assert states["SuperLink"] == "not checked"
    assert states["server certificate"] == states["authority"] == states["sites"] == "ok"
    assert states["hosts"] == "warning"


def test_a_certificate_that_is_not_for_a_new_host_is_found_and_renewed(onebasin, ready):
    path = ready.home.settings_path
    path.write_text(path.read_text().replace('hosts = ["localhost", "127.0.0.1"]', 'hosts = ["merge.example"]'))
    states, err = looked(onebasin, "coordinator", ready.home.folder)
    assert "server certificate" in err
    code, _, _ = onebasin("coordinator", "renew-certificate", ready.home.folder)
    assert code == 0
    states, _ = looked(onebasin, "coordinator", ready.home.folder)
    assert states["server certificate"] == "ok"


def test_a_new_authority_reaches_the_sites_by_their_welcomes(onebasin, ready):
    site, home = ready.sites["fog"], ready.home
    code, out, _ = onebasin("coordinator", "renew-authority", home.folder)
    assert code == 0
    assert "give fog this file" in out
    code, _, _ = onebasin("site", "join", site.folder, home.folder / "sites" / "fog" / "welcome.json")
    assert code == 0
    assert (site.keys / "ca.crt").read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert onebasin("coordinator", "renew-authority", home.folder, "--finish")[0] == 0
    assert (home.keys / "ca.crt").read_bytes().count(b"BEGIN CERTIFICATE") == 1
    assert (home.keys / "ca.crt").read_bytes() in (site.keys / "ca.crt").read_bytes()


def test_people_get_a_table(onebasin, ready):
    _, out, _ = onebasin("coordinator", "preflight", ready.home.folder)
    assert "how to fix" in out
    assert "onebasin coordinator superlink" in out
