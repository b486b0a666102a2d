"""The report's page: its sections, notices and texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from experiments.report.build import build_report
from experiments.report.document.report import Report, to_json
from experiments.report.document.run import Notice, Run
from experiments.report.pages.html import TEMPLATES
from experiments.report.pages.sections import HOSPITAL_TEMPLATES, list_sections
from experiments.report.text.findings import explain_missing_test, list_losses
from experiments.report.text.formatting import flatten_settings
from tests.experiments.report.plain_page import render_plain

LEAK = {"level": "leak", "text": "LEAKY split: for comparison, nothing else."}


class Page(HTMLParser):
    """Collects what the page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        result = dict(attrs)
        self.tags.append((tag, result))
        if "id" in result:
            self.ids.append(result["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "a":
            self.links.append(result["href"])

    def handle_data(self, data) -> None:
        self.text += data


def test_every_hospital_has_a_row_a_link_and_a_section(make_run) -> None:
    page = Page(render_plain(build_report(make_run())))
    for position, site in enumerate(("north", "south", "west"), 1):
        assert f"#hospital-{position}" in page.links
        assert f"hospital-{position}" in page.ids
        assert site in page.text


def test_page_is_well_made(make_run) -> None:
    text = render_plain(build_report(make_run(notices=(LEAK,))))
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > 5
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 2
    assert all(set(str(item["aria-labelledby"]).split()) <= set(page.ids) for item in drawings)


def test_every_section_has_its_file_and_every_file_its_place() -> None:
    result = {f"sections/{path.name}" for path in (TEMPLATES / "sections").glob("*.j2")}
    assert result == {section.template for section in list_sections()} | {
        *HOSPITAL_TEMPLATES,
        "sections/hospital.html.j2",
    }
    assert len({section.id for section in list_sections()}) == len(list_sections())


def test_sections_stand_in_order_with_their_entry_in_the_contents(make_run) -> None:
    report = build_report(make_run())
    page = Page(render_plain(report))
    here = [section.id for section in list_sections() if section.applies(report)]
    assert [result for result in page.ids if result in here] == here
    contents = page.links[1 : page.links.index("#hospital-1")]
    assert [link[1:] for link in contents] == here
    assert "privacy" not in here
    assert "exclusions" in here


def test_page_needs_no_network(make_run) -> None:
    text = render_plain(build_report(make_run()))
    page = Page(text)
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert {attrs["href"][:6] for tag, attrs in page.tags if tag != "a" and "href" in attrs} == {"data:,"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_bare_report_of_a_run_that_failed_at_once_is_readable() -> None:
    page = render_plain(Report(run=Run(id="x", name="x", status="failed", error="no site came")))
    assert "Failed before the first round was completed" in page
    assert "no site came" in page


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_is_marked_everywhere_or_nowhere(make_run, synthetic) -> None:
    text = render_plain(build_report(make_run(synthetic=synthetic)))
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", text, re.DOTALL)
    assert all(("SYNTHETIC" in caption) is synthetic for _, caption in captions)
    assert ("SYNTHETIC DATA: no real patients" in text) is synthetic
    assert (text.count(">SYNTHETIC</text>") == 2) is synthetic
    assert ('@top-center { content: "SYNTHETIC"' in text) is synthetic
    assert ("SYNTHETIC" in text) is synthetic


@pytest.mark.parametrize("notices", [(LEAK,), ()])
def test_leak_is_marked_everywhere_or_nowhere(make_run, notices) -> None:
    text = render_plain(build_report(make_run(notices=notices)))
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", text, re.DOTALL)
    assert all(("LEAK" in caption) is bool(notices) for _, caption in captions)
    assert ("LEAK: patients are in both the training and the test set" in text) is bool(notices)
    assert ("never seen in training" in text) is not bool(notices)
    assert (LEAK["text"] in text) is bool(notices)


def test_names_and_titles_are_text_never_markup(make_run) -> None:
    evil = "<script>alert(1)</script>$x_1$\"'&"
    text = render_plain(build_report(make_run(title=evil, rename=("south", evil))))
    assert text.count("<script>") == 1
    assert "alert(1)</script>" not in text
    assert Page(text).text.count(evil) > 10


def test_interrupted_run_says_how_far_it_came(make_run) -> None:
    text = render_plain(build_report(make_run(status="interrupted", rounds=2, planned=8)))
    assert "Interrupted after round 2 of 8" in text
    assert "There are no test results: the run ended before the final evaluation." in text
    assert 'title="the run ended before the final evaluation"' in text
    assert "Validation metrics over the rounds" in text


def _row(text: str, name: str) -> str:
    rows = re.findall(r"<tr[^>]*><th scope=\"row\"><a href=\"#hospital-\d\">.*?</tr>", text, re.DOTALL)
    return next(row for row in rows if f">{name}<" in row)


def test_figures_on_few_patients_wear_a_dagger(make_run) -> None:
    text = render_plain(build_report(make_run()))
    assert _row(text, "south").count("†") == 4
    assert _row(text, "north").count("†") == 0
    assert "† based on fewer than 5 patients" in text


def test_worst_hospital_is_marked_once(make_run) -> None:
    text = render_plain(build_report(make_run()))
    assert text.count('class="is-worst"') == 1
    assert "is-worst" in _row(text, "south")
    assert "the worst hospital is south, with " in text


def test_missing_figures_say_why(make_run) -> None:
    text = render_plain(build_report(make_run()))
    assert '<span class="missing" title="no examples of this class among these patients">n/a' in text


def test_hospital_lost_in_the_final_evaluation_says_so(make_run) -> None:
    folder = make_run()
    raw = json.loads((folder / "federated.json").read_text())
    raw["lost"] = {"west": "final evaluation: went offline"}
    for table in raw["test"].values():
        del table["west"]
    (folder / "federated.json").write_text(json.dumps(raw))
    report = build_report(folder)
    assert _row(render_plain(report), "west").count('title="final evaluation: went offline"') == 4
    assert list_losses(report) == [
        ("west", "final evaluation", "went offline"),
        ("west", "round 2", "no answer within 9 s"),
    ]


def test_a_missing_response_within_a_round_is_listed_once(make_run) -> None:
    assert list_losses(build_report(make_run())) == [("west", "round 2", "no answer within 9 s")]


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("no answer within 9 s", "the run ended before the final evaluation"),
        ("final evaluation: went offline", "final evaluation: went offline"),
    ],
)
def test_an_unfinished_run_blames_a_hospital_only_for_its_own_absence(make_run, lost, said) -> None:
    report = build_report(make_run(status="interrupted"))
    assert explain_missing_test(report, report.sites[2].model_copy(update={"lost": lost})) == said


def test_models_are_compared(make_run) -> None:
    report = build_report(make_run())
    text = render_plain(report)
    values = [model.pooled.macro_f1.value for model in report.locals]
    assert "Mean of the 3 local models" in text
    assert f"alone reaches {sum(values) / 3:.3f} on average" in text
    assert "With and without selected patients" in text


def test_run_without_baselines_says_so(make_run) -> None:
    assert "No other model was trained for comparison." in render_plain(build_report(make_run(baselines=False)))


def test_long_runs_leave_numbers_to_the_file(make_run) -> None:
    assert "The numbers of all 101 rounds are in report.json." in render_plain(
        build_report(make_run(rounds=101, planned=101))
    )


@pytest.mark.slow
def test_many_hospitals_stay_below_5_mb(twenty) -> None:
    report = build_report(twenty)
    assert (len(report.sites), len(report.models)) == (20, 22)
    assert len(render_plain(report).encode()) < 5_000_000


def test_settings_are_flat() -> None:
    assert flatten_settings({"a": {"b": [1, 2], "c": {}}, "d": None}) == [
        ("a.b", "1, 2"),
        ("a.c", "none"),
        ("d", "none"),
    ]


def test_page_is_the_same_each_time(make_run) -> None:
    report = build_report(make_run())
    assert render_plain(report) == render_plain(Report.model_validate_json(to_json(report)))


def test_warning_is_shown_without_a_tag(make_run) -> None:
    report = build_report(make_run())
    text = render_plain(report.model_copy(update={"notices": (Notice(level="warning", text="Few resamples."),)}))
    assert "WARNING: Few resamples." in text
    assert '<div class="bar"' not in text


def test_folded_parts_of_the_summary_part_are_not_printed(make_run) -> None:
    text = render_plain(build_report(make_run()))
    summary, appendix = text.split("Appendix: what the summary rests on")
    folded = re.findall(r"<details([^>]*)>", summary[summary.index("<main") :])
    assert all("screen" in attributes for attributes in folded)
    assert "<details>" in appendix
    order = [section.appendix for section in list_sections()]
    assert order == sorted(order)


def test_regions_are_called_regions_in_headings_and_the_summary(make_run) -> None:
    report = build_report(make_run())
    page = render_plain(report.model_copy(update={"data": report.data.model_copy(update={"site_kind": "region"})}))
    for part in (
        '-title">Regions</h2>', '-title">Every model at every region</h2>', ">Region<", "All regions</th>",
        "Models on the test patients of all regions together", "Worst region</th>",
    ):  # fmt: skip
        assert part in page, part
