import pytest
import torch
from torch import nn

from client.training.progress import Clock
from client.training.steps import (
    own_global_state,
    require_finite,
    require_finite_weights,
    seed_global_state,
    step_generator,
)
from protos.errors import AdaptationError

CPU = torch.device("cpu")


def test_each_step_has_its_own_numbers():
    drawn = {
        (seed, step): torch.rand(4, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1)
    }
    for key, numbers in drawn.items():
        assert torch.equal(numbers, torch.rand(4, generator=step_generator(*key)))
    assert len({tuple(numbers.tolist()) for numbers in drawn.values()}) == 4


def test_processes_and_dropout_have_numbers_of_their_own():
    drawn = [torch.rand(4, generator=step_generator(3, 5, rank)) for rank in (0, 1)]
    with own_global_state(CPU):
        for rank in (0, 1):
            seed_global_state(CPU, 3, 5, rank)
            drawn.append(torch.rand(4))
            seed_global_state(CPU, 3, 5, rank)
            assert torch.equal(torch.rand(4), drawn[-1])
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 4


def test_the_global_state_is_put_back():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    with pytest.raises(KeyError), own_global_state(CPU):
        seed_global_state(CPU, 0, 0)
        raise KeyError
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_are_no_numbers_are_named():
    layer = nn.Linear(2, 2)
    require_finite_weights(layer, 1)
    nn.init.constant_(layer.bias, float("inf"))
    with pytest.raises(AdaptationError, match="bias is not finite any more after step 9"):
        require_finite_weights(layer, 9)


def test_a_loss_that_is_no_number_names_its_step():
    assert require_finite(torch.tensor(1.5), 3) == 1.5
    for bad in ("nan", "inf", "-inf"):
        with pytest.raises(AdaptationError, match="step 7"):
            require_finite(torch.tensor(float(bad)), 7)


def test_the_clock_counts_only_this_process(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock("adapt", 50, 100)
    now[0] = 110.0
    progress = clock.progress(60, 0.5, "a note", coverage=0.25, memory=7)
    assert (progress.coverage, progress.memory) == (0.25, 7)
    assert (progress.phase, progress.step, progress.steps, progress.note) == ("adapt", 60, 100, "a note")
    assert progress.seconds == 10
    assert progress.eta == 40
