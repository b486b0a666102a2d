"""The entry point of the `wardround` command: checks the installation, then loads the command line.

It imports next to nothing, so that Ctrl-C ends the command without a traceback as soon as Python itself has started.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

PACKAGES = ("common", "sites", "client", "server", "experiments")


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, _exit_at_once)
    _open_missing_streams()
    if problem := _find_missing_folder() or find_shadowed_package():
        sys.stderr.write(f"wardround: {problem}\n")
        sys.exit(2)
    from experiments.cli.main import main as run_command_line

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_command_line()
    except SystemExit as stop:
        if stop.code == 130:  # CPython may end by the signal itself if it interrupted an exec, as of a dataclass
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        raise
    finally:
        gc.freeze()  # the end of Python would search all objects several times, for more than a second after a run


def _open_missing_streams() -> None:
    """Open what the caller has closed, and let a terminal without a character show another in its place."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open until the process ends)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _find_missing_folder() -> str:
    """Return that the working folder is no longer there, as one line; "" if it is."""
    try:
        os.getcwd()
    except OSError:
        return "the working folder does not exist any more: change into another and run again"
    return ""


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    """End the process while it is still importing; nothing has been started that needs to be ended."""
    sys.stderr.write("wardround: stopped\n")
    sys.stderr.flush()
    os._exit(130)


def find_shadowed_package() -> str:
    """Return which other package Python would import in place of one of Wardround's, as one line; "" if none."""
    from importlib.util import find_spec
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = find_spec(name)
        locations = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        paths = [Path(location).resolve() for location in locations if location]
        own = root / name
        if not any(own in (path, path.parent) for path in paths):
            other = paths[0] if paths else "nothing"
            return (
                f"the package {name} that Python imports is {other}, not Wardround's {own}: remove it from PYTHONPATH "
                "or the working folder, or install Wardround in a separate environment"
            )
    return ""


if __name__ == "__main__":
    main()
