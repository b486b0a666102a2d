"""Write a report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from common.files import write_bytes, write_text
from experiments.report.document.report import Report, read_report, to_json
from experiments.report.pages.html import render_html
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.sections import draw_plots, list_plots
from experiments.report.pages.tables import render_csv


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json and everything made from it into a folder; return the paths, those of `render_report` last."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder / "report.json", to_json(report)), *_write_pages(report, folder)]


def render_report(folder: Path) -> list[Path]:
    """Write everything but report.json again from the report.json in a folder, without data or model.

    Returns:
        the paths of report.html, sites.csv, summary.md, model_card.md, and plots/NAME.svg and .png.

    Raises:
        DataError: there is no report.json, or it is not a report.
    """
    return _write_pages(read_report(folder), folder)


def _write_pages(report: Report, folder: Path) -> list[Path]:
    plots = draw_plots(report)
    files: dict[str, str | bytes] = {
        "report.html": render_html(report, plots),
        "sites.csv": render_csv(report),
        "summary.md": render_summary(report, plots),
        "model_card.md": render_model_card(report),
    }
    for name, plot in plots.items():
        files |= {f"plots/{name}.svg": plot.file, f"plots/{name}.png": plot.png}
    for name in list_plots():
        for kind in ("svg", "png"):
            if f"plots/{name}.{kind}" not in files:
                (folder / "plots" / f"{name}.{kind}").unlink(missing_ok=True)
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    return [
        write_text(folder / name, content) if isinstance(content, str) else write_bytes(folder / name, content)
        for name, content in files.items()
    ]
