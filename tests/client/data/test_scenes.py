import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.labels import CLASSES
from client.data.scenes import DOMAINS, TARGETS, render
from protos.errors import ConfigurationError

every_domain = pytest.mark.parametrize("domain", DOMAINS)


def fingerprint(domain, seed, index, size=(64, 128)):
    scene = render(domain, seed, index, size)
    return hashlib.sha256(scene.image.tobytes() + scene.labels.tobytes()).hexdigest()


@settings(max_examples=40, deadline=None)
@given(
    domain=st.sampled_from(list(DOMAINS)),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 2**40),
    height=st.integers(16, 96),
    width=st.integers(16, 192),
)
def test_a_scene_has_the_asked_size_and_only_known_labels(domain, seed, index, height, width):
    scene = render(domain, seed, index, (height, width))
    assert scene.image.shape == (height, width, 3)
    assert scene.labels.shape == (height, width)
    assert scene.image.dtype == scene.labels.dtype == np.uint8
    assert scene.labels.max() < len(CLASSES)


@every_domain
def test_the_same_numbers_give_the_same_bytes(domain):
    assert fingerprint(domain, 3, 7) == fingerprint(domain, 3, 7)


@every_domain
def test_another_seed_or_index_gives_another_scene(domain):
    assert len({fingerprint(domain, seed, index) for seed in (0, 1) for index in (0, 1)}) == 4


def test_every_domain_shows_another_world():
    assert len({fingerprint(domain, 0, 0) for domain in DOMAINS}) == len(DOMAINS)


def test_threads_do_not_matter():
    keys = [(domain, 1, index) for domain in DOMAINS for index in range(6)]
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = [fingerprint(*key) for key in keys]
        cv2.setNumThreads(4)
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda key: fingerprint(*key), keys))
    finally:
        cv2.setNumThreads(before)
    assert alone == together


def test_processes_do_not_matter():
    code = (
        "import hashlib; from client.data.scenes import render, DOMAINS; "
        "s = [render(d, 5, 2, (48, 80)) for d in DOMAINS]; "
        "print(hashlib.sha256(b''.join(x.image.tobytes() + x.labels.tobytes() for x in s)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    scenes = [render(domain, 5, 2, (48, 80)) for domain in DOMAINS]
    assert other == hashlib.sha256(b"".join(s.image.tobytes() + s.labels.tobytes() for s in scenes)).hexdigest()


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)
    before = fingerprint("night", 0, 0)
    expected = np.random.random()
    np.random.seed(1)
    assert fingerprint("night", 0, 0) == before
    assert np.random.random() == expected


@every_domain
def test_every_class_is_there_to_be_learnt(domain):
    labels = np.stack([render(domain, 0, index).labels for index in range(40)])
    for number, name in enumerate(CLASSES):
        assert (labels == number).any((1, 2)).mean() > 0.15, name


@every_domain
def test_another_size_shows_the_same_street(domain):
    small, large = render(domain, 2, 4, (64, 128)).labels, render(domain, 2, 4, (192, 384)).labels
    assert (small == large[1::3, 1::3]).mean() > 0.97


def test_the_targets_look_unlike_the_source():
    def look(domain):
        """Mean colour of each class."""
        scenes = [render(domain, 0, index) for index in range(20)]
        images, labels = np.stack([s.image for s in scenes]), np.stack([s.labels for s in scenes])
        return np.stack([images[labels == number].mean(0) for number in range(len(CLASSES))])

    source = look("source")
    for target in TARGETS:
        assert np.abs(look(target) - source).mean() > 20, target


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("snow", 0, 0), "'snow'"),
        (("clear", -1, 0), "-1"),
        (("clear", 0, -1), "-1"),
        (("clear", 0, 0, (8, 128)), "too small"),
    ],
)
def test_impossible_scenes_are_refused(arguments, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        render(*arguments)
    assert caught.value.fix
