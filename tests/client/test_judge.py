"""A site judges on scenes or on files of several sizes; what leaves is counts."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
import torch

from client import evaluation, judge, measuring, models
from client.data.datasets import scene_evaluation
from client.data.opening import unlabelled_batches
from client.data.scenes import render
from client.delivered import Delivered, ForbiddenError
from client.models import norms
from client.models.routed import RoutedModel
from client.outbox import Outbox
from client.recalibration import recalibrate
from client.site import Site
from client.tensors import raw_state
from protos import boundary
from protos import messages_pb2 as pb
from protos.boundary import BatchNorm
from protos.digest import model_digest
from protos.errors import DataError, UpdateRefusedError
from protos.rules import Rules
from protos.tensorfile import TensorFile

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


def tiny(seed: int) -> torch.nn.Module:
    return models.build("tiny-resnet", 19, seed)


def source(kind: str, **fields) -> pb.Candidate.Source:
    return pb.Candidate.Source(kind=pb.Candidate.Kind.Value(f"KIND_{kind}"), **fields)


@pytest.fixture
def real(make_world):
    """Return a function that makes a site with a real network, and delivers another one's parameters to it."""

    def make(rule: str):
        base, merged = raw_state(tiny(4).state_dict()), raw_state(tiny(5).state_dict())
        world = make_world(
            ("fog",), rules=Rules(buffers=rule), store=False, base_model=base, models={"fog": merged}, classes=19
        )
        text = '[data]\ndomain = "dusty"\ntarget_images = 20\nevaluation_images = 3\nheight = 32\nwidth = 64\n'
        joined = with_data(world.joined("fog"), text)
        names = list(world.manifest.parameters)
        digests = {name: hashlib.sha256(merged[name].tobytes()).digest() for name in names}
        digest = model_digest(world.manifest.parameters, digests)
        delivered = Delivered(joined, world.manifest)
        delivered.take(
            [pb.Piece(digest=digest, parameters=names)], b"".join(merged[name].tobytes() for name in names)
        )
        return joined, delivered, digest

    return make


def expected_statistics(joined, network) -> dict[str, BatchNorm]:
    images = list(
        unlabelled_batches(
            joined.site.settings.data, joined.site.folder, most=measuring.IMAGES, batch=measuring.BATCH
        )
    )
    assert sum(map(len, images)) == 20
    return recalibrate(network, images)


def carrying(sets: dict[str, dict[str, BatchNorm]], *candidates: pb.Candidate) -> pb.Evaluate:
    return pb.Evaluate(candidates=candidates, buffer_sets=[boundary.wire_set(*item) for item in sets.items()])


def test_a_model_is_judged_with_statistics_of_the_sites_own_images(real):
    joined, delivered, digest = real("recalibrated")
    candidate = pb.Candidate(
        key="measured", parameters=source("CARRIED", digest=digest), buffers=source("RECALIBRATED")
    )
    (score,) = judge.judge(joined, carrying({}, candidate), delivered)
    network = tiny(5)
    norms.load(network, expected_statistics(joined, network))
    data = scene_evaluation(joined.site.settings.data)
    assert score.confusion == evaluation.confusion(network, data).flatten().tolist()


def test_statistics_are_measured_once(real, monkeypatch):
    joined, delivered, digest = real("recalibrated")
    with TensorFile(joined.base) as base:
        first = measuring.measured(joined, base.manifest, delivered, digest)
        monkeypatch.setattr(measuring, "_measure", lambda *_: pytest.fail("measured again"))
        again = measuring.measured(joined, base.manifest, delivered, digest)
    expected = expected_statistics(joined, tiny(5))
    for found in (first, again):
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[n].mean, expected[n].mean) for n in expected)
        assert all(np.array_equal(found[n].var, expected[n].var) for n in expected)
        assert all(found[n].count == expected[n].count for n in expected)


