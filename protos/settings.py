"""Reading TOML into frozen dataclasses, strictly: a key that nobody reads is a typing error, so it is refused."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from protos.errors import ConfigurationError

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a dataclass whose fields are values or dataclasses.

    Where a field may be one of several dataclasses, it becomes the one that knows most of the table's keys.
    A field that is a `Mapping` takes a table with any keys.

    Raises:
        ConfigurationError: The file is missing, no TOML, has an unknown key (with a suggestion), lacks one that
            has no default, or has a value of the wrong type or one that the dataclass refuses.

    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    return parse(table, kind, str(path))


def parse(table: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Read a table into a dataclass; see `load`."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(fields)}"
            raise ConfigurationError(f"{where}: unknown key {key}", hint)
        values[key] = _value(value, hints[key], f"{where}: {key}")
    for name, field in fields.items():
        missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if missing and name not in values:
            raise ConfigurationError(f"{where}: {name} is missing", "add it; it has no default")
    try:
        return kind(**values)
    except ConfigurationError as error:  # the dataclass's own checks don't know which file they serve
        raise ConfigurationError(f"{where}: {error.what}", error.fix) from error


def _fit(table: Mapping[str, Any], kind: Any) -> tuple[int, int]:
    """Tell how well a table fits one of several dataclasses: keys that it knows, then keys that are like one."""
    known = [field.name for field in dataclasses.fields(kind)]
    return len(table.keys() & set(known)), sum(bool(difflib.get_close_matches(key, known, n=1)) for key in table)


def _value(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where} must be a table")
        inner = typing.get_args(hint)[1]
        return {key: _value(item, inner, f"{where}.{key}") for key, item in value.items()}
    tables = [k for k in (typing.get_args(hint) or (hint,)) if dataclasses.is_dataclass(k)]
    if tables and typing.get_origin(hint) is not tuple:
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where} must be a table")
        return parse(value, max(tables, key=lambda kind: _fit(value, kind)), where)  # type: ignore[arg-type]
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} must be a list")
        inner = typing.get_args(hint)[0]
        return tuple(_value(item, inner, f"{where}[{i}]") for i, item in enumerate(value))
    wanted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in wanted and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in wanted)
        raise ConfigurationError(f"{where} is {value!r}, it must be {names}")
    return value
