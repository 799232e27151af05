"""Results take their places whole."""

from __future__ import annotations

import pytest

from coordinator.publishing import finish, result
from protos import files
from protos.errors import StorageError


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def campaign(tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "model").write_bytes(b"old")
    (tmp_path / "merged" / "report").write_bytes(b"old")
    (tmp_path / "state.safetensors").write_bytes(b"old state")
    return tmp_path


def test_a_result_replaces_the_folder_as_a_whole_and_the_state_if_there_is_another(campaign):
    with result(campaign) as making:
        files.write(making / "merged" / "model", b"new")
        assert tree(campaign / "merged")["model"] == b"old"
    assert tree(campaign) == {"merged/model": b"new", "state.safetensors": b"old state"}
    with result(campaign) as making:
        files.write(making / "state.safetensors", b"new state")
    assert tree(campaign) == {"state.safetensors": b"new state"}


def test_a_first_result_needs_nothing_to_replace(tmp_path):
    with result(tmp_path) as making:
        files.write(making / "merged" / "model", b"new")
    assert tree(tmp_path) == {"merged/model": b"new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_nothing_behind(campaign, error):
    before = tree(campaign)
    with pytest.raises(error), result(campaign) as making:
        files.write(making / "merged" / "model", b"new")
        raise error
    assert tree(campaign) == before
    assert not finish(campaign)


def test_what_an_earlier_try_left_is_dropped_and_what_counts_already_is_finished(campaign):
    (campaign / ".making" / "merged").mkdir(parents=True)
    (campaign / ".making" / "merged" / "model").write_bytes(b"half")
    assert not finish(campaign)
    assert tree(campaign)["merged/model"] == b"old"
    (campaign / ".ready" / "merged").mkdir(parents=True)
    (campaign / ".ready" / "merged" / "model").write_bytes(b"new")
    (campaign / ".old").mkdir()
    assert finish(campaign)
    assert tree(campaign) == {"merged/model": b"new", "state.safetensors": b"old state"}
    assert not finish(campaign)


def test_a_folder_that_cannot_be_written_to_is_a_storage_error(campaign, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("coordinator.publishing.files.sync_folder", fail)
    with pytest.raises(StorageError, match="can't write into"), result(campaign):
        pass
