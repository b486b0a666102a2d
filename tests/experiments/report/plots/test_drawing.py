"""The kit that every plot is drawn with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from experiments.report.build import build_report
from experiments.report.pages.sections import draw_plots
from experiments.report.plots import drawing

ROOT = Path(drawing.__file__).parents[3]


def test_one_module_imports_matplotlib() -> None:
    pattern = re.compile(r"^\s*(?:import|from) matplotlib", re.MULTILINE)
    folders = ("client", "common", "experiments", "server", "sites")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in paths if pattern.search(path.read_text(encoding="utf-8"))] == [Path(drawing.__file__)]


def test_every_colour_on_the_page_follows_its_theme(make_run: Callable[..., Path]) -> None:
    plots = draw_plots(build_report(make_run()))
    assert len(plots) >= 2
    for name, plot in plots.items():
        assert "var(--ink)" in plot.svg, name
        assert not re.findall(r"#[0-9a-f]{6}", plot.svg), name
        assert "var(--" not in plot.file
