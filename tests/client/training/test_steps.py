import pytest
import torch
from torch import nn

from client.training.progress import Clock
from client.training.steps import require_finite, set_rate, step_generator
from protos.errors import AdaptationError


def test_each_step_has_its_own_numbers():
    drawn = {
        (seed, step): torch.rand(4, generator=step_generator(seed, step)) for seed in (0, 1) for step in (0, 1)
    }
    for key, numbers in drawn.items():
        assert torch.equal(numbers, torch.rand(4, generator=step_generator(*key)))
    assert len({tuple(numbers.tolist()) for numbers in drawn.values()}) == 4


def test_rate_rises_then_falls_to_zero():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    rates = []
    for step in range(100):
        set_rate(optimizer, 0.5, step, 100, 10)
        rates.append(optimizer.param_groups[0]["lr"])
    peak = rates.index(max(rates))
    assert 9 <= peak <= 10
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


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
    progress = clock.progress(60, 0.5, "a note")
    assert (progress.phase, progress.step, progress.steps, progress.note) == ("adapt", 60, 100, "a note")
    assert progress.seconds == 10
    assert progress.eta == 40
