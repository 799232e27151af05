"""Flower's programs, as both sides start them."""

import socket
import sys
from pathlib import Path

from protos import programs


def test_flowers_programs_are_found_beside_this_python_and_send_no_telemetry(tmp_path):
    found = programs.environment(tmp_path)
    assert found["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert found["FLWR_HOME"] == str(tmp_path)
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"


def test_a_free_port_can_be_listened_on():
    with socket.socket() as server:
        port = programs.free_port()
        server.bind(("127.0.0.1", port))
        assert not programs.listening(port)
        server.listen()
        assert programs.listening(port)
    assert not programs.listening(port)
