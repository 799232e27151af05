"""The configuration reference, written from the dataclasses that read the settings.

    python docs/tools/configuration.py            # writes docs/configuration.md; `make docs` does it

A key's meaning is its docstring in the code, its type and default are the code's own. What the code can't say is
in which unit a number is: a name that ends in one says it, `UNITS` says the others, and a number without either
is an error here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import typer.main

from client.data.layouts import LAYOUTS
from client.data.scenes import DOMAINS
from client.settings import SiteSettings
from client.training.presets import MEMORY, METHODS
from coordinator.settings import CoordinatorSettings
from onebasin import cli
from protos import keyfiles
from protos.rules import AT_DEADLINE, BUFFERS, PRIVACY, Rules

PAGE = Path(__file__).parents[1] / "configuration.md"

NONE = "–"
SHARE = "0…1"
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("steps", "warmup", "checkpoint_every"), "steps"),
    **dict.fromkeys(("height", "width", "crop", "mask_block"), "pixels"),
    **dict.fromkeys(("source_images", "target_images", "evaluation_images", "batch"), "images"),
    **dict.fromkeys(("jitter", "source_jitter", "jitter_share", "blur_share", "mix", "ema", "threshold"), SHARE),
    **dict.fromkeys(("feature_ratio", "mask_ratio"), SHARE),
    **dict.fromkeys(("fewest_sites", "minimum_sites", "most_sites"), "sites"),
    **dict.fromkeys(("lr", "head_lr", "weight_decay", "clip", "mixed", "feature_distance", "masked"), NONE),
    **dict.fromkeys(("entropy", "temperature", "seed", "min_crop_ratio"), NONE),
    "accumulate": "batches",
    "at_once": "parts",
    "control_port": "port",
    "devices": "GPUs",
    "feature_classes": "train ids",
    "min_pixels": "pixels",
    "resize": "pixels",
    "threads": "threads",
    "workers": "processes",
}
"""In which unit a number is, by its key; `NONE` for one that has none."""
_ENDINGS = {"_seconds": "seconds", "_mebibytes": "MiB"}
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false"}

_HEAD = """\
# Configuration

Every key of every file, as the code reads it. **Made by `make docs`: don't edit it.** What stands in a docstring
of the code stands here; a test compares this page with the code.

Files are TOML. An unknown key is an error that names the nearest known one, and so is a value of another type.
Relative paths start at the folder of the file.

