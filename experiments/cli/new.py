"""`wardround new`: a package of one's own with a working plug-in and its test."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """Kinds of plug-ins."""

    data = "data"
    model = "model"
    strategy = "strategy"
    metric = "metric"


def new_command(
    kind: Annotated[Kind, typer.Argument(help="What to write.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Its name in a configuration.", show_default=False)],
    into: Annotated[Path, typer.Option("--into", help="The folder in which its folder is made.")] = Path(),
) -> None:
    """Write a package of your own with a working data set, model, strategy or metric, and its test."""
    from experiments.new_code.create import create_package

    paths = create_package(kind.value, name, into)
    for path in paths:
        typer.echo(f"written: {path}")
    what = "data set" if kind is Kind.data else kind.value
    typer.echo(f"next:    pytest {paths[0].parent}              # what every {what} must do")
    typer.echo(f"         pip install -e {paths[0].parent}      # then {name} is a {what} of this installation")
