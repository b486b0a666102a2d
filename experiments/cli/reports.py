"""`wardround reports`: a page that lists all runs of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import DataError


def reports_command(
    folder: Annotated[Path, typer.Argument(help="The folder of run folders.")] = Path("runs"),
) -> None:
    """List the runs of a folder on a page: question, hospitals, figures, date, privacy; compare two of them."""
    from experiments.report.pages.run_index import write_run_index

    try:
        page, problems = write_run_index(folder)
    except OSError as error:
        raise DataError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    for problem in problems:
        typer.echo(f"not listed: {problem}", err=True)
    typer.echo(page)
