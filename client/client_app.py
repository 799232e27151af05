"""The Flower ClientApp: hands each message to `correspondence` and sends what comes back.

Flower runs it in a new process for every message, so it imports nothing heavy until a message needs it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.correspondence import reply, unanswered
from client.site import Site
from protos import logs
from protos import messages_pb2 as pb

SITE_FOLDER = "site-folder"
"""The node configuration's key that says where the site's folder is."""

app = ClientApp()


@app.query()
@app.train()
@app.evaluate()
def handle(message: Message, context: Context) -> Message:
    """Answer any message of a campaign."""
    try:
        site = Site.open(Path(str(context.node_config[SITE_FOLDER])))
        _log_to(site)
        content = reply(site, message.content, context.node_id)
    except Exception as error:  # whatever Flower caught, it would send on with its text
        logging.getLogger("onebasin.site").error("can't answer: %s", error)
        content = unanswered(pb.Refusal.REASON_CONFIGURATION)
    return Message(content, reply_to=message)


def _log_to(site: Site) -> None:
    handler = logging.FileHandler(site.folder / "site.log")
    handler.setFormatter(logs.formatter())
    logs.about(site=site.name)
    logger = logging.getLogger("onebasin.site")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
