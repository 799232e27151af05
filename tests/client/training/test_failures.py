"""A GPU's failures, as PyTorch reports them."""

import errno
import resource

import pytest
import torch

from client.training import checkpoint as checkpoints
from client.training import passes
from client.training.adapt import adapt
from client.training.settings import AdaptSettings
from protos.errors import AdaptationError

QUIET = lambda progress: None  # noqa: E731


@pytest.fixture
def failing(monkeypatch, base, feed):
    """Run with an error of PyTorch's in the second step."""

    def go(error, **settings):
        calls = []
        honest = passes.pseudo_labels

        def labels(*arguments):
            calls.append(1)
            if len(calls) == 2:
                raise error
            return honest(*arguments)

        monkeypatch.setattr(passes, "pseudo_labels", labels)
        chosen = AdaptSettings(**{"steps": 3, "batch": 2, **settings})
        with pytest.raises(AdaptationError) as caught:
            adapt(base, "tiny-resnet", 19, feed, chosen, QUIET)
        return caught.value

    return go


def test_memory_that_runs_out_names_batch_size_and_what_to_try(failing):
    found = failing(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert "memory ran out at step 2: adapt.batch = 2 of 32 × 64 pixels" in found.what
    for advice in ('adapt.memory = "24GB"', "adapt.batch = 1 with adapt.accumulate = 2", "bf16-mixed", "crop"):
        assert advice in found.fix
    assert "feature_distance" not in found.fix


def test_what_was_tried_already_is_not_advised(failing):
    full = torch.cuda.OutOfMemoryError("CUDA out of memory.")
    found = failing(full, memory="8GB", batch=1)
    assert "adapt.memory" not in found.fix
    assert "adapt.batch =" not in found.fix
    assert "bf16" not in found.fix


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: no CUDA-capable device is detected\nCUDA kernel errors might be asynchronous"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_gpu_that_disappears_is_named_with_what_to_do(failing, error):
    found = failing(error)
    assert "The GPU failed at step 2" in found.what
    assert "\n" not in found.what
    assert "nvidia-smi" in found.fix
    assert "last checkpoint" in found.fix


def test_the_machines_own_memory_is_told_apart(failing):
    found = failing(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to …"))
    assert "The machine's memory ran out at step 2" in found.what


def test_other_errors_stay_what_they_are(base, feed, monkeypatch):
    monkeypatch.setattr(passes, "normalise", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt(base, "tiny-resnet", 19, feed, AdaptSettings(steps=1, batch=2), QUIET)

    def other(_):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(passes, "normalise", other)
    with pytest.raises(RuntimeError, match="shapes"):
        adapt(base, "tiny-resnet", 19, feed, AdaptSettings(steps=1, batch=2), QUIET)


def content(numbers):
    return {"run": {}, "many": torch.zeros(numbers), "few": [torch.zeros(numbers // 4) for _ in range(3)]}


@pytest.mark.parametrize("numbers", [10, 10**6])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, numbers):
    path = tmp_path / "checkpoint.pt"
    checkpoints.save(path, {"run": {}, "step": 1})
    path.with_name("checkpoint.pt.part").symlink_to("/dev/full")
    with pytest.raises(AdaptationError, match="No space left on device"):
        checkpoints.save(path, content(numbers))
    assert checkpoints.load(path, {})["step"] == 1
    assert [found.name for found in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_fills_up_half_way_is_an_error_of_ours(tmp_path):
    """PyTorch's writer then raises a RuntimeError of its own."""
    path = tmp_path / "checkpoint.pt"
    checkpoints.save(path, {"run": {}, "step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        for numbers in (10**5 * 2, 10**6):
            with pytest.raises(AdaptationError, match="can't be written"):
                checkpoints.save(path, content(numbers))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.load(path, {})["step"] == 1


def test_a_part_that_a_crash_left_is_no_obstacle(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.with_name("checkpoint.pt.part").write_bytes(b"half of a")
    checkpoints.save(path, {"run": {}, "step": 2})
    assert checkpoints.load(path, {})["step"] == 2


def test_an_error_without_words_is_still_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(AdaptationError, match="can't be written"):
        checkpoints.save(tmp_path / "checkpoint.pt", {"run": {}})
