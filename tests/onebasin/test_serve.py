"""`onebasin coordinator serve`, as someone types it."""

from __future__ import annotations

import socket

from coordinator.page.serving import Server


def test_a_port_in_use_ends_with_3(world, onebasin):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = onebasin("coordinator", "serve", world.home.folder, "--port", port)
    assert code == 3
    assert f"can't listen on port {port} of 127.0.0.1" in err


def test_a_host_that_is_not_this_machine_ends_with_3(world, onebasin):
    code, _, err = onebasin("coordinator", "serve", world.home.folder, "--host", "192.0.2.1", "--port", 0)
    assert code == 3
    assert "of 192.0.2.1" in err


def test_a_folder_without_a_coordinator_ends_with_3(onebasin, tmp_path):
    code, _, err = onebasin("coordinator", "serve", tmp_path / "none")
    assert code == 3
    assert "there is no coordinator in" in err


def test_a_damaged_journal_ends_with_19(world, onebasin):
    for suffix in ("", "-wal", "-shm"):
        (world.home.folder / f"journal.db{suffix}").unlink(missing_ok=True)
    (world.home.folder / "journal.db").write_bytes(b"no database" * 1000)
    code, _, err = onebasin("coordinator", "serve", world.home.folder, "--port", 0)
    assert code == 19
    assert "is damaged" in err


def test_the_command_says_where_the_page_is_and_where_the_token_but_not_the_token(world, onebasin, monkeypatch):
    monkeypatch.setattr(Server, "run", lambda self: self._socket.close())
    code, out, _ = onebasin("coordinator", "serve", world.home.folder, "--port", 0)
    path = world.home.keys / "page.token"
    assert code == 0
    assert "http://127.0.0.1:" in out
    assert str(path) in out
    first = path.read_text().strip()
    assert first not in out
    onebasin("coordinator", "serve", world.home.folder, "--port", 0, "--new-token")
    assert path.read_text().strip() != first
