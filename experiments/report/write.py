"""Write a report's files, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from common.files import write_bytes, write_text
from experiments.report.document.report import Report, read_report, to_json
from experiments.report.pages.html import render_html
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.tables import render_csv
from experiments.report.plots import PLOTS, draw_plots


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json and all that is made from it into `folder`; return the paths, in the order of `render`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder / "report.json", to_json(report)), *_drawn(report, folder)]


def render_report(folder: Path) -> list[Path]:
    """Write all but report.json anew from the report.json in `folder`, without data or the model; return the paths.

    They are report.html, sites.csv, summary.md, model_card.md, and plots/NAME.svg and .png.

    Raises:
        DataError: there is no report.json, or it is not a report.
    """
    return _drawn(read_report(folder), folder)


def _drawn(report: Report, folder: Path) -> list[Path]:
    plots = draw_plots(report)
    files: dict[str, str | bytes] = {
        "report.html": render_html(report, plots),
        "sites.csv": render_csv(report),
        "summary.md": render_summary(report, plots),
        "model_card.md": render_model_card(report),
    }
    for name, plot in plots.items():
        files |= {f"plots/{name}.svg": plot.file, f"plots/{name}.png": plot.png}
    for name in PLOTS:
        for kind in ("svg", "png"):
            if f"plots/{name}.{kind}" not in files:
                (folder / "plots" / f"{name}.{kind}").unlink(missing_ok=True)
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    return [
        write_text(folder / name, content) if isinstance(content, str) else write_bytes(folder / name, content)
        for name, content in files.items()
    ]
