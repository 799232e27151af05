"""The configuration reference says what the code says."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from client.settings import SiteSettings
from client.site import Site
from coordinator.settings import CoordinatorSettings
from protos.rules import Rules

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("configuration_tool", DOCS / "tools" / "configuration.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_is_what_the_code_says_today(tool):
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == tool.page(), "run `make docs` and commit it"


def test_every_key_of_every_table_has_its_row(tool):
    page, kinds = tool.page(), [SiteSettings, CoordinatorSettings, Rules]
    while kinds:
        kind = kinds.pop()
        described = tool.described(kind)
        hints = tool.typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            assert described[field.name], f"{kind.__name__}.{field.name}"
            inner = tool._inner(hints[field.name])
            kinds += inner
            assert inner or f"| `{field.name}` |" in page, f"{kind.__name__}.{field.name}"


def test_a_key_without_a_docstring_or_a_unit_is_an_error(tool):
    with pytest.raises(SystemExit, match=r"Dumb\.speed has no docstring"):
        list(tool.keys(Dumb))
    with pytest.raises(SystemExit, match=r"Unitless\.speed is a number in no known unit"):
        list(tool.keys(Unitless))


@dataclasses.dataclass
class Dumb:
    speed: int = 3


@dataclasses.dataclass
class Unitless:
    speed: int = 3
    """How fast."""


def test_a_new_sites_file_has_no_key_that_the_page_lacks(tool, tmp_path):
    import tomllib

    made = Site.init(tmp_path / "north", "north", address="x:1", domain="night")
    page = tool.page()
    for key, value in tomllib.loads(made.settings_path.read_text()).items():
        for name in value if isinstance(value, dict) else [key]:
            assert f"| `{name}` |" in page
