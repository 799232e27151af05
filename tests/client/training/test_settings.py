import pytest

from client.training.settings import AdaptSettings, BaseSettings
from protos.errors import ConfigurationError


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
    ],
)
def test_impossible_numbers_are_refused_by_name(change):
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        AdaptSettings(**change)


def test_base_settings_are_checked_too():
    with pytest.raises(ConfigurationError, match="jitter"):
        BaseSettings(jitter=3)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigurationError, match="'magic'"):
        AdaptSettings(method="magic")
