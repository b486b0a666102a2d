"""Write a report's files, each whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.report.document.report import Report, read, to_json
from experiments.report.pages.html import html
from experiments.report.pages.markdown import summary
from experiments.report.pages.model_card import model_card
from experiments.report.pages.tables import sites_csv
from experiments.report.plots import PLOTS, every


def write(report: Report, folder: Path) -> list[Path]:
    """Write report.json and all that is made from it into `folder`; return the paths, in the order of `render`."""
    return [place(folder / "report.json", to_json(report)), *_drawn(report, folder)]


def render(folder: Path) -> list[Path]:
    """Write all but report.json anew from the report.json in `folder`, without data or the model; return the paths.

    They are report.html, sites.csv, summary.md, model_card.md, and plots/NAME.svg and .png.

    Raises:
        DataError: there is no report.json, or it is not a report.
    """
    return _drawn(read(folder), folder)


def _drawn(report: Report, folder: Path) -> list[Path]:
    plots = every(report)
    files: dict[str, str | bytes] = {
        "report.html": html(report, plots),
        "sites.csv": sites_csv(report),
        "summary.md": summary(report, plots),
        "model_card.md": model_card(report),
    }
    for name, plot in plots.items():
        files |= {f"plots/{name}.svg": plot.file, f"plots/{name}.png": plot.png}
    for name in PLOTS:
        for kind in ("svg", "png"):
            if f"plots/{name}.{kind}" not in files:
                (folder / "plots" / f"{name}.{kind}").unlink(missing_ok=True)
    return [place(folder / name, content) for name, content in files.items()]


def place(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
