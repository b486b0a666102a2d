"""The text that a command prints when the user stops it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.errors import StoppedError

if TYPE_CHECKING:
    from experiments.cli.run_progress import QuietPrinter


@contextmanager
def explain_interrupts(printer: QuietPrinter) -> Iterator[None]:
    """Run a block; where the user stops it, end with one line that says how to go on. The printer is closed.

    Raises:
        StoppedError: Ctrl-C or SIGTERM.
    """
    from common.processes import interrupt_on_signals

    try:
        with interrupt_on_signals():
            yield
    except KeyboardInterrupt as stop:
        notes = getattr(stop, "__notes__", ["what was done so far is in the run's folder"])
        raise StoppedError(f"stopped; {'; '.join(notes)}") from None
    finally:
        printer.close()
