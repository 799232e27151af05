"""A coordinator is taken to another disk: whole, checked, and able to go on."""

from __future__ import annotations

import io
import stat
import tarfile
import threading

import pytest

from coordinator import backup as backups
from coordinator import strategy
from coordinator.backup import SUMS, backup, restore
from coordinator.merging import MODEL, last_receipt
from coordinator.strategy import OneShotMerge
from protos import audit, files, signing
from protos.errors import ConfigurationError, StorageError, VerificationError
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)


@pytest.fixture
def merged(world, make_grid):
    OneShotMerge(world.folder).start(make_grid(world))
    return world


@pytest.fixture
def written(merged, tmp_path):
    backup(merged.home, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def test_what_was_there_is_there_again(merged, written, tmp_path):
    home = restore(written, tmp_path / "elsewhere")
    campaign = home.campaign("one")
    assert home.fingerprint == merged.home.fingerprint
    assert campaign.campaign.digest == merged.campaign.digest
    assert last_receipt(campaign) == last_receipt(merged.folder)
    assert (campaign.merged / MODEL).read_bytes() == (merged.folder.merged / MODEL).read_bytes()
    before, after = (
        [event["event"] for _, event in home.journal.events(folder.key)]
        for home, folder in ((merged.home, merged.folder), (home, campaign))
    )
    assert before == after
    assert campaign.course() == merged.folder.course()
    audit.verify(home.folder / "audit.jsonl", signing.public_bytes(home.signing_key))


def test_only_its_owner_reads_it_and_keys_stay_secret(written, tmp_path):
    home = restore(written, tmp_path / "elsewhere")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    for key in (home.keys / "signing.pem", home.keys / "agreement.pem", home.keys / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_campaign_goes_on_from_a_backup_taken_while_it_ran(make_world, make_grid, tmp_path):
    world = make_world(rules=Rules(evaluate=False, deliver=False))
    done = []

    def react(node, site, request, before):
        if site == "night" and request.submit.header and not done:
            done.append(backup(world.home, tmp_path / "backup.tar"))
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    home = restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    OneShotMerge(home.campaign("one")).start(make_grid(world))
    assert (home.campaign("one").merged / MODEL).read_bytes() == (world.folder.merged / MODEL).read_bytes()


def test_locks_and_what_flower_makes_are_left_out(merged, written):
    (merged.home.flower / "junk").parent.mkdir(exist_ok=True)
    with tarfile.open(written) as archive:
        names = archive.getnames()
    assert names[-1] == SUMS
    assert "campaigns/one/state.safetensors" in names
    assert not [
        name for name in names if name.startswith("flower/") or name.endswith(("run.lock", "-wal", "-shm"))
    ]
    assert not list(merged.home.folder.glob(".backup-*"))


def test_parts_of_a_result_that_changes_meanwhile_are_taken_anew(merged, tmp_path, monkeypatch):
    """As when a result is published between the look at its model and the look at its state."""
    link, tries = backups._link, []

    def linking(source, target):
        link(source, target)
        if source == merged.folder.path and not tries:
            tries.append(source)
            files.write(merged.folder.state, merged.folder.state.read_bytes())

    monkeypatch.setattr(backups, "_link", linking)
    backup(merged.home, tmp_path / "backup.tar")
    assert tries
    assert restore(tmp_path / "backup.tar", tmp_path / "elsewhere").campaign("one").state.exists()


def test_a_file_that_is_written_to_meanwhile_is_taken_as_it_was_read(merged, tmp_path, monkeypatch):
    path = merged.folder.path / "sum.binpb"
    path.write_bytes(b"some")
    gettarinfo = tarfile.TarFile.gettarinfo

    def growing(self, name, *arguments):
        found = gettarinfo(self, name, *arguments)
        if str(name).endswith("sum.binpb"):
            with path.open("ab") as file:
                file.write(b" more")
        return found

    monkeypatch.setattr(tarfile.TarFile, "gettarinfo", growing)
    backup(merged.home, tmp_path / "backup.tar")
    home = restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    assert (home.campaign("one").path / "sum.binpb").read_bytes() == b"some"


def test_a_campaign_that_never_stands_still_is_an_error(merged, tmp_path, monkeypatch):
    numbers = iter(range(1000))
    monkeypatch.setattr(backups, "_result", lambda _: [("state", next(numbers), 0)])
    with pytest.raises(StorageError, match="changes all the time"):
        backup(merged.home, tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


def test_the_log_is_whole_however_much_is_written_to_it(world, tmp_path):
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            world.home.audit.note("busy")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            backup(world.home, tmp_path / f"{number}.tar")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        home = restore(tmp_path / f"{number}.tar", tmp_path / f"at-{number}")
        audit.verify(home.folder / "audit.jsonl", signing.public_bytes(home.signing_key))


def test_nothing_is_overwritten(merged, written, tmp_path):
    with pytest.raises(ConfigurationError, match="is there already"):
        backup(merged.home, written)
    with pytest.raises(ConfigurationError, match="is not empty"):
        restore(written, merged.home.folder)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_a_file_that_was_cut_is_refused(written, tmp_path, part):
    content = written.read_bytes()
    written.write_bytes(content[: int(part * content.rindex(b"  audit.jsonl"))])
    with pytest.raises(VerificationError):
        restore(written, tmp_path / "elsewhere")
    assert not list(tmp_path.glob("*elsewhere*"))


def test_a_changed_byte_is_found(written, tmp_path):
    content = bytearray(written.read_bytes())
    position = content.index(b"# A coordinator of onebasin")
    content[position] ^= 1
    written.write_bytes(content)
    with pytest.raises(VerificationError, match=r"coordinator\.toml is not what was backed up"):
        restore(written, tmp_path / "elsewhere")
    assert not list(tmp_path.glob("*elsewhere*"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("/etc/outside"),
        member("keys/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("keys/link", tarfile.SYMTYPE, "signing.pem"),
        member("pipe", tarfile.FIFOTYPE),
        member("extra"),
    ],
    ids=lambda member: f"{member.name} {member.type!r}",
)
def test_a_hostile_archive_is_refused(written, tmp_path, hostile):
    with tarfile.open(written, "a") as archive:
        archive.addfile(hostile, io.BytesIO())
    with pytest.raises(VerificationError):
        restore(written, tmp_path / "elsewhere")
    assert not list(tmp_path.glob("*elsewhere*"))
    assert not (tmp_path / "outside").exists()


def test_something_else_is_no_backup(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(VerificationError, match="is no backup of a coordinator"):
        restore(tmp_path / "junk", tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        restore(tmp_path / "nothing", tmp_path / "elsewhere")


def test_a_full_disk_leaves_nothing_behind(merged, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(StorageError, match="No space left"):
        backup(merged.home, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*.tar*"))
    assert not list(merged.home.folder.glob(".backup-*"))
