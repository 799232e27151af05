"""The Flower ServerApp: runs one campaign, and writes down how it ended before it ends."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.strategy import OneShotMerge
from protos import faults
from protos.errors import OnebasinError
from protos.joining import join_once, one_at_a_time

CAMPAIGN_FOLDER = "campaign-folder"
"""The run configuration's key that says where the campaign is."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the campaign.

    Flower calls a run finished whatever its replies were, so the truth is in the journal: it is written
    first, and an error is raised again so that Flower's own status says so too.
    """
    logging.getLogger("onebasin").setLevel(logging.INFO)
    join_once()
    one_at_a_time(sys.modules[type(grid).__module__])
    path = Path(str(context.run_config[CAMPAIGN_FOLDER]))
    folder = CampaignFolder(Home.open(path.parent.parent), path)
    with folder.alone():
        try:
            OneShotMerge(folder).start(grid)
        except OnebasinError as error:
            _end(folder, error.exit_code, error.what, error.fix)
            raise
        except BaseException as error:
            what = f"the coordinator failed: {type(error).__name__}: {error}"
            _end(folder, 1, what, "the SuperLink's output says more")
            raise
        faults.point("outcome-before")
        folder.end(ok=True, exit_code=0)
        faults.point("outcome-after")


def _end(folder: CampaignFolder, exit_code: int, what: str, fix: str) -> None:
    """Write down a bad end; where that can't be done either, the reason of the end is worth more than that."""
    try:
        folder.end(ok=False, exit_code=exit_code, what=what, fix=fix)
    except OnebasinError as error:
        logging.getLogger("onebasin.coordinator").error("%s", error)
