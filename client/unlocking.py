"""The node's key while a SuperNode runs.

Flower reads it from a file and knows no passphrase: if it has one, Flower gets a pipe in place of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from client.site import Site
from protos import keyfiles


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
