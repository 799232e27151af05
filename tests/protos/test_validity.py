"""How long certificates still hold."""

from __future__ import annotations

import datetime

import pytest

from coordinator import certificates
from protos import validity
from protos.errors import ConfigurationError

DAY = datetime.timedelta(days=1)


@pytest.fixture
def server(tmp_path):
    certificates.make(tmp_path, ["localhost"])
    return tmp_path / "server.pem"


@pytest.mark.parametrize(
    ("days", "said"), [(0, ""), (330, ""), (336, "expires in 29 days"), (364, "expires in"), (366, "expired on")]
)
def test_a_certificate_is_warned_of_thirty_days_ahead(server, days, said):
    (found,) = validity.certificates(server)
    text = validity.problem(found, found.not_valid_before_utc + days * DAY)
    assert text.startswith(said)
    assert bool(text) == bool(said)


def test_a_clock_that_is_late_is_suspected(server):
    (found,) = validity.certificates(server)
    assert "is this machine's clock right?" in validity.problem(found, found.not_valid_before_utc - DAY)


def test_a_file_is_fine_as_long_as_one_of_its_certificates_holds(server, monkeypatch):
    assert validity.warning(server, "renew it") == ""
    monkeypatch.setattr(validity, "DAYS", 400)
    assert validity.warning(server, "renew it").endswith("; renew it")
    ca = server.with_name("ca.crt")  # holds for ten years
    both = server.with_name("both.pem")
    both.write_bytes(server.read_bytes() + ca.read_bytes())
    assert validity.warning(both, "renew it") == ""


def test_what_is_no_certificate_is_named(tmp_path):
    (tmp_path / "x.pem").write_text("hello")
    for name, said in (("x.pem", "is no certificate"), ("y.pem", "can't read")):
        with pytest.raises(ConfigurationError, match=said):
            validity.warning(tmp_path / name, "")
