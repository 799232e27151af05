"""One round of Flower's FedAvg, as its documentation shows it."""

import json
import time
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from safetensors.torch import load_file, save_file

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Average once and write the result."""
    sites = int(context.run_config["sites"])
    while len(list(grid.get_node_ids())) < sites:
        time.sleep(0.2)
    started = time.time()
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    initial = ArrayRecord(load_file(str(context.run_config["base"])))
    result = strategy.start(grid, initial, num_rounds=1)
    output = Path(str(context.run_config["output"]))
    save_file(result.arrays.to_torch_state_dict(), output)
    output.with_suffix(".json").write_text(json.dumps({"seconds": time.time() - started}))
