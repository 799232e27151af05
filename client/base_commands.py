"""``onebasin base``: the shared pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make the base: the weights that every site starts from.",
)


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the base (safetensors).")],
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.", show_default=False)] = None,
    images: Annotated[int, typer.Option(min=1, help="Labelled synthetic images.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Seed of scenes and training.")] = 0,
    model: Annotated[str, typer.Option(help="Architecture.")] = "tiny-resnet",
    cache: Annotated[
        bool, typer.Option(help="Take the same base from the cache, if it was trained before.")
    ] = True,
) -> None:
    """Train the base on labelled synthetic scenes."""
    from client import base

    recipe = base.recipe(model=model, steps=steps, images=images, seed=seed)

    def show(line: str) -> None:
        typer.echo(line)

    digest = base.make(recipe, output, cache=cache, say=show)
    typer.echo(f"base {digest.hex()}")
    typer.echo(f"written to {output}")
