"""A site judges on scenes or on files of several sizes; what leaves is counts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from client import evaluation, judge, models
from client.data.datasets import scene_evaluation
from client.data.opening import unlabelled_batches
from client.data.scenes import render
from client.delivered import ForbiddenError
from client.models import norms
from client.recalibration import recalibrate
from client.site import Site
from protos import messages_pb2 as pb
from protos.campaign import Rules
from protos.errors import DataError

pytestmark = pytest.mark.usefixtures("one_thread")


class Road(torch.nn.Module):
    """Takes everything for class 1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), 5, *images.shape[2:])
        logits[:, 1] = 1
        return logits


@pytest.fixture
def joined(make_world, monkeypatch):
    monkeypatch.setattr(judge.models, "build", lambda *_: Road())
    monkeypatch.setattr(judge._States, "state", lambda *_: {})
    return make_world(("fog",), store=False).joined("fog")


def with_data(joined, text: str):
    path = joined.site.settings_path
    path.write_text(path.read_text().replace('[data]\ndomain = "night"\n', text))
    return Site.open(joined.site.folder).joined(joined.campaign.digest)


def judged(joined) -> pb.Score:
    request = pb.Evaluate(candidates=[pb.Candidate(key="merged")])
    (score,) = judge.judge(joined, request, None)
    return score


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "own"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for at, size in enumerate([(32, 64), (48, 64), (32, 32)]):
        image = render("clear", 0, at, size).image
        cv2.imwrite(str(root / f"images/{at}.png"), image[..., ::-1])
        cv2.imwrite(str(root / f"labels/{at}.png"), np.minimum(render("clear", 0, at, size).labels, 4))
    return root


FOLDERS = "".join(f'[data.{name}]\nlayout = "folder"\nfolder = "{{0}}"\n' for name in ("source", "target"))


def test_files_of_several_sizes_are_judged_on(joined, folder):
    evaluation = f'[data.evaluation]\nlayout = "folder"\nfolder = "{folder}"\n'
    score = judged(with_data(joined, FOLDERS.format(folder) + evaluation))
    assert score.images == 3
    counts = np.array(score.confusion).reshape(5, 5)
    assert counts.sum() == 32 * 64 + 48 * 64 + 32 * 32
    assert (counts[:, [0, 2, 3, 4]] == 0).all()


def test_what_people_see_is_the_first_image(joined, folder):
    evaluation = f'[data.evaluation]\nlayout = "folder"\nfolder = "{folder}"\n'
    joined = with_data(joined, FOLDERS.format(folder) + evaluation)
    judged(joined)
    pictures = joined.folder / "pictures"
    shown = cv2.imread(str(pictures / "image.png"))
    assert np.array_equal(shown, cv2.imread(str(folder / "images/0.png")))
    assert {path.name for path in pictures.iterdir()} == {"image.png", "ground-truth.png", "prediction-merged.png"}


MEASURED = pb.Candidate.Source(kind=pb.Candidate.KIND_RECALIBRATED)
OWN = pb.Candidate.Source(kind=pb.Candidate.KIND_OWN)


@pytest.fixture
def adapted(make_world, monkeypatch):
    """Return a function that makes a site with a real network's update, in a campaign with or without the rule."""

    def make(*, recalibrate: bool):
        joined = make_world(("fog",), rules=Rules(recalibrate=recalibrate), store=False).joined("fog")
        network = models.build("tiny-resnet", 19, 4)
        build = models.build
        monkeypatch.setattr(judge.models, "build", lambda *_: build("tiny-resnet", 19, 5))
        monkeypatch.setattr(judge, "load_state", lambda _: network.state_dict())
        text = '[data]\ndomain = "dusty"\ntarget_images = 20\nevaluation_images = 3\nheight = 32\nwidth = 64\n'
        return with_data(joined, text), network

    return make


def test_a_site_measures_statistics_on_its_own_images_and_keeps_the_model(adapted):
    joined, network = adapted(recalibrate=True)
    request = pb.Evaluate(candidates=[pb.Candidate(key="measured", parameters=OWN, buffers=MEASURED)])
    (score,) = judge.judge(joined, request, None)
    images = list(unlabelled_batches(joined.site.settings.data, joined.site.folder, most=judge._IMAGES, batch=16))
    assert sum(map(len, images)) == 20
    expected = recalibrate(network, images)
    kept = models.build("tiny-resnet", 19)
    kept.load_state_dict(load_file(joined.folder / judge.MERGED))
    found = norms.statistics(kept)
    assert all(np.array_equal(found[layer].var, one.var) for layer, one in expected.items())
    own = network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in kept.named_parameters())
    norms.load(network, expected)
    data = scene_evaluation(joined.site.settings.data)
    assert score.confusion == evaluation.confusion(network, data).flatten().tolist()


def test_a_site_measures_nothing_where_the_rules_know_nothing_of_it(adapted):
    joined, _ = adapted(recalibrate=False)
    request = pb.Evaluate(candidates=[pb.Candidate(key="measured", parameters=OWN, buffers=MEASURED)])
    with pytest.raises(ForbiddenError, match="the campaign's rules know no recalibration"):
        judge.judge(joined, request, None)
    assert not (joined.folder / judge.MERGED).exists()


def test_a_site_without_held_out_images_says_so(joined, folder):
    with pytest.raises(DataError, match="no held-out labelled images"):
        judged(with_data(joined, FOLDERS.format(folder)))


def test_scenes_are_judged_on_as_ever(joined, monkeypatch):
    seen = []
    monkeypatch.setattr(
        judge.evaluation,
        "confusion",
        lambda _, data: seen.append(len(data)) or torch.ones(5, 5, dtype=torch.int64),
    )
    text = '[data]\ndomain = "night"\nevaluation_images = 4\n'
    assert judged(with_data(joined, text)).images == 4
    assert seen == [4]
