"""Light sites: many in one process, that speak to a real SuperLink by Flower's own client and answer as sites do.

What a SuperNode and a process per message add is left out: neither is of interest to the coordinator's side, and
64 of each would not fit on one machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message
from flwr.client.grpc_rere_client.connection import grpc_request_response
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.grpc import GRPC_MAX_MESSAGE_LENGTH
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.retry import make_simple_grpc_retry_invoker
from flwr.supercore.run import RunNotRunningException

from client.correspondence import reply
from client.site import Site

_LOOK = 1.0
"""Seconds between two looks for a message."""
_Send = Callable[[Message, ObjectTree, float], tuple[set[str], str]]
_Push = Callable[[int, str, str, bytes], None]
log = logging.getLogger("onebasin.light")


@contextmanager
def online(sites: Sequence[Site]) -> Iterator[None]:
    """Have sites connected, each with its own registered key, as long as the context lasts."""
    stop = threading.Event()
    threads = [threading.Thread(target=_serve, args=(site, stop), name=site.name, daemon=True) for site in sites]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30.0)


def _serve(site: Site, stop: threading.Event) -> None:
    private = load_ssh_private_key(site.node_key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    certificate = (site.folder / site.settings.superlink.root_certificates).read_bytes()
    with grpc_request_response(
        site.address,
        insecure=False,
        retry_invoker=make_simple_grpc_retry_invoker(),
        max_message_length=GRPC_MAX_MESSAGE_LENGTH,
        root_certificates=certificate,
        authentication_keys=(private, private.public_key()),
    ) as (node, receive, send, _, _, pull, push, confirm):
        while not stop.wait(_LOOK):
            try:
                while (received := receive()) is not None:
                    message, tree = received
                    run = message.metadata.run_id
                    asked = pull_and_inflate_object_from_tree(
                        tree, partial(pull, run), partial(confirm, run), return_type=Message
                    )
                    asked.metadata.__dict__["_message_id"] = tree.object_id
                    _answer(site, asked, node, send, push)
            except RunNotRunningException:  # nobody waits for this answer any more
                log.info("%s: the run is over", site.name)


def _answer(site: Site, asked: Message, node: int, send: _Send, push: _Push) -> None:
    started = time.monotonic()
    answer = Message(reply(site, asked.content, node), reply_to=asked)
    answer.metadata.__dict__["_message_id"] = answer.object_id
    with no_object_id_recompute():
        wanted, session = send(answer, get_object_tree(answer), time.monotonic() - started)
        push_objects(
            get_all_nested_objects(answer),
            partial(push, answer.metadata.run_id, session),
            object_ids_to_push=wanted,
        )
