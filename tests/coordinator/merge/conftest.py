"""A pool of models to merge, and a way to merge them along any route."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState, Update, write_sum
from protos.manifest import Manifest
from protos.tensorfile import TensorFile

BASE = bytes(range(32))
SITES = ("clear", "dusty", "fog", "night", "rain", "snow")


@dataclass
class Kitchen:
    """Updates of six sites on one base, and a folder to merge them in."""

    folder: Path
    base: Path
    manifest: Manifest
    updates: dict[str, Update]
    models: dict[str, dict]
    _names: itertools.count = field(default_factory=itertools.count)

    def fresh(self) -> Path:
        return self.folder / f"{next(self._names)}.safetensors"

    def fold(self, state: Path, *sites: str) -> Path:
        """Add sites to a state file, all in one pass; it is made if it isn't there."""
        self.add(state, [(1, self.updates[site]) for site in sites])
        return state

    def withdraw(self, state: Path, *sites: str) -> Path:
        self.add(state, [(-1, self.updates[site]) for site in sites])
        return state

    def add(self, state: Path, terms: list) -> None:
        if not state.exists():
            write_sum(state, self.manifest, BASE, terms)
            return
        with MergeState(state) as before:
            write_sum(state, self.manifest, BASE, [(1, before), *terms])

    def union(self, states: Sequence[Path]) -> Path:
        """Add regions' states up."""
        path, opened = self.fresh(), [MergeState(state) for state in states]
        try:
            write_sum(path, self.manifest, BASE, [(1, state) for state in opened])
        finally:
            for state in opened:
                state.close()
        return path

    def merged(self, state: Path) -> bytes:
        """Return the merged model's file, byte for byte."""
        path = self.fresh()
        with MergeState(state) as found, TensorFile(self.base) as base:
            terms = [(1, found)]
            write_midpoint(path, base, terms, pooled_statistics(terms, self.manifest), {"format": "pt"})
        return path.read_bytes()


def build(tmp_path_factory, model, saved, manifest_for, update, dtype: str) -> Kitchen:
    folder = tmp_path_factory.mktemp("kitchen")
    base = model(0, dtype)
    models = {site: {**model(10 + i, dtype), "table": base["table"]} for i, site in enumerate(SITES)}
    return Kitchen(
        folder,
        saved(folder / "base.safetensors", base),
        manifest_for(base),
        {site: update(found, site) for site, found in models.items()},
        models,
    )


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory, model, saved, manifest_for, update) -> Kitchen:
    return build(tmp_path_factory, model, saved, manifest_for, update, "float32")


@pytest.fixture(scope="session")
def kitchen_of(tmp_path_factory, model, saved, manifest_for, update) -> Callable[[str], Kitchen]:
    """Return a function that makes a kitchen of another dtype."""
    return lambda dtype: build(tmp_path_factory, model, saved, manifest_for, update, dtype)
