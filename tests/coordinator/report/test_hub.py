"""A result's folder is what model hubs' libraries read, without a network."""

from __future__ import annotations

import pytest
import torch

from client.models import build
from client.tensors import raw_state
from coordinator.report.card import TAGS, model_card
from protos.tensorfile import write_arrays

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Have any way out raise."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something wants out"))


@pytest.fixture
def folder(tmp_path, report):
    (tmp_path / "README.md").write_text(model_card(report), encoding="utf-8")
    metadata = {"format": "pt", "model": "tiny-resnet", "classes": "19"}
    write_arrays(
        tmp_path / "merged.safetensors", raw_state(build("tiny-resnet", 19, seed=3).state_dict()), metadata
    )
    return tmp_path


def test_the_card_is_read_with_what_it_says(folder, report):
    card = hub.ModelCard.load(folder / "README.md")
    said = card.data.to_dict()
    assert (said["library_name"], said["pipeline_tag"], said["license"]) == (
        "onebasin",
        "image-segmentation",
        "other",
    )
    assert said["tags"] == list(TAGS)
    assert said["onebasin"]["merged_digest"] == report.merged.digest
    assert card.text.lstrip().startswith("# ")
    assert hub.metadata_load(folder / "README.md")["onebasin"] == said["onebasin"]


def test_its_results_are_evaluation_results(folder, report):
    results = hub.ModelCard.load(folder / "README.md").data.eval_results
    kinds = {result.metric_type for result in results}
    assert kinds == {"mean_iou", "harmonic_mean_iou"}
    (h,) = [result for result in results if result.metric_type == "harmonic_mean_iou"]
    assert h.metric_value == pytest.approx(report.h(report.result), abs=0.01)
    assert {result.dataset_name for result in results} == {*report.domains, "all domains"}


def test_a_card_that_was_read_and_written_says_the_same(folder):
    card = hub.ModelCard.load(folder / "README.md")
    card.save(folder / "again.md")
    assert hub.ModelCard.load(folder / "again.md").data.to_dict() == card.data.to_dict()


def test_the_model_loads_into_its_network(folder):
    network = build("tiny-resnet", 19)
    hub.load_torch_model(network, folder / "merged.safetensors", strict=True)
    wanted = build("tiny-resnet", 19, seed=3).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())
