import math

import pytest
import torch
from torch import nn

from client.models import build
from client.models.network import Lesson, View
from client.training.lessons import Learner, Task, fit_details, lesson_loss, pixel_loss


def example(seed=0):
    dice = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 4, 6, generator=dice, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 4, 6), generator=dice, dtype=torch.uint8)
    labels[:, 0] = 255
    weights = torch.rand(2, 4, 6, generator=dice, dtype=torch.float64)
    return logits, labels, weights


def reference(logits, labels, weights):
    """Cross-entropy, pixel by pixel."""
    total, number = 0.0, 0
    for n in range(len(labels)):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                number += 1
                if (label := int(labels[n, y, x])) != 255:
                    values = logits[n, :, y, x].tolist()
                    total += float(weights[n, y, x]) * (math.log(sum(map(math.exp, values))) - values[label])
    return total / number


def test_pixel_loss_counts_ignored_pixels_as_0():
    logits, labels, weights = example()
    assert pixel_loss(logits, labels, weights).item() == pytest.approx(reference(logits, labels, weights))
    ones = torch.ones_like(weights)
    assert pixel_loss(logits, labels).item() == pytest.approx(reference(logits, labels, ones))
    assert pixel_loss(logits, torch.full_like(labels, 255)) == 0


def test_a_lesson_compares_each_view_with_its_part_of_the_labels():
    logits, labels, weights = example()
    detail, _, _ = example(1)
    detail = detail[:, :, :2, :3]
    lesson = Lesson((View(logits, (0, 4, 0, 6), 0.9), View(detail, (1, 3, 2, 5), 0.1)), ())
    inside = (slice(None), slice(1, 3), slice(2, 5))
    expected = 0.9 * reference(logits, labels, weights)
    expected += 0.1 * reference(detail, labels[inside], weights[inside])
    assert lesson_loss(lesson, labels, weights).item() == pytest.approx(expected)


def test_details_are_half_of_the_training_images(hrda):
    network = build(hrda, 19)
    fit_details(network, 1024, 1024)
    assert (network.sizes.detail, network.sizes.window, network.sizes.stride) == (512, 1024, 512)
    fit_details(network, 72, 200)
    assert (network.sizes.detail, network.sizes.window) == (32, 200)
    fit_details(nn.Identity(), 8, 8)


@pytest.mark.parametrize("name", ["tiny-resnet", "segformer-mitb0"])
def test_a_learner_is_a_network_with_its_loss(name):
    network = build(name, 5).eval()
    images = torch.randn(1, 3, 64, 64)
    labels = torch.randint(0, 5, (1, 64, 64), dtype=torch.uint8)
    dice = torch.Generator().manual_seed(0)
    loss, features = Learner(network)(Task(images, dice, labels))
    torch.testing.assert_close(loss, pixel_loss(network(images), labels))
    assert bool(features) == (name != "tiny-resnet")
    unsure, _ = Learner(network)(Task(images, dice))
    assert 0 < unsure < 1
