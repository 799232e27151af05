import pytest
import torch

from client.models.windows import cut, slide, windows


def test_a_wide_image_is_covered_as_mmsegmentation_does():
    assert windows(1024, 2048, 1024, 512) == [(0, 1024, left, left + 1024) for left in (0, 512, 1024)]
    assert windows(1080, 1920, 1024, 512) == [
        (top, top + 1024, left, left + 1024) for top in (0, 56) for left in (0, 512, 896)
    ]


def test_a_small_image_is_one_window():
    assert windows(100, 50, 1024, 512) == [(0, 100, 0, 50)]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("scale", [1, 4])
def test_what_is_said_pixel_by_pixel_is_the_same_through_windows(together, scale):
    images = torch.randn(2, 3, 40, 72)

    def function(parts):
        return torch.nn.functional.avg_pool2d(parts, scale) * 2

    out = slide(function, images, 16, 8, scale, together=together)
    torch.testing.assert_close(out, function(images))


def test_overlapping_windows_are_averaged():
    numbers = iter([1.0, 3.0])
    out = slide(lambda part: torch.full_like(part, next(numbers)), torch.zeros(1, 1, 4, 6), 4, 2, together=False)
    assert out[0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_gradients_pass_through_windows():
    images = torch.randn(1, 1, 8, 8, requires_grad=True)
    slide(lambda part: part * 3, images, 4, 2, together=True).sum().backward()
    torch.testing.assert_close(images.grad, torch.full((1, 1, 8, 8), 3.0))


def test_a_cut_is_a_view():
    images = torch.zeros(1, 1, 4, 4)
    cut(images, (1, 3, 2, 4)).fill_(1)
    assert images.sum() == 4
    assert images[0, 0, 1, 2] == 1
