"""Classes are counted once, and again when the label maps changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from client.data import statistics
from client.data.layouts import CITYSCAPES
from client.data.listing import labelled
from client.data.reading import read_labels
from client.data.settings import ImageFolder
from protos.errors import DataError


@pytest.fixture
def found(data_set):
    return labelled(ImageFolder("gta", str(data_set("gta"))), Path())


@pytest.fixture
def reads(monkeypatch):
    """How often a label map was read."""
    done = []

    def spy(*arguments):
        done.append(arguments)
        return read_labels(*arguments)

    monkeypatch.setattr(statistics, "read_labels", spy)
    return done


def test_the_counts_are_those_of_the_labels(found):
    said = []
    counts = statistics.class_counts(found, None, lambda done, of: said.append((done, of)))
    for at in range(3):
        labels = read_labels(found.labels[at], CITYSCAPES)
        assert counts[at].tolist() == [(labels == c).sum() for c in range(19)]
    assert said == [(1, 3), (2, 3), (3, 3)]


def test_they_are_kept_beside_the_sites_files_and_not_the_data_sets(found, tmp_path, reads):
    before = sorted(found.root.rglob("*"))
    first = statistics.class_counts(found, tmp_path / "kept")
    second = statistics.class_counts(found, tmp_path / "kept")
    assert np.array_equal(first, second)
    assert len(reads) == 3
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert sorted(found.root.rglob("*")) == before


def test_changed_labels_are_counted_again(found, tmp_path, reads):
    statistics.class_counts(found, tmp_path)
    os.utime(found.labels[1], ns=(5, 5))
    statistics.class_counts(found, tmp_path)
    assert len(reads) == 6


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_damaged_counts_are_made_again(found, tmp_path, reads, content):
    first = statistics.class_counts(found, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(content)
    assert np.array_equal(statistics.class_counts(found, tmp_path / "kept"), first)
    assert len(reads) == 6


def test_no_bit_of_the_counts_can_change_without_notice(found, tmp_path, reads):
    first = statistics.class_counts(found, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    content = bytearray(kept.read_bytes())
    content[-40] ^= 1  # the last count, before the seal of 32 bytes
    kept.write_bytes(content)
    assert np.array_equal(statistics.class_counts(found, tmp_path / "kept"), first)
    assert len(reads) == 6


def test_pickled_counts_are_not_loaded(found, tmp_path, reads):
    statistics.class_counts(found, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    with kept.open("wb") as file:
        np.savez(file, counts=np.array([print], object))
    statistics.class_counts(found, tmp_path / "kept")
    assert len(reads) == 6


def test_a_label_map_that_cannot_be_read_is_named(found, tmp_path):
    found.labels[2].write_bytes(found.labels[2].read_bytes()[:-20])
    with pytest.raises(DataError, match=r"002\.png is cut short"):
        statistics.class_counts(found, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
