"""The page of `wardround run --watch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from experiments.cli.run_progress import QuietPrinter
from experiments.watcher import Watcher


@contextmanager
def watch_if_wanted(printer: QuietPrinter, wanted: bool, port: int) -> Iterator[Watcher]:
    """Yield the watcher of a run: the printer, or one that also serves the page whose address is printed.

    Raises:
        EngineError: the page cannot be served.
    """
    if not wanted:
        yield printer
        return
    from experiments.live.watch import serve_live_page

    with serve_live_page(printer, port) as (page, address):
        typer.echo(f"watch the run: {address}", err=True)
        yield page
