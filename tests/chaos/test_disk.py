"""A small disk is full when it is said to be, and not after."""

import errno

import pytest

from chaos import disk


def test_a_filled_disk_takes_nothing_and_then_again_something(tmp_path):
    if why := disk.why_not():
        pytest.skip(why)
    folder = tmp_path / "disk"
    with disk.small_disk(folder, 2):
        (folder / "before").write_bytes(b"x")
        with disk.filled(folder), pytest.raises(OSError) as caught:
            (folder / "during").write_bytes(b"x" * 100)
        (folder / "after").write_bytes(b"x" * 100)
        assert (folder / "before").read_bytes() == b"x"

    assert caught.value.errno == errno.ENOSPC
    assert not list(folder.iterdir())
