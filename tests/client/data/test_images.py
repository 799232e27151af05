import torch

from client.data.images import normalise, unit


def test_normalise_takes_bytes_and_shares_alike():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    assert torch.equal(normalise(images), normalise(unit(images)))
    assert normalise(images).dtype == torch.float32


def test_normalise_is_imagenets():
    grey = torch.full((1, 3, 1, 1), 0.5)
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(normalise(grey).flatten(), expected)
