from dataclasses import asdict

import pytest

from client.training.presets import MEMORY, METHODS
from client.training.settings import AdaptSettings, BaseSettings
from protos.errors import ConfigurationError
from protos.settings import load


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"threshold": 1.5},
        {"ema": -0.1},
        {"mix": 2.0},
        {"checkpoint_every": 0},
        {"accumulate": 0},
        {"devices": 0},
        {"clip": -1.0},
        {"mask_ratio": 1.5},
        {"masked": -1.0},
        {"precision": "64"},
        {"feature_classes": (19, 255)},
        {"feature_ratio": 0.5, "feature_distance": 1.0},
    ],
)
def test_impossible_numbers_are_refused_by_name(change):
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        AdaptSettings(**change)


def test_base_settings_are_checked_too():
    with pytest.raises(ConfigurationError, match="jitter"):
        BaseSettings(jitter=3)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [({"method": "hdra"}, "'hrda'"), ({"method": "daforner"}, "'daformer'"), ({"memory": "16G"}, "'16GB'")],
)
def test_an_unknown_preset_gets_the_nearest_as_suggestion(wrong, right):
    with pytest.raises(ConfigurationError, match=repr(next(iter(wrong.values())))) as caught:
        AdaptSettings(**wrong)
    assert f"Did you mean {right}?" in caught.value.fix


def test_a_preset_that_is_like_none_is_refused_with_all_of_them():
    with pytest.raises(ConfigurationError, match="'zzz'") as caught:
        AdaptSettings(method="zzz")
    assert "demo, dacs, daformer, hrda, mic, advent" in caught.value.fix


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("memory", ["", *MEMORY])
def test_every_preset_gives_every_number(method, memory):
    settings = AdaptSettings(method=method, memory=memory)
    assert None not in asdict(settings).values()
    assert not METHODS[method].keys() - asdict(settings).keys()


def test_what_is_named_comes_first_then_memory_then_the_method():
    settings = AdaptSettings(method="mic", memory="16GB", masked=0.5, precision="32")
    assert (settings.masked, settings.precision) == (0.5, "32")
    assert (settings.batch, settings.accumulate, settings.feature_distance) == (1, 2, 0.0)
    assert (settings.lr, settings.head_lr, settings.warmup, settings.ema) == (6e-5, 10.0, 1500, 0.999)


def test_nought_is_a_number_that_can_be_named():
    assert AdaptSettings(method="daformer", feature_distance=0.0, warmup=0).feature_distance == 0.0


def test_the_demos_numbers_are_as_they_were():
    settings = AdaptSettings()
    assert (settings.steps, settings.batch, settings.lr, settings.warmup) == (450, 4, 4e-3, 20)
    assert (settings.ema, settings.threshold, settings.mix) == (0.99, 0.8, 0.5)
    assert (settings.source_jitter, settings.jitter, settings.jitter_share) == (0.5, 0.4, 0.8)
    assert (settings.head_lr, settings.masked, settings.feature_distance, settings.entropy) == (1.0, 0, 0, 0)


def test_settings_are_read_from_toml_strictly(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('method = "hrda"\nlr = 1\nfeature_classes = [11, 12]\n')
    found = load(path, AdaptSettings)
    assert (found.method, found.lr, found.feature_classes) == ("hrda", 1.0, (11, 12))
    path.write_text("treshold = 0.9\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, AdaptSettings)
    assert "threshold" in caught.value.fix
    path.write_text('lr = "fast"\n')
    with pytest.raises(ConfigurationError, match="lr"):
        load(path, AdaptSettings)


def test_presets_count_by_their_numbers():
    dacs = AdaptSettings(method="dacs")
    same = AdaptSettings(method="daformer", ema=dacs.ema, feature_distance=0.0)
    assert dacs.identity() == same.identity()
    assert dacs.identity() != AdaptSettings(method="daformer").identity()
