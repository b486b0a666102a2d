"""Small multiples: on the page each panel is a drawing of its own, at a size that can be read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from experiments.report.document.run import Notice
from experiments.report.pages.sections import list_plots
from experiments.report.plots.tiles import COLUMNS, TILE
from tests.experiments.report.plots.test_calibration import BEATS, EVENT, make_report

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [f"ward-{n}" for n in range(1, 8)]


def read_tiles(page: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(f'<page xmlns:xlink="http://www.w3.org/1999/xlink">{page}</page>')
    return root.findall("ul[@class='multiples']/li/svg")


@pytest.mark.parametrize("name", ["reliability", "decision"])
def test_each_panel_is_an_svg_of_its_own_with_its_own_axes(name: str) -> None:
    report, _ = make_report(EVENT, dict.fromkeys(NAMES, 6))
    plot = list_plots()[name](report)
    assert plot is not None
    tiles = read_tiles(plot.page)
    assert len(tiles) == len(NAMES) + 1
    corners = set()
    for tile, title in zip(tiles, ["all hospitals", *NAMES], strict=True):
        x, y, width, height = map(float, tile.attrib["viewBox"].split())
        texts = ["".join(item.itertext()) for item in tile.iter("text")]
        assert title in texts
        assert sum("probability" in text for text in texts) == 1, "every panel names its axis"
        assert f": {title}: " in tile.attrib["aria-label"]
        assert (width, height) == pytest.approx((72 * TILE[0], 72 * TILE[1]))
        corners.add((x, y))
        for item in tile.iter("text"):  # what belongs to a panel lies in its window
            at = re.search(r"translate\(([\d.]+) ([\d.]+)\)", item.attrib.get("transform", ""))
            if at:
                assert x <= float(at[1]) <= x + width
                assert y <= float(at[2]) <= y + height
    assert len(corners) == len(tiles)
    assert len({x for x, _ in corners}) == COLUMNS
    identifiers = re.findall(r'\bid="([^"]+)"', plot.page)
    assert len(identifiers) == len(set(identifiers))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', plot.page))
    assert used <= set(identifiers), "every part that a panel refers to is on the page"
    assert "examples grouped by score" in plot.page or "treat by the model" in plot.page


def test_each_panel_carries_the_notices_and_its_text_is_readable_in_print() -> None:
    notice = Notice(level="synthetic", text="SYNTHETIC patients.")
    report, _ = make_report(BEATS, {"north": 9, "south": 6}, notices=(notice,))
    for name in ("reliability", "reliability_sites", "scores"):
        plot = list_plots()[name](report)
        assert plot is not None
        tiles = read_tiles(plot.page)
        assert len(tiles) == (2 if name == "reliability_sites" else 3)
        for tile in tiles:
            assert [item.text for item in tile.iter("text") if item.get("class") == "mark"] == ["SYNTHETIC"]
            width = float(tile.attrib["viewBox"].split()[2])
            sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", ElementTree.tostring(tile).decode())]
            # paper of 182 mm holds three panels side by side; 6 points are the smallest print that is read with ease
            assert sizes
            assert min(sizes) * (182 / 3 - 4) / 25.4 * 72 / width >= 6


def test_a_single_panel_is_shown_as_it_is_drawn() -> None:
    report, _ = make_report(EVENT, {"north": 9, "south": 6})
    plot = list_plots()["scores"](report)
    assert plot is not None
    assert plot.page == ""
