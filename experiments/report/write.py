"""Write a report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from common.files import write_bytes, write_text
from common.run_folder import RunFolder
from experiments.report.document.report import Report, read_report, to_json
from experiments.report.pages.html import render_html
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.sections import draw_plots, list_plots
from experiments.report.pages.tables import render_csv


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json and everything made from it into a folder; return the paths, those of `render_report` last."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(RunFolder(folder).report, to_json(report)), *_write_pages(report, folder)]


def render_report(folder: Path) -> list[Path]:
    """Write everything but report.json again from the report.json in a folder, without data or model.

    Returns:
        the paths of report.html, sites.csv, summary.md, model_card.md, and plots/NAME.svg and .png.

    Raises:
        DataError: there is no report.json, or it is not a report.
    """
    return _write_pages(read_report(folder), folder)


def _write_pages(report: Report, folder: Path) -> list[Path]:
    files, plots = RunFolder(folder), draw_plots(report)
    contents: dict[Path, str | bytes] = {
        files.report_page: render_html(report, plots),
        files.sites_table: render_csv(report),
        files.summary: render_summary(report, plots),
        files.model_card: render_model_card(report),
    }
    for name, plot in plots.items():
        contents |= {files.plots / f"{name}.svg": plot.file, files.plots / f"{name}.png": plot.png}
    for name in list_plots():
        for kind in ("svg", "png"):
            if (path := files.plots / f"{name}.{kind}") not in contents:
                path.unlink(missing_ok=True)
    files.plots.mkdir(parents=True, exist_ok=True)
    return [
        write_text(path, content) if isinstance(content, str) else write_bytes(path, content)
        for path, content in contents.items()
    ]