- [`site.toml`](#sitetoml): a site's own; nothing in it leaves the site but its name
- [`coordinator.toml`](#coordinatortoml): the coordinator's
- [rules of a campaign](#rules-of-a-campaign): options of `onebasin coordinator create`, for good
- [environment](#environment)
"""
_RULES = """\
They are no file: the coordinator's operator gives them as options of `onebasin coordinator create`, they are part
of the campaign's digest, and each site sees them in plain words before it accepts (`onebasin site show`).
"""
_ENVIRONMENT = f"""\
## Environment

| variable | meaning |
|---|---|
| `{keyfiles.PASSPHRASE_FILE}` | A file with the passphrase of the keys, instead of a prompt; the same as \
`--passphrase-file` after `onebasin site` or `onebasin coordinator`. |
| `XDG_CACHE_HOME` | Where bases that were trained are kept, in `onebasin/bases`; `~/.cache` if it is not set. |
| `MLFLOW_TRACKING_USERNAME`, `MLFLOW_TRACKING_PASSWORD`, `MLFLOW_TRACKING_TOKEN` | What MLflow's server \
asks for, if `[tracking]` names one. |
"""


@dataclasses.dataclass(frozen=True)
class Key:
    """A setting.

    Attributes:
        name: As it is written.
        kind: Its type, in words.
        default: As TOML has it, or that it is required.
        unit: Of a number.
        meaning: In one paragraph.

    """

    name: str
    kind: str
    default: str
    unit: str
    meaning: str

    def row(self) -> str:
        """Return a row of a table."""
        cells = (f"`{self.name}`", self.kind, self.default, self.unit, self.meaning.replace("|", "\\|"))
        return f"| {' | '.join(cells)} |"


def page() -> str:
    """Return the page."""
    parts = [_HEAD, "## `site.toml`\n", *_tables("", SiteSettings)]
    parts += ["### What the presets stand for\n", _presets()]
    parts += ["## `coordinator.toml`\n", *_tables("", CoordinatorSettings)]
    parts += ["## Rules of a campaign\n", _RULES, _rules(), _ENVIRONMENT]
    return "\n".join(parts)


def keys(kind: type) -> Iterator[Key]:
    """Yield the keys of a table that are values.

    Raises:
        SystemExit: One has no docstring, or a number has no unit.

    """
    meanings, hints = described(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if _inner(hints[field.name]):
            continue
        if field.name not in meanings:
            sys.exit(f"{kind.__name__}.{field.name} has no docstring: say what it means")
        yield Key(
            field.name,
            _kind(hints[field.name]),
            _default(field),
            _unit(field.name, hints[field.name], kind),
            meanings[field.name],
        )


def described(kind: type) -> dict[str, str]:
    """Return what a dataclass says of its fields: below each, or under "Attributes" in its own docstring."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found, name = {}, ""
    for part in tree.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name = part.target.id
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and name:
            found[name], name = _plain(str(part.value.value)), ""
    section = re.search(r"^Attributes:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(kind) or "", re.DOTALL | re.MULTILINE)
    listed = section.group(1) if section else ""
    for match in re.finditer(r"^    (\w+): (.*?)(?=^    \w|\Z)", listed, re.DOTALL | re.MULTILINE):
        found.setdefault(match.group(1), _plain(match.group(2)))
    return found


def _tables(path: str, kind: type) -> Iterator[str]:
    """Yield a table of settings, and those below it; tables of one kind side by side are one."""
    rows = [key.row() for key in keys(kind)]
    if rows:
        yield "\n".join(["| key | type | default | unit | meaning |", "|---|---|---|---|---|", *rows, ""])
    meanings, hints = described(kind), typing.get_type_hints(kind)
    beside: dict[type, list[str]] = {}
    for field in dataclasses.fields(kind):
        for inner in _inner(hints[field.name]):
            beside.setdefault(inner, []).append(field.name)
    for inner, names in beside.items():
        below = [f"{path}.{name}" if path else name for name in names]
        yield f"### {', '.join(f'`[{one}]`' for one in below)}{_VARIANTS.get(inner.__name__, '')}\n"
        if len(names) > 1:
            yield "\n".join(f"- `{one}`: {meanings[name]}" for one, name in zip(below, names, strict=True)) + "\n"
        yield f"{_summary(inner)}\n"
        yield from _tables(below[0], inner)


_VARIANTS = {"SceneData": ", built-in scenes", "FolderData": ", folders of images"}
"""What tells tables of one name apart."""


def _summary(kind: type) -> str:
    """Return the first paragraph of a class's docstring."""
    return _plain((inspect.getdoc(kind) or "").split("\n\n")[0])


def _inner(hint: Any) -> list[type]:
    """Return the dataclasses that a field may be."""
    return [kind for kind in (typing.get_args(hint) or (hint,)) if dataclasses.is_dataclass(kind)]


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return {int: "list of whole numbers", str: "list of texts"}[typing.get_args(hint)[0]]
    if isinstance(hint, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    return _TYPES[hint]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None:
        return "by `method`"
    return f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _unit(name: str, hint: Any, kind: type) -> str:
    numbers = {int, float}
    if hint not in numbers and not numbers & set(typing.get_args(hint)):
        return NONE
    for ending, unit in _ENDINGS.items():
        if name.endswith(ending):
            return unit
    if name not in UNITS:
        sys.exit(f"{kind.__name__}.{name} is a number in no known unit: add it to UNITS in {Path(__file__).name}")
    return UNITS[name]


KNOWN: Mapping[str, Iterable[str]] = {
    "client.data.scenes.DOMAINS": DOMAINS,
    "client.data.layouts.LAYOUTS": LAYOUTS,
    "presets.METHODS": METHODS,
    "presets.MEMORY": MEMORY,
    "BUFFERS": BUFFERS,
    "PRIVACY": PRIVACY,
    "AT_DEADLINE": AT_DEADLINE,
}
"""What docstrings name by the table that holds it."""


def _plain(text: str) -> str:
    """Return a docstring as one line of Markdown, with names of the code's tables replaced by what they hold."""
    text = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    for name, found in KNOWN.items():
        values = ", ".join(f"`{value}`" for value in found)
        text = re.sub(rf"\b(A|a|One|one) (?:key |preset )?of `{re.escape(name)}`", rf"\1 of {values}", text)
    return re.sub(r"\b([Aa]) of `", lambda found: f"{'One' if found[1] == 'A' else 'one'} of `", text)


def _presets() -> str:
    """Return the methods' numbers, those that differ as a table, and what the presets for memory change."""
    names = list(next(iter(METHODS.values())))
    differing = [name for name in names if len({repr(found[name]) for found in METHODS.values()}) > 1]
    rows = [f"| `{name}` | {' | '.join(_toml(found[name]) for found in METHODS.values())} |" for name in differing]
    same = [f"`{name} = {_toml(next(iter(METHODS.values()))[name])}`" for name in names if name not in differing]
    changes = [
        f"- `memory = {_toml(name)}`: {', '.join(f'`{key} = {_toml(value)}`' for key, value in found.items())}"
        for name, found in MEMORY.items()
    ]
    head = f"| `method` | {' | '.join(f'`{_toml(name)}`' for name in METHODS)} |"
    said = ["", f"The same in all: {', '.join(same)}.", "", "A preset for memory changes:", ""]
    return "\n".join([head, "|---" * (len(METHODS) + 1) + "|", *rows, *said, *changes, ""])


def _rules() -> str:
    """Return the rules, each with the option that sets it."""
    rows = [
        f"| `{key.name}` | {_option(key.name)} | {key.kind} | {key.default} | {key.unit} | {key.meaning} |"
        for key in keys(Rules)
    ]
    return "\n".join(
        ["| rule | option | type | default | unit | meaning |", "|---|---|---|---|---|---|", *rows, ""]
    )


OPTIONS = {"deadline_seconds": "--deadline", "patience_seconds": "--patience", "required": "--require"}
"""Rules whose option has another name."""
NO_OPTION = frozenset({"code_digest"})
"""Rules that nobody chooses."""


def _option(rule: str) -> str:
    """Return the option of `onebasin coordinator create` that sets a rule."""
    if rule in NO_OPTION:
        return NONE
    option = OPTIONS.get(rule, f"--{rule.replace('_', '-')}")
    if option not in _options("coordinator", "create"):
        sys.exit(
            f"no option of `onebasin coordinator create` sets the rule {rule}: name it in OPTIONS or NO_OPTION"
        )
    return f"`{option}`"


def _options(*path: str) -> set[str]:
    """Return a command's options."""
    command: click.Command = typer.main.get_command(cli.app)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return {option for parameter in command.params for option in parameter.opts}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
