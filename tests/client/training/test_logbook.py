import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.training.adapt import adapt
from client.training.logbook import EVERY, Logbook
from client.training.settings import AdaptSettings
from protos.errors import StorageError


def entries(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [entry.step for entry in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_it_writes_every_so_many_steps(tmp_path):
    logbook = Logbook(tmp_path / "logs")
    for step in range(1, 3 * EVERY + 1):
        logbook.write(step, {"loss": 1 / step})
    logbook.close()
    assert entries(tmp_path / "logs") == {"loss": [EVERY, 2 * EVERY, 3 * EVERY]}


def test_what_a_crash_undid_is_dropped(tmp_path):
    for first, last in ((0, 4 * EVERY), (2 * EVERY, 3 * EVERY)):
        logbook = Logbook(tmp_path, first)
        for step in range(first + 1, last + 1):
            logbook.write(step, {"loss": 1.0})
        logbook.close()
        time.sleep(1.1)  # TensorBoard orders the files of processes by the second in which they were begun
    assert entries(tmp_path) == {"loss": [EVERY, 2 * EVERY, 3 * EVERY]}


def test_a_disk_that_fills_up_ends_the_logs_and_not_the_run(tmp_path, monkeypatch, caplog):
    logbook = Logbook(tmp_path)
    monkeypatch.setattr(logbook._writer, "add_scalar", lambda *_: os.write(full, b"x"))
    with Path("/dev/full").open("wb", buffering=0) as file:
        full = file.fileno()
        for step in (EVERY, 2 * EVERY):
            logbook.write(step, {"loss": 1.0})
    logbook.close()
    (record,) = caplog.records
    assert "No space left" in record.getMessage()


def test_without_a_folder_tensorboard_is_not_loaded():
    code = (
        "import sys; from client.training.logbook import Logbook\n"
        "book = Logbook(None); book.write(10, {'loss': 1.0}); book.close()\n"
        "sys.exit('tensorboard' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="training logs") as caught:
        Logbook(tmp_path / "file" / "logs")
    assert "tensorboard = false" in caught.value.fix


@pytest.mark.parametrize("on", [True, False])
def test_adaptation_keeps_a_logbook_unless_it_is_told_not_to(base, feed, tmp_path, on):
    settings = AdaptSettings(steps=EVERY, batch=2, tensorboard=on)
    adapt(base, "tiny-resnet", 19, feed, settings, lambda progress: None, logs=tmp_path / "logs")
    assert (tmp_path / "logs").exists() == on
    if on:
        names = {"loss", "learning rate", "pseudo-label coverage"}
        assert entries(tmp_path / "logs") == {name: [EVERY] for name in names}
