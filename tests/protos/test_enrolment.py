"""A site's request to take part."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from protos.enrolment import Request
from protos.errors import ConfigurationError

NODE_KEY = "ecdsa-sha2-nistp384 AAAAE2VjZHNh"
REQUEST = Request("fog", b"k" * 32, b"a" * 32, NODE_KEY)


def written(path, **changes):
    REQUEST.write(path)
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def test_a_request_survives_its_file(tmp_path):
    REQUEST.write(tmp_path / "request.json")
    assert Request.read(tmp_path / "request.json") == REQUEST


def test_the_file_holds_three_public_keys_and_a_name_and_nothing_else(tmp_path):
    REQUEST.write(tmp_path / "request.json")
    assert json.loads((tmp_path / "request.json").read_text()).keys() == {
        "format",
        "site",
        "signing_key",
        "agreement_key",
        "node_key",
    }


def test_the_fingerprint_covers_all_keys():
    changes = [{"signing_key": b"x" * 32}, {"agreement_key": b"x" * 32}, {"node_key": NODE_KEY + "A"}]
    others = [replace(REQUEST, **change) for change in changes]
    assert len({request.fingerprint for request in (REQUEST, *others)}) == 4
    assert replace(REQUEST, site="night").fingerprint == REQUEST.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"format": "onebasin-request/2"},
        {"format": None},
        {"site": None},
        {"signing_key": None},
        {"signing_key": "00"},
        {"signing_key": "zz" * 32},
        {"signing_key": 7},
        {"agreement_key": None},
        {"agreement_key": "00"},
        {"agreement_key": "zz" * 32},
        {"agreement_key": 7},
        {"node_key": None},
        {"node_key": "ssh-rsa AAAA"},
        {"node_key": NODE_KEY + "\necdsa-sha2-nistp384 BBBB"},
        {"node_key": ""},
    ],
)
def test_a_request_that_is_none_is_refused(tmp_path, change):
    with pytest.raises(ConfigurationError, match="is not a site's request file"):
        Request.read(written(tmp_path / "request.json", **change))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"7", b"null", b"\xff\xfe\x00", b'{"format": ["onebasin-request/1"]}']
)
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "request.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is not a site's request file"):
        Request.read(tmp_path / "request.json")


def test_a_name_that_is_a_path_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="can't be the name of a site"):
        Request.read(written(tmp_path / "request.json", site="../../etc"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="can't read the request"):
        Request.read(tmp_path / "request.json")
