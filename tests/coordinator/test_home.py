"""The coordinator's folder and its campaigns."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator import home as module
from coordinator import watching
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.settings import SubmitSettings
from protos import audit, keyfiles, signing
from protos import campaign as campaigns
from protos.campaign import Keys
from protos.digest import file_digest
from protos.errors import BaseMismatchError, ConfigurationError, StorageError
from protos.rules import Rules
from protos.tensorfile import TensorFile

OPTIONS = {"hosts": ("localhost",), "control_port": 9093, "fleet_address": "0.0.0.0:9092"}
MEMBERS = {"fog": Keys(b"f" * 32, b"F" * 32), "night": Keys(b"n" * 32, b"N" * 32)}
METADATA = {"model": "tiny-resnet", "classes": "5"}


@pytest.fixture
def home(tmp_path):
    return Home.init(tmp_path / "coordinator", **OPTIONS)


@pytest.fixture
def base(tmp_path, model, saved):
    return saved(tmp_path / "base.safetensors", model(0), METADATA)


def test_a_new_coordinator_has_settings_and_keys(home):
    opened = Home.open(home.folder)
    assert opened.settings.control_port == 9093
    assert opened.settings.fleet_address == "0.0.0.0:9092"
    assert opened.settings.submit == SubmitSettings()
    assert opened.public_keys == home.public_keys


def test_settings_of_the_submission_are_written_down(tmp_path):
    submit = SubmitSettings(at_once=7, part_mebibytes=3)
    assert Home.init(tmp_path / "c", **OPTIONS, submit=submit).settings.submit == submit


def test_private_keys_are_readable_by_their_owner_only(home):
    for path in home.keys.iterdir():
        if path.name in ("ca.key", "server.key", "signing.pem"):
            assert path.stat().st_mode & 0o777 == 0o600
    assert home.keys.stat().st_mode & 0o777 == 0o700


def test_no_private_key_but_the_superlinks_own_is_in_the_clear_under_a_passphrase(tmp_path, monkeypatch):
    locked = Home.init(tmp_path / "locked", **OPTIONS, passphrase=b"correct horse")
    private = {path.name for path in locked.keys.iterdir() if b"PRIVATE KEY" in path.read_bytes()}
    assert private == {"ca.key", "server.key", "signing.pem", "agreement.pem"}
    assert {name for name in private if not keyfiles.is_locked(locked.keys / name)} == {"server.key"}
    monkeypatch.setattr(keyfiles, "passphrase", lambda _: b"correct horse")
    opened = Home.open(locked.folder)
    assert opened.public_key == signing.public_bytes(opened.signing_key)
    assert audit.verify(opened.audit.path, opened.public_key).lines == 1


def test_who_only_looks_needs_no_passphrase(tmp_path, monkeypatch):
    locked = Home.init(tmp_path / "locked", **OPTIONS, passphrase=b"correct horse")
    monkeypatch.setattr(keyfiles, "passphrase", lambda _: pytest.fail("asked"))
    opened = Home.open(locked.folder)
    assert opened.fingerprint == locked.fingerprint
    assert audit.verify(opened.audit.path, opened.public_key).lines == 1


def test_a_coordinator_of_an_earlier_version_has_no_file_with_its_public_key(home):
    before = home.public_key
    (home.keys / "signing.pub").unlink()
    assert Home.open(home.folder).public_key == before


def test_a_damaged_public_key_is_named(home):
    (home.keys / "signing.pub").write_bytes(b"\xff not hexadecimal")
    with pytest.raises(ConfigurationError, match="no Ed25519 public key"):
        _ = Home.open(home.folder).public_key


def test_a_coordinator_is_not_made_twice(home):
    before = {path.name: path.read_bytes() for path in home.keys.iterdir()}
    with pytest.raises(ConfigurationError, match="there is a coordinator in"):
        Home.init(home.folder, **OPTIONS)
    assert {path.name: path.read_bytes() for path in home.keys.iterdir()} == before


def test_a_folder_without_a_coordinator_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no coordinator in") as caught:
        Home.open(tmp_path)
    assert "onebasin coordinator init" in caught.value.fix


def test_a_misspelt_setting_is_refused_with_a_suggestion(home):
    home.settings_path.write_text(home.settings_path.read_text().replace("at_once", "at_onec"))
    with pytest.raises(ConfigurationError, match="submit: unknown key at_onec") as caught:
        _ = Home.open(home.folder).settings
    assert "at_once" in caught.value.fix


def test_a_campaign_names_its_base_by_digest_and_keeps_a_copy(home, base):
    made = home.create("one", base, members=MEMBERS, rules=Rules())
    with TensorFile(base) as file:
        assert made.campaign.message.base_digest == file_digest(file)
    assert made.base.read_bytes() == base.read_bytes()
    assert made.campaign.keys == {site: keys.signing for site, keys in MEMBERS.items()}
    assert made.campaign.agreement_keys == {site: keys.agreement for site, keys in MEMBERS.items()}
    assert made.campaign.message.coordinator_key == signing.public_bytes(home.signing_key)
    assert (made.campaign.message.model, made.campaign.message.classes) == ("tiny-resnet", 5)
    assert campaigns.load(made.campaign_file) == made.campaign
    assert home.campaign("one").campaign == made.campaign


def test_a_campaign_is_not_laid_down_twice(home, base):
    before = home.create("one", base, members=MEMBERS, rules=Rules()).campaign_file.read_bytes()
    with pytest.raises(ConfigurationError, match="there is a campaign one already"):
        home.create("one", base, members=MEMBERS, rules=Rules())
    assert home.campaign("one").campaign_file.read_bytes() == before


@pytest.mark.parametrize("name", ["", "One", "../one", "one/two", ".", "o" * 41])
def test_a_campaigns_name_that_is_none_is_refused(home, base, name):
    with pytest.raises(ConfigurationError, match="can't be the name of a campaign"):
        home.create(name, base, members=MEMBERS, rules=Rules())
    assert not (home.folder / "campaigns").exists()


@pytest.mark.parametrize(
    ("members", "rules"), [({}, Rules()), (MEMBERS, Rules(minimum_sites=3)), (MEMBERS, Rules(copy="both"))]
)
def test_terms_that_make_no_sense_leave_no_campaign(home, base, members, rules):
    with pytest.raises(ConfigurationError):
        home.create("one", base, members=members, rules=rules)
    assert not (home.folder / "campaigns" / "one").exists()


@pytest.mark.parametrize("metadata", [{}, {"model": "x"}, {"classes": "5"}, {"model": "x", "classes": "many"}])
def test_a_file_that_does_not_say_that_it_is_a_base_is_refused(home, tmp_path, model, saved, metadata):
    path = saved(tmp_path / "other.safetensors", model(0), metadata)
    with pytest.raises(BaseMismatchError, match="doesn't say in its metadata"):
        home.create("one", path, members=MEMBERS, rules=Rules())


def test_a_base_with_an_incomplete_layer_is_refused(home, tmp_path, saved):
    path = saved(tmp_path / "other.safetensors", {"bn.running_mean": np.zeros(3, np.float32)}, METADATA)
    with pytest.raises(
        BaseMismatchError, match="BatchNorm layer bn has no running_var and no num_batches_tracked"
    ):
        home.create("one", path, members=MEMBERS, rules=Rules())


def test_a_missing_base_is_named(home, tmp_path):
    with pytest.raises(BaseMismatchError, match=r"there is no file .*gone"):
        home.create("one", tmp_path / "gone", members=MEMBERS, rules=Rules())


def test_a_base_that_cannot_be_copied_leaves_no_campaign(home, base, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(StorageError, match="No space left"):
        home.create("one", base, members=MEMBERS, rules=Rules())
    assert not (home.folder / "campaigns" / "one").exists()


@pytest.mark.parametrize("name", ["two", "../../base", ""])
def test_a_campaign_that_there_is_not_is_named(home, name):
    with pytest.raises(ConfigurationError, match="there is no campaign"):
        home.campaign(name)


def test_the_outcome_is_kept_until_the_next_run(home, base):
    folder = home.create("one", base, members=MEMBERS, rules=Rules())
    assert folder.outcome() is None
    folder.end(ok=False, exit_code=9, what="too few", fix="more")
    assert {**folder.outcome(), "time": 0} == {
        "ok": False,
        "exit_code": 9,
        "what": "too few",
        "fix": "more",
        "time": 0,
    }
    folder.forget_outcome()
    folder.forget_outcome()
    assert folder.outcome() is None


def test_everything_of_a_campaign_is_in_its_folder(home):
    folder = CampaignFolder(home, home.folder / "campaigns" / "x")
    for path in (folder.campaign_file, folder.base, folder.state, folder.merged):
        assert path.parent == folder.path


def test_a_campaign_that_is_running_is_not_run_a_second_time(world):
    ran = []
    with world.folder.alone(), pytest.raises(ConfigurationError, match="is running already"):
        watching.run(world.folder, ran.append)
    assert not ran
    with world.folder.alone():
        pass
