import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from client.data.datasets import LabelledImages
from client.evaluation import confusion, miou, predict
from protos.errors import DataError


class RedIsOne(nn.Module):
    """Says 1 where an image is red, else 0; class 2 is never said."""

    def forward(self, images):
        assert not self.training
        red = images[:, 0] - images[:, 2]
        return torch.stack([torch.zeros_like(red), red, torch.full_like(red, -9.0)], 1)


def pictures():
    images = torch.zeros(5, 3, 4, 6, dtype=torch.uint8)
    images[:, 0, :, 3:] = 255
    labels = torch.zeros(5, 4, 6, dtype=torch.uint8)
    labels[:, :, 4:] = 1
    labels[:, 0] = 255
    return LabelledImages(images, labels)


def test_predict_keeps_order_over_batches_and_puts_the_mode_back():
    data = pictures()
    data.images[2] = 0
    model = RedIsOne().train()
    guess = predict(model, data.images, batch=2)
    assert guess.dtype == torch.uint8
    assert guess.shape == (5, 4, 6)
    assert guess.flatten(1).any(1).tolist() == [True, True, False, True, True]
    assert model.training


def test_the_mode_is_put_back_after_an_error():
    class Broken(nn.Module):
        def forward(self, images):
            raise ValueError

    model = Broken().train()
    with pytest.raises(ValueError):
        predict(model, pictures().images)
    assert model.training


def test_confusion_counts_truth_by_guess_without_the_ignored():
    counts = confusion(RedIsOne(), pictures(), batch=2)
    assert counts.dtype == torch.int64
    # 5 images × 3 counted rows: 3 columns of true 0 guessed 0, 1 of true 0 guessed 1, 2 of true 1 guessed 1.
    assert counts.tolist() == [[45, 15, 0], [0, 30, 0], [0, 0, 0]]


def test_miou_leaves_absent_classes_out():
    mean, each = miou(torch.tensor([[45, 15, 0], [0, 30, 0], [0, 0, 0]]))
    assert each == [pytest.approx(45 / 60), pytest.approx(30 / 45), None]
    assert mean == pytest.approx((45 / 60 + 30 / 45) / 2)


def test_a_class_that_is_only_guessed_has_no_iou_but_harms_the_others():
    mean, each = miou(torch.tensor([[5, 5], [0, 0]]))
    assert each == [0.5, None]
    assert mean == 0.5


@given(st.lists(st.integers(0, 50), min_size=9, max_size=9))
def test_miou_is_a_share(counts):
    matrix = torch.tensor(counts).view(3, 3)
    if not matrix.sum():
        return
    mean, each = miou(matrix)
    assert 0 <= mean <= 1
    assert [value is None for value in each] == [not total for total in matrix.sum(1)]


def test_nothing_counted_is_an_error():
    with pytest.raises(DataError, match="No labelled pixel"):
        miou(torch.zeros(3, 3, dtype=torch.int64))


def test_a_label_outside_the_classes_is_an_error():
    data = pictures()
    data.labels[0, 2, 2] = 7
    with pytest.raises(DataError, match="Label 7"):
        confusion(RedIsOne(), data)
