"""``onebasin base``: the shared pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make the base: the weights that every site starts from.",
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Where to write the base (safetensors).")]
DataOption = Annotated[
    str,
    typer.Option(
        help="Labelled images to train on: LAYOUT:FOLDER, LAYOUT:FOLDER:SPLIT, or a folder with images/ and "
        "labels/. Not given: the built-in scenes.",
        show_default=False,
    ),
]
_SCENES = "Built-in scenes"
_IMAGES = "Labelled images (--data)"


@app.command()
def init(
    output: OutputOption,
    model: Annotated[str, typer.Option(help="Architecture, such as daformer-mitb5.")],
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint of ImageNet pretraining, such as mit_b5.pth or resnet101_v1c-e67eebb6.pth.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="How many classes it tells apart.")] = 19,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights that are random.")] = 0,
) -> None:
    """Make a base of an encoder that was pretrained on ImageNet, with a decode head of random weights.

    That is what DAFormer, HRDA and MIC start from: sites train the head while they adapt.
    """
    from client import base_making

    digest = base_making.from_encoder(output, model, encoder, classes, seed)
    if encoder is None:
        typer.echo("its encoder has random weights: name a pretrained one, if it isn't for a try (--encoder)")
    _say_written(output, digest)


@app.command()
def take(
    model_file: Annotated[Path, typer.Argument(help="A model file or checkpoint.", metavar="MODEL")],
    output: OutputOption,
    model: Annotated[str, typer.Option(help="Architecture, if the file doesn't say it.", show_default=False)] = "",
    copy: Annotated[
        str | None, typer.Option("--copy", help="Which copy to take: student or ema.", show_default=False)
    ] = None,
) -> None:
    """Make a base of a model that is there: an official checkpoint, or an earlier campaign's merged model."""
    from client import base_making

    _say_written(output, base_making.from_model(output, model_file, model, copy))


@app.command()
def train(
    output: OutputOption,
    data: DataOption = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training, and of scenes.")] = 0,
    images: Annotated[int, typer.Option(min=1, help="Labelled scenes.", rich_help_panel=_SCENES)] = 600,
    model: Annotated[str, typer.Option(help="Architecture.", rich_help_panel=_SCENES)] = "tiny-resnet",
    cache: Annotated[
        bool,
        typer.Option(help="Take the same base from the cache, if it was trained before.", rich_help_panel=_SCENES),
    ] = True,
    start: Annotated[
        Path | None,
        typer.Option(
            help="The base to start from; `onebasin base init` makes one.",
            show_default=False,
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    crop: Annotated[
        int, typer.Option(min=16, help="Pixels that a step sees of an image.", rich_help_panel=_IMAGES)
    ] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images for each step.", rich_help_panel=_IMAGES)] = 2,
    lr: Annotated[float, typer.Option(min=0, help="Peak learning rate of AdamW.", rich_help_panel=_IMAGES)] = 6e-5,
    precision: Annotated[str, typer.Option(help="32, bf16-mixed or 16-mixed.", rich_help_panel=_IMAGES)] = "32",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read images ahead.", rich_help_panel=_IMAGES)
    ] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_IMAGES)] = "auto",
) -> None:
    """Train a base on labelled images: on the built-in scenes, or from another base on folders of your own.

    On folders it keeps a checkpoint beside the output, and continues from it when the command is typed again.
    """
    from protos.errors import ConfigurationError

    if not data and start is None:
        from client import base

        recipe = base.recipe(model=model, steps=steps, images=images, seed=seed)
        _say_written(output, base.make(recipe, output, cache=cache, say=typer.echo))
        return
    if not data or start is None:
        raise ConfigurationError(
            "training on images of one's own needs the images and a base to start from",
            "give both --data and --start; without them the base is trained on the built-in scenes",
        )
    from client import base_making
    from client.data.named import image_folder
    from client.training.progress import spoken
    from client.training.settings import AdaptSettings

    numbers: dict[str, Any] = {
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "precision": precision,
        "tensorboard": False,
    }
    if steps is not None:
        numbers["steps"] = steps
    training = base_making.Training(
        image_folder(data), crop, workers, AdaptSettings(method="source", **numbers), device
    )
    _say_written(output, base_making.trained(output, start, training, spoken(typer.echo)))


def _say_written(output: Path, digest: bytes) -> None:
    typer.echo(f"base {digest.hex()}")
    typer.echo(f"written to {output}")
