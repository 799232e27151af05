from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.models import build
from client.training.daformer import FrozenEncoder, feature_distance, thing_mask
from protos.errors import ConfigurationError

THINGS = (6, 7, 11)


@given(seed=st.integers(0, 500), side=st.sampled_from([2, 4]), few=st.booleans())
def test_a_feature_shows_a_thing_if_enough_of_its_pixels_do(seed, side, few):
    dice = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([6, 11, 255] if few else [6, 7, 11, 3, 255], dtype=torch.uint8)
    labels = kinds[torch.randint(0, len(kinds), (2, 3 * side, 5 * side), generator=dice)]
    labels[:, :side] = 6
    found = thing_mask(labels, THINGS, 0.75, 3, 5)
    for image in range(2):
        for y in range(3):
            for x in range(5):
                square = labels[image, y * side : (y + 1) * side, x * side : (x + 1) * side]
                label, number = Counter(square.flatten().tolist()).most_common(1)[0]
                assert bool(found[image, y, x]) == (label in THINGS and number / side**2 >= 0.75)


def test_what_a_rounded_up_feature_lacks_is_ignored():
    labels = torch.full((1, 10, 10), 6, dtype=torch.uint8)
    found = thing_mask(labels, THINGS, 0.75, 3, 3)  # of 4 pixels each, 2 of them outside at two edges
    assert found[0].tolist() == [[True, True, False], [True, True, False], [False, False, False]]


def test_distances_are_averaged_over_the_mask():
    dice = torch.Generator().manual_seed(0)
    features, reference = torch.randn(2, 2, 7, 3, 4, generator=dice, dtype=torch.float64)
    mask = torch.rand(2, 3, 4, generator=dice) < 0.5
    found = [
        sum((features[n, c, y, x] - reference[n, c, y, x]).item() ** 2 for c in range(7)) ** 0.5
        for n, y, x in mask.nonzero().tolist()
    ]
    expected = torch.tensor(sum(found) / len(found))
    torch.testing.assert_close(feature_distance(features, reference, mask), expected)


def test_no_thing_at_all_and_equal_features_give_neither_loss_nor_nan():
    features = torch.randn(1, 4, 2, 2, requires_grad=True)
    feature_distance(features, torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)).backward()
    assert not features.grad.any()
    features.grad = None
    feature_distance(features, features.detach().clone(), torch.ones(1, 2, 2, dtype=torch.bool)).backward()
    assert not features.grad.any()


def test_the_frozen_encoder_is_the_bases_stays_and_judges():
    base = build("segformer-mitb0", 5, seed=2)
    frozen = FrozenEncoder("segformer-mitb0", 5, base.state_dict(), None).train()
    images = torch.randn(1, 3, 64, 64)
    assert not any(module.training for module in frozen.network.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    expected = base.eval().features(images)[-1]
    torch.testing.assert_close(frozen(images), expected)
    assert not frozen(images).requires_grad


def test_a_file_of_imagenet_takes_the_bases_place(tmp_path):
    base, other = (build("segformer-mitb0", 5, seed=seed) for seed in (1, 2))
    torch.save(other.backbone.state_dict(), tmp_path / "mit_b0.pth")
    frozen = FrozenEncoder("segformer-mitb0", 5, base.state_dict(), tmp_path / "mit_b0.pth")
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(frozen(images), other.eval().features(images)[-1])


def test_a_model_without_features_is_refused(base):
    with pytest.raises(ConfigurationError, match="tiny-resnet") as caught:
        FrozenEncoder("tiny-resnet", 19, base, None)
    assert "feature_distance = 0" in caught.value.fix
