"""Small random models, as they are drawn, saved, and made terms of a merge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from coordinator.merge.state import Update
from protos import dtypes
from protos.boundary import BatchNorm
from protos.manifest import COUNT, MEAN, VAR, Manifest, TensorSpec, join
from protos.tensorfile import TensorFile, write_tensors

Model = dict[str, np.ndarray]

PARAMETERS = {
    "head.bias": (5,),
    "head.weight": (5, 4),
    "norm.bias": (4,),
    "norm.weight": (4,),
    "scale": (),
    "stem.weight": (4, 3, 3, 3),
    "unused": (0, 7),
    "xnorm.deep.bias": (3,),
    "xnorm.deep.weight": (3,),
}
LAYERS = {"norm": 4, "xnorm.deep": 3}


def spec_of(array: np.ndarray) -> TensorSpec:
    """Return an array's spec; NumPy has no bfloat16, so uint16 stands for it."""
    name = "bfloat16" if array.dtype == np.uint16 else str(array.dtype)
    return TensorSpec(dtypes.by_name(name), array.shape)


def manifest_of(model: Mapping[str, np.ndarray]) -> Manifest:
    return Manifest({name: spec_of(array) for name, array in model.items()})


def random_model(seed: int, dtype: str = "float32", *, exact: bool = False) -> Model:
    """Draw a model with two BatchNorm layers, a 0-d and an empty parameter, and a buffer that is no statistic.

    Values span many magnitudes; with `exact` all parameters are multiples of 2⁻²⁰.
    """
    rng = np.random.default_rng(seed)
    narrow = dtypes.by_name(dtype).narrow
    model: Model = {}
    for name, shape in PARAMETERS.items():
        values = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 2, size=shape)
        if exact:
            values = np.rint(values * 2**20) / 2**20
        model[name] = np.asarray(narrow(np.asarray(values, np.float32))).reshape(shape)
    for layer, channels in LAYERS.items():
        model[join(layer, MEAN)] = narrow(rng.normal(size=channels).astype(np.float32))
        model[join(layer, VAR)] = narrow(rng.gamma(2.0, size=channels).astype(np.float32))
        model[join(layer, COUNT)] = np.asarray(rng.integers(1, 5000), np.int64)
    model["table"] = np.arange(6, dtype=np.int64).reshape(2, 3)
    return model


def save(path: Path, model: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    ordered = {name: model[name] for name in sorted(model)}
    specs = {name: spec_of(array) for name, array in ordered.items()}
    write_tensors(path, specs, lambda name: [ordered[name].tobytes()], metadata)
    return path


def statistics_of(model: Mapping[str, np.ndarray]) -> dict[str, BatchNorm]:
    manifest = manifest_of(model)

    def wide(name: str) -> np.ndarray:
        return manifest.tensors[name].dtype.widen(model[name])

    return {
        layer: BatchNorm(wide(join(layer, MEAN)), wide(join(layer, VAR)), int(model[join(layer, COUNT)]))
        for layer in manifest.layers
    }


def digest_of(site: str) -> bytes:
    return hashlib.sha256(site.encode()).digest()


@pytest.fixture(scope="session")
def model() -> Callable[..., Model]:
    """Return `random_model`."""
    return random_model


@pytest.fixture(scope="session")
def manifest_for() -> Callable[[Mapping[str, np.ndarray]], Manifest]:
    """Return `manifest_of`."""
    return manifest_of


@pytest.fixture(scope="session")
def saved() -> Callable[..., Path]:
    """Return `save`."""
    return save


@pytest.fixture(scope="session")
def statistics_in() -> Callable[[Mapping[str, np.ndarray]], dict[str, BatchNorm]]:
    """Return `statistics_of`."""
    return statistics_of


@pytest.fixture(scope="session")
def update(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Update]]:
    """Return a function that makes a term of the merge out of a model."""
    folder = tmp_path_factory.mktemp("updates")
    count = 0
    with ExitStack() as opened:

        def make(model: Mapping[str, np.ndarray], site: str) -> Update:
            nonlocal count
            count += 1
            file = TensorFile(save(folder / f"{count}.safetensors", model))
            return opened.enter_context(Update(file, statistics_of(model), digest_of(site), site))

        yield make
