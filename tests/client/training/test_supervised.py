import pytest
import torch

from client.models import build
from client.training.settings import BaseSettings
from client.training.supervised import train_base
from protos.errors import AdaptationError


def trained(source, **settings):
    model, reports = build("tiny-resnet", 19), []
    train_base(model, source, BaseSettings(**{"steps": 3, "batch": 2, **settings}), reports.append)
    return model, reports


def test_a_few_steps_report_and_change_the_model(source):
    model, reports = trained(source)
    assert [(r.phase, r.step, r.steps) for r in reports] == [("base", step, 3) for step in (1, 2, 3)]
    assert not model.training
    assert model.state_dict()["backbone.stem.bn.num_batches_tracked"] == 3


def test_the_loss_falls(source):
    _, reports = trained(source, steps=30, batch=4, warmup=2)
    assert sum(r.loss for r in reports[-5:]) < 0.75 * sum(r.loss for r in reports[:5])


def test_the_same_seed_gives_the_same_bits_whatever_the_global_state(source):
    torch.manual_seed(1)
    first, _ = trained(source)
    torch.manual_seed(2)
    again, _ = trained(source)
    other, _ = trained(source, seed=1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items())


def test_a_loss_that_is_no_number_ends_it(source):
    model = build("tiny-resnet", 19)
    torch.nn.init.constant_(model.decode_head.conv_seg.bias, float("inf"))
    with pytest.raises(AdaptationError, match="step 1"):
        train_base(model, source, BaseSettings(steps=3, batch=2), lambda progress: None)
