"""A plan, and what came of it, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from coordinator.offline.plan import Plan
from coordinator.offline.weights import shares
from coordinator.offline.write import Output
from coordinator.report.text import count, plain, size
from protos.digest import short


def as_json(made: Plan, written: list[Output]) -> dict[str, Any]:
    """Return all of it as JSON's types."""
    return {
        "inputs": [
            {
                "name": i.name,
                "file": str(i.file.path),
                "copy": i.file.copy,
                "digest": i.digest_text,
                "weight": weight,
                "share": share,
                "batches": batches,
            }
            for i, weight, share, batches in zip(
                made.inputs, made.weights, shares(made.weights), made.batches, strict=True
            )
        ],
        "parameter_rule": made.parameter_rule,
        "buffer_rule": made.buffer_rule.value,
        "buffers_from": made.buffer_source.name if made.buffer_source else None,
        "peak_bytes": made.peak_bytes,
        "warnings": made.warnings,
        "tensors": [
            {
                "name": action.name,
                "role": action.role,
                "rule": action.rule,
                "dtype": action.spec.dtype.name,
                "shape": list(action.spec.shape),
            }
            for action in made.actions
        ],
        "outputs": [str(path) for path in made.outputs],
        "written": [output.receipt for output in written],
    }


def as_text(made: Plan, written: list[Output], *, tensors: bool) -> Iterator[Table | Text | str]:
    """Yield what a person wants to read."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, justify in (("model", "left"), ("share", "right"), ("batches", "right"), ("digest", "left")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for i, share, batches in zip(made.inputs, shares(made.weights), made.batches, strict=True):
        name = plain(i.name) + (f" ({i.file.copy})" if i.file.copy else "")
        name += "" if i.order is None else f", {i.order.share:.1%} of its channels in place"
        table.add_row(Text(name), f"{share:.1%}", count(batches), short(i.digest) if i.named_by_digest else "–")
    yield table
    kinds = Counter((action.role, action.rule) for action in made.actions)
    for (role, rule), number in kinds.items():
        yield Text(f"{count(number)} {role}{'s' if number > 1 else ''}: {plain(rule)}")
    if tensors:
        yield _tensors(made)
        yield f"reads {size(made.read_bytes)}, needs about {size(made.peak_bytes)} of memory"
        for path in made.outputs:
            yield Text(f"would write {path}")
    for output in written:
        yield Text(f"wrote {output.path} ({size(output.path.stat().st_size)}), model {short(output.digest)}")


def _tensors(made: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("tensor", "role", "merged", "kind"):
        table.add_column(title, no_wrap=True)
    for action in made.actions:
        table.add_row(Text(action.name), action.role, Text(action.rule), Text(str(action.spec)))
    return table
