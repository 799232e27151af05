import pytest
import torch
from torch import nn

from client.models import build
from client.training.optimizer import make_optimizer, set_rate
from client.training.settings import AdaptSettings, BaseSettings


def rules(network, settings):
    """Return each parameter's factor and decay."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = make_optimizer(network, settings).param_groups
    return {names[p]: (group["factor"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_the_papers_rules_go_by_names():
    network = build("segformer-mitb0", 19)
    found = rules(network, AdaptSettings(method="daformer"))
    assert found.keys() == dict(network.named_parameters()).keys()
    assert found["decode_head.linear_pred.weight"] == (10.0, 0.01)
    assert found["decode_head.linear_fuse.bn.weight"] == (10.0, 0.01)
    assert found["backbone.block1.0.attn.q.weight"] == (1.0, 0.01)
    for name in ("block1.0.norm1.weight", "block1.0.attn.norm.bias", "patch_embed2.norm.weight", "norm4.bias"):
        assert found[f"backbone.{name}"] == (1.0, 0.0)


def test_the_demo_has_one_rule_for_all():
    network = build("tiny-resnet", 19)
    for settings in (AdaptSettings(), BaseSettings()):
        assert set(rules(network, settings).values()) == {(1.0, 0.01)}
        assert len(make_optimizer(network, settings).param_groups) == 1


def test_the_rate_rises_then_falls_to_zero_and_heads_are_ahead():
    layers = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": layers[0].parameters()}, {"params": layers[1].parameters(), "factor": 10.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    rates = []
    for step in range(100):
        rates.append(set_rate(optimizer, 0.5, step, 100, 10))
        assert [group["lr"] for group in optimizer.param_groups] == [rates[-1], 10 * rates[-1]]
    peak = rates.index(max(rates))
    assert 9 <= peak <= 10
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_after_the_rise_it_is_the_papers_polynomial():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    for step in (1500, 20_000, 39_999):
        assert set_rate(optimizer, 6e-5, step, 40_000, 1500) == pytest.approx(6e-5 * (1 - step / 40_000))
