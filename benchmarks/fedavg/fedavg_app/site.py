"""Sends a model that lies on the disk."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from safetensors.torch import load_file

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Reply with the site's model."""
    arrays = ArrayRecord(load_file(str(context.node_config["model"])))
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
