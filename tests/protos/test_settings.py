"""Settings are read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from protos import settings
from protos.errors import ConfigurationError


@dataclass(frozen=True)
class Inner:
    port: int = 7


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    on: bool = False
    label: str | None = None
    sizes: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Left:
    domain: str
    seed: int = 0


@dataclass(frozen=True)
class Right:
    source: Inner
    target: Inner | None = None
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigurationError(f"share = {self.share} is no share", "give 0 to 1")


@dataclass(frozen=True)
class Either:
    data: Left | Right


@pytest.fixture
def load(tmp_path):
    def read(text: str | bytes) -> Outer:
        path = tmp_path / "site.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return settings.load(path, Outer)

    return read


def test_values_tables_and_lists_are_read(load):
    found = load('name = "fog"\nrate = 2\non = true\nlabel = "x"\nsizes = [1, 2]\n[inner]\nport = 9\n')
    assert found == Outer("fog", 2.0, True, "x", (1, 2), Inner(9))
    assert isinstance(found.rate, float)


def test_what_has_a_default_may_be_left_out(load):
    assert load('name = "fog"\n') == Outer("fog")


def test_an_unknown_key_suggests_the_nearest_known_one(load):
    with pytest.raises(ConfigurationError, match=r"site\.toml: unknown key nmae") as caught:
        load('nmae = "fog"\n')
    assert caught.value.fix == "did you mean name?"


def test_an_unknown_key_in_a_table_names_the_table(load):
    with pytest.raises(ConfigurationError, match="inner: unknown key prot") as caught:
        load('name = "fog"\n[inner]\nprot = 9\n')
    assert "port" in caught.value.fix


def test_an_unknown_key_that_is_like_no_other_lists_what_is_known(load):
    with pytest.raises(ConfigurationError) as caught:
        load('name = "fog"\nzzzzzz = 1\n')
    assert caught.value.fix == "known here: name, rate, on, label, sizes, inner"


def test_a_missing_key_is_named(load):
    with pytest.raises(ConfigurationError, match="name is missing"):
        load("rate = 1.0\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rate = 'fast'", "rate is 'fast', it must be float"),
        ("rate = true", "rate is True, it must be float"),
        ("on = 1", "on is 1, it must be bool"),
        ("on = 'yes'", "on is 'yes', it must be bool"),
        ("sizes = 3", "sizes must be a list"),
        ("sizes = [1, 'two']", "sizes[1] is 'two', it must be int"),
        ("inner = 3", "inner must be a table"),
        ("inner = { port = 1.5 }", "inner: port is 1.5, it must be int"),
        ("inner = { port = true }", "inner: port is True, it must be int"),
        ("label = 3", "label is 3, it must be str or NoneType"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(load, line, said):
    with pytest.raises(ConfigurationError) as caught:
        load(f'name = "fog"\n{line}\n')
    assert said in caught.value.what


def test_a_number_for_a_name_is_refused(load):
    with pytest.raises(ConfigurationError, match="name is 3, it must be str"):
        load("name = 3\n")


@pytest.mark.parametrize("text", ["name = ", "name", b"\xff\xfe", 'name = "a"\nname = "b"'])
def test_a_file_that_is_no_toml_is_refused(load, text):
    with pytest.raises(ConfigurationError, match=r"site\.toml is no TOML"):
        load(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"can't read .*gone\.toml: No such file"):
        settings.load(tmp_path / "gone.toml", Outer)


def test_a_table_becomes_the_dataclass_that_knows_its_keys():
    read = lambda table: settings.parse({"data": table}, Either, "site.toml").data  # noqa: E731
    assert read({"domain": "fog"}) == Left("fog")
    assert read({"source": {"port": 1}}) == Right(Inner(1))
    assert read({"source": {}, "target": {}}) == Right(Inner(), Inner())


@pytest.mark.parametrize(
    ("table", "what", "fix"),
    [
        ({"sourc": {}}, "data: unknown key sourc", "did you mean source?"),
        ({"domian": "fog"}, "data: unknown key domian", "did you mean domain?"),
        ({"source": {}, "seed": 1, "share": 0.1}, "data: unknown key seed", "known here: source, target, share"),
        ({"source": 3}, "data: source must be a table", ""),
        ({"source": {}, "target": 3}, "data: target must be a table", ""),
        ({}, "data: domain is missing", "add it"),
        (3, "data must be a table", ""),
    ],
)
def test_mistakes_are_named_for_the_dataclass_that_was_meant(table, what, fix):
    with pytest.raises(ConfigurationError) as caught:
        settings.parse({"data": table}, Either, "site.toml")
    assert caught.value.what == f"site.toml: {what}"
    assert fix in caught.value.fix


def test_what_a_dataclass_refuses_is_said_with_the_file_and_the_table():
    with pytest.raises(ConfigurationError) as caught:
        settings.parse({"data": {"source": {}, "share": 2.0}}, Either, "site.toml")
    assert caught.value.what == "site.toml: data: share = 2.0 is no share"
    assert caught.value.fix == "give 0 to 1"


@dataclass(frozen=True)
class Free:
    ports: Mapping[str, Inner]
    names: Mapping[str, str] = field(default_factory=dict)


def test_a_table_may_have_keys_of_ones_own():
    found = settings.parse({"ports": {"a": {"port": 1}, "b": {}}, "names": {"x": "y"}}, Free, "it")
    assert found == Free({"a": Inner(1), "b": Inner()}, {"x": "y"})
    with pytest.raises(ConfigurationError, match=r"it: names must be a table"):
        settings.parse({"ports": {}, "names": []}, Free, "it")
    with pytest.raises(ConfigurationError, match=r"it: names\.x is 3, it must be str"):
        settings.parse({"ports": {}, "names": {"x": 3}}, Free, "it")
