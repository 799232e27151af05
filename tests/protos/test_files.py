"""Files are there whole or not at all."""

from __future__ import annotations

import os

import pytest

from protos import files
from protos.errors import StorageError


@pytest.fixture
def path(tmp_path):
    (tmp_path / "state").write_bytes(b"old")
    return tmp_path / "state"


def alone(path, content: bytes) -> bool:
    return path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_success_replaces_the_content(path):
    with files.atomic(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert alone(path, b"new")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_error_in_between_keeps_the_old_content_and_is_passed_on(path, error):
    with pytest.raises(error), files.atomic(path) as file:
        file.write(b"new")
        raise error
    assert alone(path, b"old")


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_failing_system_call_keeps_the_old_content(path, monkeypatch, call):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match="No space left on device"):
        files.write(path, b"new")
    assert alone(path, b"old")


def test_content_reaches_the_disk_before_the_name_and_the_folder_last(path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, type(path).replace

    def traced(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "content"  # noqa: PTH112
        seen.append((kind, path.read_bytes()))
        fsync(descriptor)

    def replaced(self, target):
        seen.append(("rename", path.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", traced)
    monkeypatch.setattr(type(path), "replace", replaced)
    files.write(path, b"new")
    assert seen == [("content", b"old"), ("rename", b"old"), ("folder", b"new")]


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"can't write .*state: No such file"):
        files.write(tmp_path / "none" / "state", b"x")


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_the_mode_does_not_depend_on_the_umask(tmp_path, mode):
    before = os.umask(0o077 if mode == 0o644 else 0)
    try:
        files.write(tmp_path / "f", "text", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == mode


def test_text_is_utf8(tmp_path):
    files.write(tmp_path / "f", "é")
    assert (tmp_path / "f").read_bytes() == b"\xc3\xa9"


def test_folders_are_made_with_those_above_and_again(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    files.make_folder(tmp_path / "a" / "b")


def test_a_folder_where_a_file_is_is_a_storage_error(path):
    with pytest.raises(StorageError, match="can't make the folder"):
        files.make_folder(path / "below")
