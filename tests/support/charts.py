"""The Helm chart, as Helm's own engine renders it: to what, and what of the chart.

``python tests/support/charts.py`` writes tests/deploy/rendered.yaml anew. It needs Helm's engine:
``pip install helm-python-sdk``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "onebasin-coordinator"
VALUES = Path(__file__).parents[1] / "deploy" / "values.yaml"
RENDERED = VALUES.with_name("rendered.yaml")

ALL: dict[str, Any] = yaml.safe_load(VALUES.read_text())
"""All values that put something into the manifests."""
LEAST: dict[str, Any] = {"hosts": ["merge.example"], "image": {"name": "images.example/onebasin-coordinator"}}
"""All values that must be given."""


def digest() -> str:
    """Digest all that rendering depends on."""
    found = hashlib.sha256()
    for path in [*sorted(path for path in CHART.rglob("*") if path.is_file()), VALUES]:
        found.update(f"{path.name}\0{len(path.read_bytes())}\0".encode() + path.read_bytes())
    return found.hexdigest()


def documents() -> dict[str, list[dict[str, Any]]]:
    """Return the manifests that were rendered before, of all values and of the fewest."""
    return yaml.safe_load(RENDERED.read_text())


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Render the manifests; raises ImportError where the engine is not."""
    import helm_python as helm

    files = helm.Chart.load(CHART).render(values, name="onebasin", namespace="default")
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def main() -> None:
    """Write rendered.yaml."""
    content = yaml.safe_dump({"all": render(ALL), "least": render(LEAST)}, sort_keys=False, width=110)
    RENDERED.write_text(f"# Written by tests/support/{Path(__file__).name}\n# of: {digest()}\n{content}")


if __name__ == "__main__":
    main()
