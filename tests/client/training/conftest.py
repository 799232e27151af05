"""The quick preset: a handful of small images, three steps."""

import pytest
import torch

from client.data.datasets import scene_source, scene_target
from client.data.settings import SceneData
from client.models import build
from client.training.settings import AdaptSettings


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def few():
    return SceneData("night", source_images=8, target_images=8, evaluation_images=4, height=32, width=64)


@pytest.fixture(scope="session")
def source(few):
    return scene_source(few)


@pytest.fixture(scope="session")
def target(few):
    return scene_target(few)


@pytest.fixture(scope="session")
def base():
    return build("tiny-resnet", 19).state_dict()


@pytest.fixture
def quick():
    return AdaptSettings(steps=6, batch=2, checkpoint_every=2, warmup=1)
