"""The wall: the two sides know the ground floor and not each other."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protos.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
HOUSE = {"protos", "coordinator", "client", "onebasin"}
MAY_IMPORT = {
    "protos": {"protos"},
    "coordinator": {"coordinator", "protos"},
    "client": {"client", "protos"},
    "onebasin": HOUSE,
}


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, at any depth of its code; relative ones are its own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            found.add("a module by name")
    return found


def sources(package: str) -> list[Path]:
    # The bundle is what Flower ships: one stub for each side, outside of both.
    return [path for path in (ROOT / package).rglob("*.py") if "bundle" not in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("package", sorted(HOUSE))
def test_a_package_imports_only_what_it_may(package):
    files = sources(package)
    assert files
    forbidden = HOUSE - MAY_IMPORT[package] | {"a module by name"}
    wrong = {str(path.relative_to(ROOT)): bad for path in files if (bad := imports(path) & forbidden)}
    assert not wrong


def test_only_the_front_door_knows_both_sides():
    both = {"coordinator", "client"}
    knowing = {package for package in HOUSE if both <= set().union(*map(imports, sources(package)))}
    assert knowing == {"onebasin"}


def test_the_bundle_is_a_stub_for_each_side():
    stubs = [path for path in (ROOT / "coordinator" / "bundle").rglob("*.py") if path.name != "__init__.py"]
    assert stubs
    for path in stubs:
        assert len(imports(path) & {"coordinator", "client"}) == 1
        assert len(path.read_text().splitlines()) < 20


def test_an_import_that_breaks_the_wall_would_be_found(tmp_path):
    for line in ("import client.site", "def f():\n    from client import site", "from client.site import Site"):
        (tmp_path / "bad.py").write_text(line)
        assert "client" in imports(tmp_path / "bad.py")


def loaded(code: str) -> set[str]:
    """Run code in a fresh process and return the top-level modules that are loaded at its end."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", ["client.client_app", "coordinator.server_app"])
def test_flowers_apps_start_without_loading_pytorch(module):
    found = loaded(f"import {module}")
    assert "flwr" in found
    assert not found & {"torch", "cv2", "matplotlib"}


@pytest.mark.parametrize("arguments", [["--help"], ["site", "--help"], ["coordinator", "run", "--help"]])
def test_help_loads_neither_pytorch_nor_flower(arguments):
    code = (
        f"import onebasin.cli\nsys.argv = ['onebasin', *{arguments!r}]\n"
        "try:\n    onebasin.cli.main()\nexcept SystemExit:\n    pass"
    )
    assert not loaded(code) & {"torch", "flwr", "grpc", "numpy"}


WITHOUT_SITES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "cv2", "lightning_fabric", "tensorboard"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
"""Makes a process one of a machine where only what a coordinator needs is installed."""


def test_a_coordinator_needs_nothing_that_only_sites_need():
    code = (
        f"{WITHOUT_SITES}\n"
        "import importlib, pkgutil, coordinator, protos\n"
        "for room in (coordinator, protos):\n"
        "    for found in pkgutil.walk_packages(room.__path__, f'{room.__name__}.'):\n"
        "        importlib.import_module(found.name)\n"
        "for name in ('cli', 'region', 'region_command', 'audit_command'):\n"
        "    importlib.import_module(f'onebasin.{name}')\n"
    )
    assert {"coordinator", "flwr", "numpy"} <= loaded(code)


@pytest.mark.parametrize("words", [["base", "init", "-o", "b", "--model", "tiny-resnet"], ["demo", "--quick"]])
def test_what_a_site_needs_is_named_where_it_is_missing(tmp_path, words):
    code = f"{WITHOUT_SITES}\nimport onebasin.cli\nsys.argv = ['onebasin', *{words!r}]\nonebasin.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == ConfigurationError.exit_code, done.stderr
    assert re.search("this needs the package (torch|cv2), which is not installed here", done.stderr)
    assert "pip install 'onebasin[site]'" in done.stderr
    assert "Traceback" not in done.stderr