def test_a_file_of_statistics_that_is_damaged_is_measured_again(real):
    joined, delivered, digest = real("recalibrated")
    with TensorFile(joined.base) as base:
        first = measuring.measured(joined, base.manifest, delivered, digest)
        (path,) = (joined.folder / "measured").iterdir()
        path.write_bytes(path.read_bytes()[:-7])
        again = measuring.measured(joined, base.manifest, delivered, digest)
    assert all(np.array_equal(first[n].var, again[n].var) for n in first)


def test_a_routed_model_is_judged_as_one_that_chooses_for_each_image(real):
    joined, delivered, digest = real("routed")
    network = tiny(5)
    own, pooled = expected_statistics(joined, network), norms.statistics(tiny(4))
    sets = {"pooled": pooled, "measured:a": own, "measured:b": pooled}
    buffers = source("ROUTED", sets=["pooled", "measured:a", "measured:b"])
    candidate = pb.Candidate(key="routed", parameters=source("CARRIED", digest=digest), buffers=buffers)
    (score,) = judge.judge(joined, carrying(sets, candidate), delivered)
    chosen = RoutedModel(network, pooled, {"a": own, "b": pooled})
    data = scene_evaluation(joined.site.settings.data)
    assert score.confusion == evaluation.confusion(chosen, data).flatten().tolist()


def test_a_set_that_did_not_come_along_is_named(real):
    joined, delivered, digest = real("routed")
    buffers = source("ROUTED", sets=["pooled", "measured:b"])
    candidate = pb.Candidate(key="routed", parameters=source("CARRIED", digest=digest), buffers=buffers)
    with pytest.raises(UpdateRefusedError, match="measured:b did not come along"):
        judge.judge(joined, carrying({"pooled": norms.statistics(tiny(4))}, candidate), delivered)


@pytest.mark.parametrize("rule", ["pooled", "own"])
def test_a_site_measures_nothing_where_the_rules_know_nothing_of_it(real, rule):
    joined, delivered, digest = real(rule)
    candidate = pb.Candidate(
        key="measured", parameters=source("CARRIED", digest=digest), buffers=source("RECALIBRATED")
    )
    with pytest.raises(ForbiddenError, match="the campaign's rules know no recalibration"):
        judge.judge(joined, carrying({}, candidate), delivered)


@pytest.mark.parametrize(
    ("rule", "parameters", "buffers"),
    [
        ("pooled", "CARRIED", "OWN"),  # parameters can be made up so that scores tell these statistics
        ("recalibrated", "CARRIED", "OWN"),
        ("routed", "BASE", "OWN"),
        ("pooled", "OWN", "CARRIED"),  # and the other way round
        ("own", "OWN", "CARRIED"),
        ("own", "OWN", "BASE"),
        ("routed", "OWN", "ROUTED"),
    ],
)
def test_a_sites_own_half_of_a_model_is_not_judged_with_another_half_that_no_rule_needs(
    real, rule, parameters, buffers
):
    joined, delivered, digest = real(rule)
    sets = {"made-up": norms.statistics(tiny(4))}
    candidate = pb.Candidate(
        key="x",
        parameters=source(parameters, digest=digest),
        buffers=source(buffers, set="made-up", sets=["made-up"] if buffers == "ROUTED" else []),
    )
    with pytest.raises(ForbiddenError, match="are not judged apart"):
        judge.judge(joined, carrying(sets, candidate), delivered)


def test_with_the_rule_for_it_the_merged_model_is_judged_with_a_sites_own_statistics(real):
    joined, delivered, digest = real("own")
    own = raw_state(tiny(6).state_dict())
    Outbox(joined).store({n: np.asarray(3) if n.endswith("num_batches_tracked") else own[n] for n in own})
    candidate = pb.Candidate(key="own", parameters=source("CARRIED", digest=digest), buffers=source("OWN"))
    (score,) = judge.judge(joined, carrying({}, candidate), delivered)
    assert score.images == 3


def test_where_the_rules_say_so_nothing_is_judged(make_world):
    joined = make_world(("fog",), rules=Rules(evaluate=False)).joined("fog")
    candidate = pb.Candidate(key="base", parameters=source("BASE"), buffers=source("BASE"))
    with pytest.raises(ForbiddenError, match="no scores leave"):
        judge.judge(joined, carrying({}, candidate), None)


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
