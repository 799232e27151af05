"""Damaged files and wrong labels are refused by name, with what to do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from client.data.layouts import CITYSCAPES, SYNTHIA, TRAIN_IDS
from client.data.reading import LabelError, UnknownIdsError, UnreadableError, read_image, read_labels
from protos.errors import DataError


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "map.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 19, (64, 128), np.uint8))
    return path


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8))
    return path


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_png_is_refused(png, share, capfd):
    content = png.read_bytes()
    png.write_bytes(content[: int(len(content) * share)])
    for read in (read_image, lambda path: read_labels(path, TRAIN_IDS)):
        with pytest.raises(UnreadableError, match=r"map\.png is cut short") as caught:
            read(png)
        assert "copy it again" in caught.value.fix
    assert capfd.readouterr().err == ""  # OpenCV has not been asked


def test_a_png_with_a_flipped_bit_is_refused(png, capfd):
    content = bytearray(png.read_bytes())
    content[len(content) // 2] ^= 1
    png.write_bytes(content)
    with pytest.raises(UnreadableError, match="is damaged"):
        read_image(png)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_jpeg_is_refused(jpeg, share):
    content = jpeg.read_bytes()
    jpeg.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableError, match=r"photo\.jpg is cut short"):
        read_image(jpeg)


def test_a_thumbnails_end_is_not_the_jpegs(jpeg):
    content = jpeg.read_bytes()
    thumbnail = b"Exif" + b"\xff\xd9" + b"rest"
    header = content[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    jpeg.write_bytes(header + content[2:])
    assert read_image(jpeg).shape == (64, 128, 3)
    jpeg.write_bytes(header + content[2 : len(content) // 2])
    with pytest.raises(UnreadableError, match="is cut short"):
        read_image(jpeg)


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"GIF or so", "is no image that can be read")])
def test_what_is_no_image_is_refused(tmp_path, content, said):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UnreadableError, match=said):
        read_image(tmp_path / "x.png")


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(UnreadableError, match=r"gone\.png can't be read: No such file"):
        read_image(tmp_path / "gone.png")


def test_images_come_out_in_rgb_whatever_they_are(tmp_path):
    path = tmp_path / "x.png"
    for pixels in (
        np.full((4, 4, 3), (3, 2, 1), np.uint8),
        np.full((4, 4, 4), (3, 2, 1, 9), np.uint8),
        np.full((4, 4, 3), (3 * 256, 2 * 256, 256), np.uint16),
    ):
        cv2.imwrite(str(path), pixels)
        found = read_image(path)
        assert found.dtype == np.uint8
        assert found.shape == (4, 4, 3)
        assert found[0, 0].tolist() == [1, 2, 3]
    cv2.imwrite(str(path), np.full((4, 4), 7, np.uint8))
    assert read_image(path)[0, 0].tolist() == [7, 7, 7]


def test_unknown_ids_are_named_with_their_pixels(tmp_path):
    labels = np.zeros((10, 10), np.uint8)
    labels[0, :7], labels[1, :2] = 33, 26
    cv2.imwrite(str(tmp_path / "x.png"), labels)
    with pytest.raises(UnknownIdsError, match=r"26 \(2 pixels\), 33 \(7 pixels\)") as caught:
        read_labels(tmp_path / "x.png", TRAIN_IDS)
    assert caught.value.pixels == {26: 2, 33: 7}
    assert caught.value.path == tmp_path / "x.png"
    assert caught.value.fix.startswith("map the labels to train ids (0…18, or 255")
    assert isinstance(caught.value, DataError)


def test_ids_of_16_bits_are_not_taken_for_their_last_8(tmp_path):
    labels = np.zeros((4, 4, 3), np.uint16)
    labels[0, 0, 2] = 256 + 3
    cv2.imwrite(str(tmp_path / "x.png"), labels)
    with pytest.raises(UnknownIdsError, match=r"259 \(1 pixels\)"):
        read_labels(tmp_path / "x.png", SYNTHIA)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((8, 8, 3), np.uint8), "uint8 with 3 channels, so it is no map of Cityscapes ids"),
        (np.zeros((8, 8), np.uint16), "uint16 with 1 channel, so it is no map of Cityscapes ids"),
        (np.zeros((8, 9), np.uint8), "is 9 × 8, its image 8 × 8"),
    ],
)
def test_a_map_of_another_kind_is_refused(tmp_path, pixels, said):
    cv2.imwrite(str(tmp_path / "x.png"), pixels)
    with pytest.raises(LabelError, match=said) as caught:
        read_labels(tmp_path / "x.png", CITYSCAPES, (8, 8))
    assert caught.value.fix
