import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.advent import entropy


@given(seed=st.integers(0, 1000), classes=st.integers(2, 19), scale=st.sampled_from([0.1, 3.0, 50.0]))
def test_it_is_the_mean_entropy_over_the_largest(seed, classes, scale):
    logits = torch.randn(2, classes, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits *= scale
    found = []
    for pixel in logits.permute(0, 2, 3, 1).reshape(-1, classes).tolist():
        top = max(pixel)
        weights = [math.exp(value - top) for value in pixel]
        shares = [weight / sum(weights) for weight in weights]
        found.append(-sum(share * math.log2(share) for share in shares if share > 0) / math.log2(classes))
    torch.testing.assert_close(entropy(logits), torch.tensor(sum(found) / len(found), dtype=torch.float64))


def test_it_lies_between_sure_and_undecided_and_has_gradients_at_both():
    undecided = torch.zeros(1, 5, 2, 2, requires_grad=True)
    assert math.isclose(entropy(undecided).item(), 1.0, rel_tol=1e-6)
    sure = torch.zeros(1, 5, 2, 2)
    sure[:, 3] = 500.0
    sure.requires_grad_()
    loss = entropy(sure)
    loss.backward()
    assert loss == 0
    assert not sure.grad.isnan().any()
