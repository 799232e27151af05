"""The model card beside a model that was merged offline."""

from __future__ import annotations

from pathlib import Path

import yaml

from coordinator.offline.buffers import Rule
from coordinator.offline.inputs import Input
from coordinator.offline.plan import Plan
from coordinator.offline.weights import shares
from coordinator.report.card import CITATION, TAGS
from coordinator.report.text import count, markdown, size
from protos.receipts import PARAMETER_RULE

_BUFFERS = {
    Rule.POOLED: "BatchNorm statistics: pooled as Gaussians, weighted by tracked batches.",
    Rule.UNIFORM: "BatchNorm statistics: means and variances averaged with equal weights, counts added up.",
}


def card(plan: Plan, path: Path, i: Input, digest: bytes) -> str:
    """Return the card: YAML front matter, then Markdown.

    Args:
        plan: How it was merged.
        path: The model's file.
        i: The model whose own tensors are in it, where each keeps some.
        digest: The merged model's digest.

    """
    matter = {
        "license": "other",
        "library_name": "onebasin",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
        "onebasin": {
            "merged_digest": digest.hex(),
            "inputs": [one.digest_text or one.name for one in plan.inputs],
        },
    }
    own = sum(plan.own(name) for name in i.file.manifest.tensors)
    manifest = i.file.manifest
    said = _BUFFERS.get(plan.buffer_rule) or f"BatchNorm statistics: those of {markdown(plan.buffer_source.name)}."  # type: ignore[union-attr]
    lines = [
        "---",
        yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=2**30) + "---\n",
        f"# {markdown(path.stem)}\n",
        f"One segmentation model, merged from {len(plan.inputs)} by onebasin. Nothing was trained for it.\n",
        f"- {count(sum(spec.size for spec in manifest.parameters.values()))} parameters, "
        f"{count(len(manifest.layers))} BatchNorm layers, {size(path.stat().st_size)}",
        "- Parameters: the "
        + ("uniform" if plan.parameter_rule == PARAMETER_RULE else "weighted")
        + " mid-point of the models.",
        f"- {said}",
        *([f"- {own} tensors are {markdown(i.name)}'s own."] if own else []),
        "",
        "## What went in\n",
        "| Model | Share | Batches | Digest |",
        "| :--- | ---: | ---: | :--- |",
        *(
            f"| {markdown(one.name)} | {share:.1%} | {count(batches)} | {one.digest_text or 'not computed'} |"
            for one, share, batches in zip(plan.inputs, shares(plan.weights), plan.batches, strict=True)
        ),
        "",
        f"Merged model: {digest.hex()}\n",
        "## Citation\n",
        f"```bibtex\n{CITATION}\n```\n",
    ]
    return "\n".join(lines)
