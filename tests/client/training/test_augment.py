import torch

from client.training.augment import blur, flip, jitter


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def images(number=6):
    return torch.rand(number, 3, 16, 24, generator=dice(9))


def test_jitter_stays_in_range_and_follows_its_generator():
    before = images()
    after = jitter(before, 0.5, 1.0, dice(1))
    assert after.shape == before.shape
    assert 0 <= after.min() <= after.max() <= 1
    assert torch.equal(after, jitter(before, 0.5, 1.0, dice(1)))
    assert not torch.equal(after, jitter(before, 0.5, 1.0, dice(2)))


def test_jitter_changes_about_its_share_of_images():
    before = images(200)
    changed = (jitter(before, 0.3, 0.25, dice()) - before).abs().amax((1, 2, 3)) > 1e-3
    assert 30 <= int(changed.sum()) <= 70


def test_no_strength_or_share_changes_nothing():
    before = images()
    assert jitter(before, 0.0, 1.0, dice()) is before
    assert jitter(before, 0.5, 0.0, dice()) is before
    assert blur(before, 0.0, dice()) is before


def test_blur_keeps_flat_colour_and_smooths_the_rest():
    flat = torch.full((2, 3, 16, 16), 0.3)
    torch.testing.assert_close(blur(flat, 1.0, dice()), flat)
    before = images()
    after = blur(before, 1.0, dice())
    assert after.shape == before.shape
    assert (after.std((2, 3)) < before.std((2, 3))).all()


def test_blur_is_kornias():
    from kornia.filters import gaussian_blur2d

    before = images()
    width = 0.3 + 0.9 * torch.rand(len(before), 2, generator=dice(4))[:, :1]
    torch.testing.assert_close(blur(before, 1.0, dice(4)), gaussian_blur2d(before, 7, width.expand(-1, 2)))


def test_unblurred_images_are_untouched():
    before = images(40)
    same = (blur(before, 0.5, dice()) == before).flatten(1).all(1)
    assert 10 <= int(same.sum()) <= 30


def test_flip_mirrors_image_and_labels_together():
    before, labels = images(20), torch.randint(0, 19, (20, 16, 24), generator=dice(), dtype=torch.uint8)
    after, flipped = flip(before, labels, dice(3))
    mirrored = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert 0 < sum(mirrored) < 20
    for i, turned in enumerate(mirrored):
        assert torch.equal(after[i], before[i].flip(-1) if turned else before[i])
        assert torch.equal(flipped[i], labels[i].flip(-1) if turned else labels[i])
