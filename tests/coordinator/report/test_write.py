"""Writing: whole files or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coordinator.report.format import from_json
from coordinator.report.pictures import DomainPictures
from coordinator.report.verdict import conclude
from coordinator.report.write import write_report
from protos.errors import DataError, StorageError


def test_three_files_and_nothing_else(tmp_path, tiny):
    folder = tmp_path / "a" / "b"
    made = tiny(pooled={"a": 45, "b": 50})
    files = write_report(folder, made)
    assert sorted(folder.iterdir()) == sorted([files.json, files.html, files.card])
    assert from_json(files.json.read_bytes()) == conclude(made)
    assert files.html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert files.card.read_text(encoding="utf-8").startswith("---\n")
    assert files.json.stat().st_mode & 0o777 == 0o644


def test_again_gives_the_same_bytes(tmp_path, tiny, pictures):
    made = tiny(base={"a": 20, "b": 20}, pooled={"a": 45, "b": 50})
    first, second = (write_report(tmp_path / name, made, pictures[:1]) for name in ("x", "y"))
    for name in ("json", "html", "card"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()


def test_what_cannot_be_rendered_leaves_the_old_report(tmp_path, tiny):
    made = tiny(pooled={"a": 45})
    files = write_report(tmp_path, made)
    before = files.json.read_bytes()
    broken = [DomainPictures("a", [("image", np.zeros((2, 2)))])]
    with pytest.raises(DataError):
        write_report(tmp_path, tiny(pooled={"a": 99}), broken)
    assert files.json.read_bytes() == before


def test_a_failing_disk_leaves_the_old_file_and_no_litter(tmp_path, tiny, monkeypatch):
    files = write_report(tmp_path, tiny(pooled={"a": 45}))
    before = files.json.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_report(tmp_path, tiny(pooled={"a": 99}))
    assert files.json.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_is_a_file_is_one_of_our_errors(tmp_path, tiny):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="can't make the folder"):
        write_report(tmp_path / "file", tiny(pooled={"a": 45}))


def test_names_that_no_encoding_holds_can_be_written(tmp_path, tiny):
    from dataclasses import replace

    made = tiny(pooled={"a": 45})
    made = replace(made, campaign=replace(made.campaign, name="bro\ud800ken"))
    files = write_report(tmp_path, made)
    assert from_json(files.json.read_bytes()).campaign.name == "bro\ud800ken"


def test_the_room_loads_nothing_heavy_and_never_the_other_side():
    code = (
        "import sys, coordinator.report; "
        "print([m for m in ('matplotlib', 'torch', 'cv2', 'client', 'flwr') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
