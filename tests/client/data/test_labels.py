import numpy as np

from client.data.labels import CLASSES, IGNORE, PALETTE, colour


def test_there_are_nineteen_classes_with_a_colour_each():
    assert len(CLASSES) == len(set(CLASSES)) == len(PALETTE) == len(set(PALETTE)) == 19


def test_colour_paints_each_class_and_leaves_the_rest_black():
    labels = np.array([[0, 13], [18, IGNORE]], np.uint8)
    painted = colour(labels)
    assert painted.dtype == np.uint8
    assert painted.shape == (2, 2, 3)
    assert painted[0, 0].tolist() == [128, 64, 128]
    assert painted[0, 1].tolist() == [0, 0, 142]
    assert painted[1, 0].tolist() == [119, 11, 32]
    assert painted[1, 1].tolist() == [0, 0, 0]
