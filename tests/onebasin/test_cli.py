"""The command line's contract: what went wrong on standard error, without a traceback, and a documented code."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typed import blocks

from client.site import Site
from coordinator import roster
from coordinator.members import Member, State
from onebasin import cli
from protos import validity
from protos.errors import (
    AdaptationError,
    BaseMismatchError,
    ConfigurationError,
    DataError,
    FederationError,
    ModelFileError,
    OnebasinError,
    QuorumError,
    StorageError,
)


@pytest.fixture
def refused(onebasin):
    """Run a command that must fail with an error of ours; returns its text."""

    def ran(kind: type[OnebasinError], *arguments: object) -> str:
        code, out, err = onebasin(*arguments)
        assert code == kind.exit_code
        assert err.startswith("error: ")
        assert "Traceback" not in err + out
        return err

    return ran


def test_a_folder_without_a_site_is_named_with_what_to_do(refused, tmp_path):
    err = refused(ConfigurationError, "site", "show", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in err
    assert "→ make one: onebasin site init" in err


@pytest.mark.parametrize("command", [["run"], ["status"]])
def test_a_folder_without_a_coordinator_is_named(refused, tmp_path, command):
    err = refused(ConfigurationError, "coordinator", *command, tmp_path / "nowhere", "one")
    assert "there is no coordinator in" in err


def test_a_campaign_that_there_is_not_is_named(refused, world):
    err = refused(ConfigurationError, "coordinator", "run", world.home.folder, "two")
    assert "there is no campaign two" in err


def test_the_wrong_base_has_its_own_code(refused, world, tmp_path, model, saved):
    other = saved(tmp_path / "other.safetensors", model(99))
    arguments = (world.folder.campaign_file, "--base", other)
    err = refused(BaseMismatchError, "site", "join", world.sites["fog"].folder, *arguments)
    assert "but campaign one starts from base" in err
    assert "copy the base again" in err


def test_a_campaign_of_others_is_refused(refused, world, tmp_path):
    Site.init(tmp_path / "rain", "rain", address="x:1", domain="night")
    arguments = (world.folder.campaign_file, "--base", world.base)
    err = refused(ConfigurationError, "site", "join", tmp_path / "rain", *arguments)
    assert "campaign one has no site rain" in err


def test_a_file_that_is_no_campaign_is_refused(refused, world):
    arguments = (world.base, "--base", world.base)
    err = refused(ConfigurationError, "site", "join", world.sites["fog"].folder, *arguments)
    assert "the Campaign" in err


@pytest.mark.parametrize("digest", ["00" * 32, "not-hexadecimal", "0"])
@pytest.mark.parametrize("command", ["status", "adapt"])
def test_a_campaign_that_was_not_joined_is_refused(refused, world, command, digest):
    refused(ConfigurationError, "site", command, world.sites["fog"].folder, "--campaign", digest)


def test_an_unknown_setting_suggests_the_nearest(refused, world):
    path = world.sites["fog"].settings_path
    path.write_text(path.read_text() + "\n[adapt]\nstpes = 3\n")
    err = refused(ConfigurationError, "site", "show", world.sites["fog"].folder)
    assert "adapt: unknown key stpes" in err
    assert "did you mean steps?" in err


def test_a_port_in_use_is_named(refused, world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = world.home.settings_path
        path.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", path.read_text()))
        err = refused(FederationError, "coordinator", "superlink", world.home.folder)
    assert f"port {port}" in err


def test_a_site_or_a_coordinator_is_not_made_twice(refused, world):
    refused(ConfigurationError, "coordinator", "init", world.home.folder)
    arguments = ("--name", "fog", "--superlink", "x:1", "--domain", "night")
    refused(ConfigurationError, "site", "init", world.sites["fog"].folder, *arguments)


def test_a_member_that_was_not_approved_is_refused(refused, world):
    arguments = ("--base", world.base, "--site", "fog")
    err = refused(ConfigurationError, "coordinator", "create", world.home.folder, "two", *arguments)
    assert "no site fog was approved" in err


@pytest.mark.parametrize("mode", ["plain", "none"])
def test_a_privacy_mode_that_cannot_be_run_is_refused(refused, approved, mode):
    arguments = ("--base", approved.base, "--site", "fog", "--privacy", mode)
    err = refused(ConfigurationError, "coordinator", "create", approved.home.folder, "two", *arguments)
    assert mode in err
    assert not (approved.home.folder / "campaigns" / "two").exists()


@pytest.fixture
def approved(world):
    """Return a world whose coordinator has approved all sites."""
    for site in world.sites.values():
        roster.approve(world.home, site.request_path, site.request().fingerprint)
    return world


KINDS = [ModelFileError, QuorumError, AdaptationError, DataError, StorageError, FederationError, OnebasinError]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_ends_with_its_code(refused, monkeypatch, kind):
    def fail(_: Path) -> None:
        raise kind("it broke", "mend it")

    monkeypatch.setattr(Site, "open", fail)
    assert refused(kind, "site", "show", "anywhere") == "error: it broke\n  → mend it\n"


def test_verbose_shows_the_traceback_too(onebasin, tmp_path):
    code, _, err = onebasin("--verbose", "site", "show", tmp_path)
    assert code == ConfigurationError.exit_code
    assert "Traceback (most recent call last)" in err
    assert "error: there is no site in" in err


def test_an_unexpected_error_is_not_hidden(onebasin, monkeypatch):
    monkeypatch.setattr(Site, "open", lambda _: {}["gone"])
    with pytest.raises(KeyError):
        onebasin("site", "show", "anywhere")


def test_an_interruption_ends_with_130(onebasin, monkeypatch):
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Site, "open", interrupt)
    code, out, err = onebasin("site", "show", "anywhere")
    assert code == 130
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    "arguments",
    [["site", "show"], ["site", "show", "x", "--unknown"], ["nothing"], ["coordinator", "create", "x", "one"]],
)
def test_wrong_usage_ends_with_2(onebasin, arguments):
    code, _, err = onebasin(*arguments)
    assert code == 2
    assert "Usage" in err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["site", "adapt", "--help"]])
def test_help_and_version_end_with_0(onebasin, arguments):
    code, out, err = onebasin(*arguments)
    assert code == 0
    assert "onebasin" in out
    assert not err


def test_the_installed_command_does_the_same(tmp_path):
    command = [sys.executable, "-m", "onebasin", "site", "show", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == ConfigurationError.exit_code
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: there is no site in {tmp_path}",
        "  → make one: onebasin site init",
    ]


# ------------------------------------------------------------- what they say


def test_a_site_shows_its_fingerprint_and_campaign(onebasin, world):
    site = world.sites["fog"]
    code, out, _ = onebasin("site", "show", site.folder, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["site"] == "fog"
    assert found["fingerprint"] == site.request().fingerprint
    assert (found["campaign"], found["accepted"]) == (world.campaign.digest.hex(), True)
    assert site.request().fingerprint in onebasin("site", "show", site.folder)[1]


def test_a_site_says_how_far_it_is(onebasin, world):
    code, out, _ = onebasin("site", "status", world.sites["fog"].folder, "--json")
    found = json.loads(out)
    assert (code, found["site"], found["campaign"], found["state"]) == (0, "fog", "one", "ready")
    assert "site fog, campaign one: ready" in onebasin("site", "status", world.sites["fog"].folder)[1]


def test_a_coordinator_says_how_far_a_campaign_is(onebasin, world):
    world.folder.begin()
    events = world.folder.log()
    events.place(Member("fog", 0.0, State.ADAPTING))
    events.note("progress", "fog", state="adapting", phase="adapt", step=3, steps=9, eta=61.5)
    events.place(Member("clear", 0.0, State.REFUSED, reason="site clear has no images"))
    world.folder.end(ok=False, exit_code=9, what="too few", fix="")
    code, out, _ = onebasin("coordinator", "status", world.home.folder, "one", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["digest"], found["state"]) == (world.campaign.digest.hex(), "failed")
    assert found["deadline"] - found["started"] == pytest.approx(world.campaign.rules.deadline_seconds)
    fog, clear, night = (found["sites"][site] for site in ("fog", "clear", "night"))
    assert (fog["state"], fog["owner"], fog["progress"]["step"], fog["progress"]["eta"]) == (
        "adapting",
        "site",
        3,
        61.5,
    )
    assert (clear["state"], clear["reason"]) == ("refused", "site clear has no images")
    assert night["state"] == "absent"
    assert found["outcome"]["exit_code"] == 9
    out = onebasin("coordinator", "status", world.home.folder, "one")[1]
    assert "step 3 of 9" in out
    assert "site clear has no images" in out
    assert "last run: too few" in out


def test_both_sides_display_the_same_digest_and_one_word_accepts_it(onebasin, approved):
    members = [part for site in approved.sites for part in ("--site", site)]
    home = approved.home.folder
    code, out, _ = onebasin("coordinator", "create", home, "two", "--base", approved.base, *members)
    assert code == 0
    digest = approved.home.campaign("two").campaign.digest.hex()
    assert digest in out
    assert onebasin("coordinator", "digest", home, "two")[1].strip() == digest
    site = approved.sites["fog"].folder
    welcome = (home / "sites" / "fog" / "welcome.json", "--base", approved.base)
    said = onebasin("coordinator", "fingerprint", home)[1].strip()
    code, out, _ = onebasin("site", "join", site, *welcome, "--fingerprint", said)
    assert code == 0
    assert digest in out
    assert "not accepted yet" in out
    assert "accepted  no, so nothing is run" in onebasin("site", "show", site)[1]
    code, out, _ = onebasin("site", "join", site, *welcome, "--accept", digest)
    assert code == 0
    assert "accepted campaign two" in out
    assert "so nothing is run" not in out
    assert "accepted  yes" in onebasin("site", "show", site)[1]


def test_a_welcome_with_several_campaigns_joins_those_whose_base_is_here(
    onebasin, approved, tmp_path, model, saved
):
    home, site = approved.home, approved.sites["fog"]
    other = saved(tmp_path / "other.safetensors", model(99), {"model": "tiny-resnet", "classes": "5"})
    for name, base in (("aged", other), ("zeal", approved.base)):
        onebasin("coordinator", "create", home.folder, name, "--base", base, "--site", "fog")
    welcome = home.folder / "sites" / "fog" / "welcome.json"
    arguments = ("--base", approved.base, "--fingerprint", home.fingerprint)
    code, out, _ = onebasin("site", "join", site.folder, welcome, *arguments)
    assert code == 0
    assert "not joined" in out
    assert "campaign aged starts from base" in out
    assert {joined.campaign.name for joined in site.all_joined()} == {"one", "zeal"}
    assert site.joined().campaign.name == "zeal"
    code, _, _ = onebasin("site", "join", site.folder, welcome, "--base", other)
    assert code == 0
    assert site.find("aged").campaign.name == "aged"


def test_a_welcome_without_a_campaign_is_taken_in_too(onebasin, world, tmp_path):
    onebasin("site", "init", tmp_path / "rain", "--domain", "night")
    said = onebasin("site", "fingerprint", tmp_path / "rain")[1].strip()
    home, request = world.home.folder, tmp_path / "rain" / "request.json"
    code, out, _ = onebasin("coordinator", "approve", home, request, "--fingerprint", said)
    assert code == 0
    assert "it is let in when the SuperLink starts" in out
    welcome = home / "sites" / "rain" / "welcome.json"
    code, out, _ = onebasin("site", "join", tmp_path / "rain", welcome, "--fingerprint", world.home.fingerprint)
    assert code == 0
    assert "it brings no campaign yet" in out


def test_accepting_shows_the_rules_and_asks_for_the_digest(onebasin, world, monkeypatch):
    folder = world.joined("fog").folder
    (folder / "accepted.json").unlink()
    monkeypatch.setattr(typer, "prompt", lambda _: world.campaign.digest.hex()[:20])
    code, out, _ = onebasin("site", "accept", world.sites["fog"].folder, "one")
    assert code == 0
    for sentence in (
        "3 of 3 sites must deliver",
        "which reads each of them",
        "accepted campaign one",
    ):
        assert sentence in out
    assert "that of the onebasin installed here" in out


def test_revoking_says_which_campaigns_wait_for_the_site(onebasin, approved):
    code, out, _ = onebasin("coordinator", "revoke", approved.home.folder, "fog")
    assert code == 0
    assert "it is a member of one" in out


def test_a_certificate_that_ends_soon_is_warned_of_at_the_start(onebasin, world, monkeypatch):
    monkeypatch.setattr(validity, "DAYS", 400)
    _, _, err = onebasin("coordinator", "run", world.home.folder, "two")
    assert "server.pem expires in" in err
    assert "onebasin coordinator renew-certificate" in err


def test_a_preview_writes_the_bytes_and_says_how_many(onebasin, world, tmp_path):
    code, out, _ = onebasin(
        "site", "preview", world.sites["fog"].folder, "one", "--json", "--bytes", tmp_path / "b"
    )
    assert code == 0
    found = json.loads(out)
    assert found["bytes"] + 8 == (tmp_path / "b").stat().st_size
    assert found["header"]["site"] == "fog"


def test_every_argument_and_option_says_what_it_is():

    def walk(command, path):
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                assert getattr(parameter, "help", None), f"{path} {parameter.name}"
        assert command.help, path
        for name, sub in getattr(command, "commands", {}).items():
            walk(sub, f"{path} {name}")

    walk(typer.main.get_command(cli.app), "onebasin")


def test_the_shell_can_complete_commands():
    environment = {
        **os.environ,
        "_ONEBASIN_COMPLETE": "complete_bash",
        "COMP_WORDS": "onebasin coordinator ",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "onebasin"], env=environment, capture_output=True, text=True
    )
    assert "create" in done.stdout.split()


def test_the_command_of_the_page_on_secure_sums_lays_one_down(onebasin, make_world, tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "security-sums.md"
    ((line,),) = blocks(page.read_text(), "sh")
    world = make_world(("fog", "night", "rain", "snow"))
    for site in world.sites.values():
        roster.approve(world.home, site.request_path, site.request().fingerprint)
    monkeypatch.chdir(world.base.parent)  # where coordinator and base.safetensors are
    code, _, err = onebasin(*line.split()[1:])
    assert (code, err) == (0, "")
    rules = world.home.campaign("autumn").campaign.rules
    assert (rules.privacy, rules.minimum_sites) == ("secure-sum", 3)
