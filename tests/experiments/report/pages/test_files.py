from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import image

from common.metrics.figures import Figure
from experiments.report.build import build_report
from experiments.report.document.results import GroupGap, Subset
from experiments.report.document.run import SplitCounts
from experiments.report.pages.markdown import escape_markdown, render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.sections import draw_plots
from experiments.report.plots.drawing import read_light_colours
from experiments.report.text import formatting

SVG = "{http://www.w3.org/2000/svg}"


def test_light_colours_are_the_pages() -> None:
    assert read_light_colours()["federated"] == "#0072b2"  # Okabe and Ito's blue
    assert read_light_colours()["paper"] == "#ffffff"
    assert {"ink", "muted", "rule", "alarm", "local", "pooled", *(f"series-{n}" for n in range(1, 8))} <= set(
        read_light_colours()
    )


@pytest.mark.parametrize("synthetic", [True, False])
def test_an_svg_file_stands_alone(make_run, synthetic) -> None:
    plots = draw_plots(build_report(make_run(synthetic=synthetic)))
    assert {"forest", "curves"} <= set(plots)
    for plot in plots.values():
        root = ElementTree.fromstring(plot.file)
        assert "var(" not in plot.file
        assert float(root.attrib["width"].removesuffix("pt")) == 720
        texts = ["".join(item.itertext()) for item in root.iter(f"{SVG}text")]
        assert ("SYNTHETIC" in texts) is synthetic
        assert root.find(f"{SVG}title").text
        assert root.find(f"{SVG}rect").attrib["fill"] == "#ffffff"
        colours = set(re.findall(r"#[0-9a-f]{6}", plot.file))
        assert colours <= {*read_light_colours().values(), "#000000", "#ffffff"}


def test_a_png_has_the_pages_colours_and_no_placeholder(make_run) -> None:
    plots = draw_plots(build_report(make_run()))
    for name in ("forest", "curves"):
        plot = plots[name]
        result = (image.imread(io.BytesIO(plot.png))[..., :3] * 255).round().astype(int).reshape(-1, 3)
        observed, counts = np.unique(result, axis=0, return_counts=True)
        solid = {"#{:02x}{:02x}{:02x}".format(*colour) for colour in observed[counts > 20]}
        assert "#ffffff" in solid
        wanted = (
            ("federated", "local", "pooled", "ink") if name == "forest" else ("series-1", "series-2", "ink", "muted")
        )
        assert {read_light_colours()[colour] for colour in wanted} <= solid
        assert not {
            colour for colour in solid if colour.endswith("0a0a") or colour in ("#010101", "#050505", "#060606")
        }


def _rows(text: str) -> dict[str, list[str]]:
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row for row in reversed(rows)}


def test_the_summary_holds_the_pages_figures(make_run) -> None:
    report = build_report(make_run(synthetic=True))
    text = render_summary(report, draw_plots(report))
    assert text.startswith("# A run\n")
    assert "> **SYNTHETIC: " in text
    rows = _rows(text)
    for name, item in report.federated.sites.items():
        row = rows[f"{name} (worst)" if name == "south" else name]
        figure = item.macro_f1
        printed = f"{figure.value:.3f}{'†' if name == 'south' else ''} ({figure.low:.2f} to {figure.high:.2f})"
        assert (row[1], row[2]) == (str(item.patients), printed)
    assert rows["all hospitals"][2].startswith(f"{report.federated.pooled.macro_f1.value:.3f} (")
    assert {model.title for model in report.models} <= set(rows)
    assert "![macro-F1 of each hospital, with 95% intervals](plots/forest.png)" in text
    assert "(plots/curves.png)" in text


def test_every_table_of_the_markdown_files_is_whole(make_run) -> None:
    report = build_report(make_run(rename=("south", "so|uth")))
    for text in (render_summary(report, draw_plots(report)), render_model_card(report)):
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert len(tables) >= 2
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_names_are_text_in_markdown_too(make_run) -> None:
    evil = "<b>[x](y)|`z`\n# h"
    report = build_report(make_run(rename=("south", evil)))
    for text in (render_summary(report, {}), render_model_card(report)):
        assert "<b>" not in text.replace("\\<b\\>", "")
        assert "\n# h" not in text
        assert escape_markdown(evil) in text


def test_the_card_states_purpose_patients_quality_and_limits(make_run) -> None:
    report = build_report(make_run())
    text = render_model_card(report)
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads == [
        "Model details", "Intended use", "Out-of-scope use", "Factors", "Metrics", "Training and evaluation data",
        "Quantitative analyses", "Privacy", "Ethical considerations", "Caveats and recommendations", "How to load",
        "Citation and licence", "Not reported",
    ]  # fmt: skip
    for said in (
        "to predict normal, ventricular, fusion from one lead",
        "| south | 3 | 3 | 3 | 60 | 60 |",
        "| all | 14 | 14 | 14 | 280 | 280 |",
        "- south: 3 test patients; one patient more can change its results considerably.",
        "- west did not respond to every request: no answer within 9 s.",
        "Training was not differentially private",
        "the server receives each hospital's update",
        "Nobody 2026. Source: here. Licence: CC0.",
        f"the worst hospital is south, with {report.federated.worst.value:.3f}",
    ):
        assert said in text


def test_the_card_of_a_run_without_test_figures_is_readable(make_run) -> None:
    text = render_model_card(build_report(make_run(status="interrupted", rounds=0)))
    assert "Interrupted before the first round" in text
    assert "There are no test results" in text


def test_the_card_lists_groups_and_suppressed_results(make_run) -> None:
    report = build_report(make_run())
    federated = report.federated
    item, worse = federated.sites["north"], federated.sites["south"]
    gap = GroupGap(
        attribute="sex", site="(pooled)", metric="macro_f1", overall=federated.pooled.macro_f1, lowest="male",
        highest="female", difference=Figure(value=0.25, low=0.125, high=0.5), ratio=Figure(value=0.5),
        left_out=("other",), pairs=1,
    )  # fmt: skip
    grouped = federated.model_copy(
        update={
            "groups": {"sex": {"female": Subset(pooled=item), "male": Subset(pooled=worse)}},
            "gaps": (gap,),
            "suppressed": {"west": 5},
            "pooled": federated.pooled.model_copy(update={"suppressed": {"F": 5}}),
        }
    )
    counts = {"test": SplitCounts(patients=0, examples=0, classes={}, suppressed=5)}
    sites = (report.sites[0].model_copy(update={"counts": counts}), *report.sites[1:])
    text = render_model_card(report.model_copy(update={"models": (grouped, *report.models[1:]), "sites": sites}))
    rows = _rows(text)
    assert rows["female"][1:3] == [
        str(item.patients),
        f"{item.macro_f1.value:.3f} ({formatting.format_interval(item.macro_f1)})",
    ]
    assert rows["male"][1] == "3"
    said = "groups differs by 0.250 (95% interval 0.12 to 0.50) between male (lowest) and female (highest)."
    assert f"The macro-F1 of the {said}" in text
    assert "Too few patients to compare: other." in text
    assert "- west reports no results because it has fewer than 5 test patients." in text
    assert rows["fusion"][1:3] == ["suppressed", "fewer than 5"]
    assert "| north | n/a | n/a | fewer than 5 patients | n/a | fewer than 5 patients |" in text
