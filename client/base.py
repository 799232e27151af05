"""Making the base: supervised training on labelled synthetic scenes, cached by its recipe's digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from client.data.labels import CLASSES
from client.data.settings import SceneData
from client.training.settings import BaseSettings
from protos import files
from protos.boundary import Array
from protos.digest import file_digest
from protos.errors import ModelFileError, StorageError
from protos.tensorfile import TensorFile, write_arrays


@dataclass(frozen=True)
class Recipe:
    """Everything that a base depends on.

    Attributes:
        model: Its architecture.
        data: The scenes; only the source domain is rendered.
        training: How it is trained.

    """

    model: str
    data: SceneData
    training: BaseSettings

    @property
    def digest(self) -> str:
        """A name for the cache. Other code trains another base, so PyTorch's version and ours count too."""
        content = {**asdict(self), "torch": version("torch"), "code": _code_digest()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def recipe(*, model: str = "tiny-resnet", steps: int | None = None, images: int = 600, seed: int = 0) -> Recipe:
    """Return the default recipe with some of its numbers changed."""
    training = BaseSettings(seed=seed)
    if steps is not None:
        training = replace(training, steps=steps)
    return Recipe(model, SceneData(domain="source", seed=seed, source_images=images), training)


def make(recipe: Recipe, output: Path, *, cache: bool, say: Callable[[str], None], threads: int = 0) -> bytes:
    """Train a base, or take it from the cache, and write it to `output`.

    Args:
        recipe: What to train.
        output: Where to; a safetensors file whose metadata names ``model`` and ``classes``.
        cache: Whether to look into the cache and keep the result there.
        say: Called with a line about every two seconds.
        threads: CPU threads; 0 means as many as PyTorch thinks best.

    Returns:
        The base's digest.

    Raises:
        StorageError: It can't be written.
        ConfigurationError: There is no such model.

    """
    kept = cache_folder() / f"{recipe.digest}.safetensors"
    if cache and kept.exists():
        try:
            with TensorFile(kept) as file:
                file_digest(file)
            say(f"the base was trained before (recipe {recipe.digest})")
            return _copied(kept, output)
        except ModelFileError:
            kept.unlink()  # damaged: train it again
    arrays = _trained(recipe, say, threads)
    files.make_folder(output.absolute().parent)
    metadata = {"format": "pt", "model": recipe.model, "classes": str(len(CLASSES)), "recipe": recipe.digest}
    write_arrays(output, arrays, metadata)
    if cache:
        files.make_folder(kept.parent)
        _copied(output, kept)
    with TensorFile(output) as file:
        return file_digest(file)


def cache_folder() -> Path:
    """Return where bases are kept: below $XDG_CACHE_HOME, else ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "onebasin" / "bases"


def _code_digest() -> str:
    """Digest the code that scenes, models and training are made of."""
    folder = Path(__file__).parent
    sources = sorted(path for part in ("data", "models", "training") for path in (folder / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _copied(source: Path, target: Path) -> bytes:
    files.make_folder(target.absolute().parent)
    try:
        with source.open("rb") as content, files.atomic(target) as file:
            shutil.copyfileobj(content, file)
    except OSError as error:
        raise StorageError(f"can't copy the base to {target}: {error.strerror}", "free some space") from error
    with TensorFile(target) as written:
        return file_digest(written)


def _trained(recipe: Recipe, say: Callable[[str], None], threads: int) -> dict[str, Array]:
    import torch

    from client import models
    from client.data import datasets
    from client.tensors import raw_state
    from client.training.progress import spoken
    from client.training.supervised import train_base

    if threads:
        torch.set_num_threads(threads)
    model = models.build(recipe.model, len(CLASSES), recipe.training.seed)
    say(f"rendering {recipe.data.source_images} labelled scenes")
    data = datasets.scene_source(recipe.data)
    train_base(model, data, recipe.training, spoken(say))
    return raw_state(model.state_dict())
