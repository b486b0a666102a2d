"""Write a report's files, each whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import DataError
from experiments.report.html import html
from experiments.report.model import Report, from_json, to_json
from experiments.report.tables import sites_csv


def write(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.html and sites.csv into `folder`; return their paths, in this order."""
    return [_place(folder / "report.json", to_json(report)), *_drawn(report, folder)]


def render(folder: Path) -> list[Path]:
    """Write report.html and sites.csv anew from the report.json in `folder`; return their paths.

    Raises:
        DataError: there is no report.json, or it is not a report.
    """
    source = folder / "report.json"
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"cannot read {source}: name the folder of a run that has a report") from None
    return _drawn(from_json(text), folder)


def _drawn(report: Report, folder: Path) -> list[Path]:
    page, table = html(report), sites_csv(report)
    return [_place(folder / "report.html", page), _place(folder / "sites.csv", table)]


def _place(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
