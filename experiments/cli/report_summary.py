"""The summary of a report in the terminal."""

from __future__ import annotations

from pathlib import Path


def print_summary(folder: Path) -> None:
    """Print a report's summary and its path."""
    from common.run_folder import RunFolder
    from experiments.cli.run_progress import open_console
    from experiments.report.document.report import read_report
    from experiments.report.pages.tables import render_terminal_summary

    console = open_console()
    console.print(render_terminal_summary(read_report(folder)))
    console.print(f"report: {RunFolder(folder).report_page}", soft_wrap=True, highlight=False)
