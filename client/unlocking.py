"""Keys under a passphrase, while a SuperNode runs: it is typed once and never written to a disk.

Flower reads the node's key from a file and knows no passphrase, so it gets a pipe in place of a file. The
processes that the SuperNode starts need the passphrase for the signing key; it stands in memory, in a file that
has no name on any disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from client.site import Site
from protos import keyfiles
from protos.errors import ConfigurationError


@contextmanager
def node_key(site: Site) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give a path under which a child can read the node's key, and the descriptors that it must inherit for that.

    Raises:
        ConfigurationError: The key is missing, can be read by others, or its passphrase is not to be had.

    """
    if not keyfiles.is_locked(site.node_key):
        keyfiles.owned(site.node_key)
        yield str(site.node_key), ()
        return
    content = site.readable_node_key()
    reading, writing = os.pipe()
    try:
        # A key has a few hundred bytes; a pipe takes thousands before anybody reads.
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)
        yield f"/dev/fd/{reading}", (reading,)
    finally:
        os.close(reading)


@contextmanager
def passphrase(site: Site) -> Iterator[dict[str, str]]:
    """Give the variables by which children find the passphrase; none if they need none or have it already.

    Raises:
        ConfigurationError: It is not to be had, or this system has no files without a name.

    """
    key = site.keys / "signing.pem"
    if keyfiles.PASSPHRASE_FILE in os.environ or not keyfiles.is_locked(key):
        yield {}
        return
    found = keyfiles.passphrase(key)
    if not hasattr(os, "memfd_create"):  # not on macOS
        raise ConfigurationError(
            "on this system a passphrase that was typed can't be handed on to the SuperNode",
            f"name a file that holds it: {keyfiles.PASSPHRASE_FILE}=FILE",
        )
    memory = os.memfd_create("onebasin")
    try:
        os.fchmod(memory, 0o600)
        os.write(memory, found)
        yield {keyfiles.PASSPHRASE_FILE: f"/proc/{os.getpid()}/fd/{memory}"}
    finally:
        os.close(memory)
