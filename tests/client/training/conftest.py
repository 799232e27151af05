"""The quick preset: a handful of small images, a few steps; and networks that are small, but real."""

import pytest

import client.models
from client.data.datasets import scene_source, scene_target
from client.data.memory import MemoryFeed
from client.data.settings import SceneData
from client.models import MODELS, build
from client.models.hrda import HRDA, HRDAHead
from client.models.mit import WIDTHS, MixTransformer
from client.training.settings import AdaptSettings


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""


@pytest.fixture(scope="session")
def few():
    return SceneData("night", source_images=8, target_images=8, evaluation_images=4, height=32, width=64)


@pytest.fixture(scope="session")
def source(few):
    return scene_source(few)


@pytest.fixture(scope="session")
def target(few):
    return scene_target(few)


@pytest.fixture
def feed(source, target):
    return MemoryFeed(source, target, batch=2, seed=0)


@pytest.fixture(scope="session")
def square_feed():
    """Square images, as crops are."""
    data = SceneData("night", source_images=4, target_images=4, height=64, width=64)
    return MemoryFeed(scene_source(data), scene_target(data), batch=2, seed=0)


@pytest.fixture(scope="session")
def base():
    return build("tiny-resnet", 19).state_dict()


@pytest.fixture
def quick():
    return AdaptSettings(steps=6, batch=2, checkpoint_every=2, warmup=1)


@pytest.fixture
def hrda(monkeypatch):
    """Name of an HRDA network with the smallest encoder."""
    smallest = {"hrda-mitb0": lambda classes: HRDA(MixTransformer("b0"), HRDAHead(WIDTHS["b0"], classes))}
    monkeypatch.setattr(client.models, "MODELS", {**MODELS, **smallest})
    return "hrda-mitb0"
